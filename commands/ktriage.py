"""ktriage: the whole story of a panic, from the fault to the socket, on one screen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gdb_kdump import walks
from gdb_kdump.commands.arguments import Arguments
from gdb_kdump.commands.base import Command
from gdb_kdump.commands.kbt import NOTHING_CRASHED
from gdb_kdump.commands.kps import display_name
from gdb_kdump.commands.show.findings import finding_json, findings_text, note_findings
from gdb_kdump.commands.show.hexdump import buffer_text
from gdb_kdump.commands.show.tables import pairs
from gdb_kdump.diagnosis.causes.answer import CERTAIN, Cause
from gdb_kdump.diagnosis.triage import Triage, triage
from gdb_kdump.diagnosis.trip import Culprit
from gdb_kdump.errors import UsageError
from gdb_kdump.rules.findings import CORRUPT, verdict
from gdb_kdump.session import Session
from gdb_kdump.text import escape, hex16
from gdb_kdump.walks import Gaps


class Ktriage(Command[Triage]):
    name = "ktriage"
    summary = """Tell the story of the panic: the fault, the sk_buff in its frames, who overwrote it, its socket.
Every address was found in the panic task's arguments, locals and registers and verified against the allocator.
Where no sk_buff is involved, or nothing crashed, it says so, and judges all of the system."""

    gap_words = "not judged"

    def read(self, session: Session, arguments: Arguments, gaps: Gaps) -> Triage:
        if arguments.operands:
            raise UsageError("ktriage takes no operands: it starts from the panic")
        return triage(session, gaps)

    def note(self, result: Triage) -> None:
        note_findings(result.findings)

    def text(self, result: Triage) -> Iterator[str]:
        yield from pairs([*_case(result), ("VERDICT", verdict(result.findings))])
        if result.findings:
            yield ""
            yield from findings_text(result.findings)
        if result.suspects and result.suspects[0].is_corrupt:
            yield ""
            yield from buffer_text(result.suspects[0].skb, result.attribution)
        for queue in result.queues:
            if queue.nodes:
                yield ""
                yield f"{queue.name} queue @ {hex16(queue.head)}: qlen {queue.qlen}, walked {len(queue.nodes)}"
                yield (
                    "  " + " ".join(hex16(node) for node in queue.nodes[:8]) + (" ..." if len(queue.nodes) > 8 else "")
                )
        yield ""
        yield from summary(result)

    def closing(self, result: Triage) -> Iterator[str]:
        yield ""
        yield "by hand:"
        yield from (f"  {command}" for command in commands(result))

    def json(self, result: Triage) -> Any:
        fault = result.fault
        return {
            "crashed": result.crashed,
            "panic": _panic_json(result),
            "frame": {
                "function": fault.source.function,
                "offset": fault.source.offset,
                "pc": hex16(fault.pc),
                "sp": hex16(fault.sp),
                "file": fault.source.file,
                "line": fault.source.line,
            }
            if fault
            else None,
            "skb": hex16(result.suspects[0].skb.addr) if result.suspects else None,
            "skbs": [
                {"skb": hex16(s.skb.addr), "from": f"{s.pointer.name} of {s.pointer.function}", "corrupt": s.is_corrupt}
                for s in result.suspects
            ],
            "sock": hex16(result.sock.addr) if result.sock else None,
            "queues": [
                {"queue": q.name, "head": hex16(q.head), "qlen": q.qlen, "skbs": [hex16(node) for node in q.nodes]}
                for q in result.queues
            ],
            "overrun": _overrun_json(result),
            "kernel_says": list(result.trip.says) if result.trip is not None else [],
            "cause": _cause_json(result.cause),
            "culprit": _culprit_json(result.cause),
            "findings": [finding_json(finding) for finding in walks.shown(result.findings)],
            "verdict": verdict(result.findings),
            "summary": " ".join(summary(result)),
            "commands": list(commands(result)),
        }


def _case(result: Triage) -> list[tuple[str, str]]:
    if not result.crashed:
        return [("PANIC", "none")]
    task = result.trace.task
    return [
        ("PANIC", result.message or "the kernel's message buffer does not say"),
        ("TASK", f"{display_name(task)} (PID {task.pid}, CPU {task.cpu}, {hex16(task.addr)})"),
        ("FAULT", _fault(result)),
        ("SKB", _skb(result)),
        ("SOCK", _sock(result)),
    ]


def _panic_json(result: Triage) -> dict[str, Any]:
    if not result.crashed:
        return {"message": result.message, "pid": None, "comm": None, "cpu": None, "task": None}
    task = result.trace.task
    return {
        "message": result.message,
        "pid": task.pid,
        "comm": task.comm.decode("utf-8", "backslashreplace"),
        "cpu": task.cpu,
        "task": hex16(task.addr),
    }


def _cause_json(cause: Cause | None) -> dict[str, Any] | None:
    if cause is None:
        return None
    return {
        "kind": cause.kind,
        "object": None if cause.object is None else hex16(cause.object),
        "member": cause.member,
        "message": cause.message,
        "certainty": cause.certainty,
        "evidence": [{"text": fact.text, "command": fact.command} for fact in cause.evidence],
    }


def _culprit_json(cause: Cause | None) -> dict[str, Any] | None:
    if cause is None or cause.culprit is None:
        return None
    who = cause.culprit
    return {"function": who.function, "module": who.module, "level": who.level, "why": who.why}


def _overrun_json(result: Triage) -> dict[str, Any] | None:
    found = result.attribution
    if found is None:
        return None
    return {
        "kind": found.kind,
        "first": hex16(found.first),
        "length": found.length,
        "period": found.period,
        "source": found.source,
        "certainty": found.certainty,
    }


def _fault(result: Triage) -> str:
    fault = result.fault
    if fault is None:
        return "the trace has no frame of it"
    offset = f"+{fault.source.offset:#x}" if fault.source.offset is not None else ""
    where = f" at {fault.source.file}:{fault.source.line}" if fault.source.file else ""
    return f"{fault.source.function}{offset}{where}"


def _skb(result: Triage) -> str:
    if not result.suspects:
        return "none in the frames of the panic task"
    first = result.suspects[0]
    return f"{hex16(first.skb.addr)} ({first.pointer.name} of {first.pointer.function})"


def _sock(result: Triage) -> str:
    if result.sock is None:
        return "none found"
    sock = result.sock
    return f"{hex16(sock.addr)} ({result.sock_from}; family {sock.family}, type {sock.type}, protocol {sock.protocol})"


def summary(result: Triage) -> Iterator[str]:
    """The case in two sentences that can be pasted into a ticket."""
    if not result.crashed:
        logged = f" Its log has: {escape(result.message)}" if result.message else ""
        yield f"{NOTHING_CRASHED.capitalize()}.{logged}{_everything(result)}"
        return
    task, fault = result.trace.task, result.fault
    function = fault.source.function if fault else "an unknown function"
    message = escape(result.message or "A panic")
    yield f"{message}: task {escape(display_name(task))} (PID {task.pid}) on CPU {task.cpu} fell in {function}."
    corrupt = [finding for finding in result.findings if finding.severity == CORRUPT]
    if result.cause is not None and result.cause.kind != "unrelated":
        yield _cause_sentence(result.cause)
    elif not result.suspects:
        who = _who(result.cause.culprit) if result.cause is not None else ""
        yield f"The panic is not about an sk_buff, as far as its frames tell.{who}" + _everything(result)
    elif result.attribution is not None:
        found, first = result.attribution, result.suspects[0]
        yield (
            f"The shared info of sk_buff {hex16(first.skb.addr)} is corrupt: {found.source}, "
            f"{found.length} bytes from {hex16(found.first)} on ({found.certainty})."
        )
    elif corrupt and result.everything is None:
        yield f"{corrupt[0].rule} of {hex16(corrupt[0].object)} is corrupt: {corrupt[0].message}."
    else:
        yield f"The sk_buff in its frames, {hex16(result.suspects[0].skb.addr)}, is sound." + _everything(result)


def _cause_sentence(cause: Cause) -> str:
    """The cause, how sure that is where it is not certain, and who did it."""
    sure = "" if cause.certainty == CERTAIN else f" ({cause.certainty})"
    who = cause.culprit if cause.culprit is not None and cause.culprit.function not in cause.message else None
    by = _who(who)
    first = cause.message.split()[0]
    message = cause.message[0].upper() + cause.message[1:] if first.isalpha() else cause.message
    return f"{message}{sure}.{by}"


def _who(culprit: Culprit | None) -> str:
    if culprit is None:
        return ""
    return f" The first module function on the way there is {culprit.function} [{culprit.module}]: {culprit.why}."


def _everything(result: Triage) -> str:
    """What `skbcheck --all` found, in a sentence."""
    checked = result.everything
    if checked is None:
        return ""
    corrupt = sum(finding.severity == CORRUPT for finding in checked.findings)
    found = f"{corrupt} of its findings are corrupt" if corrupt else f"{len(checked.findings)} findings, none corrupt"
    return f" Of all sk_buffs, skbcheck --all judged {checked.skbs}: {found if checked.findings else 'all sound'}."


def commands(result: Triage) -> Iterator[str]:
    """The commands that show each fact by hand."""
    yield "kbt"
    if result.fault is not None and result.fault.source.function:
        yield f"frame function {result.fault.source.function}"
    for suspect in result.suspects[:1]:
        yield f"kstruct sk_buff {hex16(suspect.skb.addr)}"
        yield f"shinfo {hex16(suspect.skb.addr)}"
        yield f"x/16xg {hex16(suspect.skb.members.head)}"
        yield f"skbcheck {hex16(suspect.skb.addr)}"
    if result.sock is not None:
        yield f"kstruct sock {hex16(result.sock.addr)}"
        yield f"skbwalk {hex16(result.sock.addr)}"
        yield f"skbcheck --sock {hex16(result.sock.addr)}"

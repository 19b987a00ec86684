"""ktriage: the whole story of a panic, from the fault to the socket, on one screen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from gdb_kdump import walks
from gdb_kdump.commands.arguments import Arguments, Option
from gdb_kdump.commands.base import Command
from gdb_kdump.commands.kbt import NOTHING_CRASHED
from gdb_kdump.commands.kps import display_name
from gdb_kdump.commands.show import terminal
from gdb_kdump.commands.show.findings import finding_json, findings_text, note_findings
from gdb_kdump.commands.show.hexdump import around_end, buffer_text
from gdb_kdump.commands.show.styles import Line
from gdb_kdump.commands.show.wrapping import rows, wrapped
from gdb_kdump.diagnosis.causes.answer import CERTAIN, Cause
from gdb_kdump.diagnosis.frame_objects import Unread
from gdb_kdump.diagnosis.passed_hooks import PassedHook
from gdb_kdump.diagnosis.triage import Triage, triage
from gdb_kdump.diagnosis.trip import Culprit
from gdb_kdump.errors import UsageError
from gdb_kdump.rules.findings import CORRUPT
from gdb_kdump.session import Session
from gdb_kdump.target.frame_levels import ways_to_frame
from gdb_kdump.text import escape, hex16, is_kernel_address
from gdb_kdump.walks import Gaps

_WIDTH = len("EVIDENCE")
_NEXT, _MOST_ROWS, _MOST_FINDINGS, _MOST_LINES = 3, 5, 4, 99  # commands, lines of the buffer, rows, the kernel's lines


class Story(NamedTuple):
    """The case, GDB's commands that select the frame at the fault, and whether all of it is to be shown."""

    case: Triage
    ways: tuple[str, ...]
    is_whole: bool


class Ktriage(Command[Story]):
    name = "ktriage"
    summary = """Tell the story of the panic: the fault, the sk_buff in its frames, who overwrote it, its socket.
Every address was found in the panic task's arguments, locals and registers and verified against the allocator.
Where no sk_buff is involved, or nothing crashed, it says so, and judges all of the system."""

    options = (Option("-v", "show everything: all findings and evidence, the buffer, the queues, the commands"),)
    gap_words = "not judged"

    def read(self, session: Session, arguments: Arguments, gaps: Gaps) -> Story:
        if arguments.operands:
            raise UsageError("ktriage takes no operands: it starts from the panic")
        result = triage(session, gaps)
        fault = result.fault
        ways = tuple(ways_to_frame(result.trace.task, fault.pc)) if fault is not None else ()
        return Story(result, ways, arguments.has("-v"))

    def note(self, story: Story) -> None:
        note_findings(story.case.findings, story.case.verdict)

    def text(self, story: Story) -> Iterator[Line]:
        return _everything_of(story) if story.is_whole else _screen(story)

    def closing(self, story: Story) -> Iterator[Line]:
        listed = list(commands(story)) if story.is_whole else next_commands(story)
        return rows([("NEXT" if n == 0 else "", command) for n, command in enumerate(listed)], _WIDTH)

    def json(self, story: Story) -> Any:
        result = story.case
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
            "skb": _skb_json(result),
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
            "hooks": [_hook_json(row) for row in result.hooks],
            "unread": [{"address": hex16(u.addr), "role": u.role, "why": u.why.name} for u in result.unread],
            "verdict": result.verdict,
            "summary": " ".join(summary(result)),
            "commands": list(commands(story)),
        }


def _screen(story: Story) -> Iterator[Line]:
    """The first screen: two sentences, and what they rest on."""
    result = story.case
    yield from _sentences(result)
    yield from rows(_findings_of(result), _WIDTH, most=2)
    cause = result.cause
    evidence = list(cause.evidence) if cause is not None else []
    yield from rows([("EVIDENCE" if n == 0 else "", fact.text) for n, fact in enumerate(evidence[:2])], _WIDTH, most=2)
    if cause is not None and cause.kind.startswith("overrun") and result.suspects and result.attribution is not None:
        yield from around_end(result.suspects[0].skb, result.attribution, _MOST_ROWS)
    elif not evidence and result.findings:
        yield ""
        yield from findings_text(result.findings, _MOST_FINDINGS)


def _everything_of(story: Story) -> Iterator[Line]:
    """The same with all there is."""
    result = story.case
    yield from _sentences(result)
    yield ""
    yield from rows([*_findings_of(result, _MOST_LINES), *_facts_of(result)], _WIDTH)
    if result.cause is not None and result.cause.evidence:
        yield ""
        for fact in result.cause.evidence:
            yield from rows([("EVIDENCE", fact.text), ("", fact.command)], _WIDTH)
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
            yield "  " + " ".join(hex16(node) for node in queue.nodes[:8]) + (" ..." if len(queue.nodes) > 8 else "")
    yield ""


def _sentences(result: Triage) -> Iterator[str]:
    """The summary: on a terminal as one paragraph, on a pipe a line for each sentence."""
    sentences = list(summary(result))
    yield from wrapped(" ".join(sentences)) if terminal.columns() else sentences


def _findings_of(result: Triage, lines: int = 2) -> Iterator[tuple[str, str]]:
    """What the diagnosis came to, row by row; of the kernel's own words no more than so many lines."""
    if not result.crashed:
        yield "VERDICT", result.verdict
        return
    cause = result.cause
    yield "CAUSE", f"{cause.kind} ({cause.certainty})" if cause is not None else "no rule here knows it"
    who = cause.culprit if cause is not None else None
    if who is not None:
        at = f", frame {who.level} of kbt" if who.level is not None else ""
        yield "CULPRIT", f"{who.function} [{who.module}]{at}: {who.why}"
    else:
        yield "CULPRIT", "none is seen in the frames"
    says = result.trip.says if result.trip is not None else ()
    for n, line in enumerate(says[:lines]):
        yield ("KERNEL" if n == 0 else ""), line
    yield "FAULT", _fault(result)
    yield "OBJECT", _object(result)
    for n, unread in enumerate(result.unread[:lines]):
        yield ("UNREAD" if n == 0 else ""), f"{hex16(unread.addr)} ({unread.role}): {unread.why.sentence}"


def _object(result: Triage) -> str:
    """What the cause is about: an sk_buff of the frames, or another object by its address."""
    cause = result.cause
    if cause is None or cause.object is None or (result.suspects and result.suspects[0].skb.addr == cause.object):
        return f"sk_buff {_skb(result)}" if result.suspects or result.missing is not None else _skb(result)
    return f"{hex16(cause.object)}{f', {cause.member}' if cause.member else ''}"


def _facts_of(result: Triage) -> Iterator[tuple[str, str]]:
    """What else is known of the panic."""
    if not result.crashed:
        return
    task = result.trace.task
    yield "PANIC", result.message or "the kernel's message buffer does not say"
    yield "TASK", f"{display_name(task)} (PID {task.pid}, CPU {task.cpu}, {hex16(task.addr)})"
    yield "SKB", _skb(result)
    yield "SOCK", _sock(result)
    for n, row in enumerate(result.hooks):
        code = row.hook.code
        module = f" [{code.module}]" if code.module else ""
        taint = f" ({code.taint})" if code.taint else ""
        passed = "the packet passed" if row.passed else "the packet may have passed"
        yield ("HOOKS" if n == 0 else ""), f"{code.symbol or hex16(code.addr)}{module}{taint}, {row.place}: {passed} it"
    yield "VERDICT", result.verdict


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


def _skb_json(result: Triage) -> str | None:
    """The sk_buff that the panic is about, be it in the dump or not."""
    if result.missing is not None:
        return hex16(result.missing.addr)
    return hex16(result.suspects[0].skb.addr) if result.suspects else None


def _hook_json(row: PassedHook) -> dict[str, Any]:
    code = row.hook.code
    return {
        "hook": row.place,
        "function": code.symbol or hex16(code.addr),
        "module": code.module,
        "taint": code.taint,
        "passed": row.passed,
    }


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
    module = f" [{fault.source.module}]" if fault.source.module else ""
    where = f" at {fault.source.file}:{fault.source.line}" if fault.source.file else ""
    return f"{fault.source.place}{module}{where}"


def _skb(result: Triage) -> str:
    if result.missing is not None:
        return f"{hex16(result.missing.addr)} ({result.missing.role}): {result.missing.why.sentence}"
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
    who = f"task {escape(display_name(task))} (PID {task.pid}) on CPU {task.cpu}"
    # A watchdog is innocent, and mostly so is the task that it has interrupted.
    is_watched = result.cause is not None and result.cause.kind in ("lockup", "hung-task")
    yield f"{_objection(result)}: " + (f"found in {function}, {who}." if is_watched else f"{who} fell in {function}.")
    corrupt = [finding for finding in result.findings if finding.severity == CORRUPT]
    if result.cause is not None and result.cause.kind != "unrelated":
        yield _cause_sentence(result.cause)
        yield from _missing(result.missing)
    elif result.missing is not None:
        yield from _missing(result.missing)
    elif not result.suspects and result.cause is None and result.unread:
        unread = [f"{hex16(unread.addr)} ({unread.role}): {unread.why.sentence}" for unread in result.unread]
        yield f"Whether the panic is about an sk_buff cannot be told: {'; '.join(unread)}."
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
        skb = hex16(result.suspects[0].skb.addr)
        yield f"No rule here explains it, or finds fault with sk_buff {skb} in its frames." + _everything(result)


def _objection(result: Triage) -> str:
    """What the kernel said; where a setting made a panic of a warning, what it had warned of."""
    message, trip = result.message or "A panic", result.trip
    if trip is not None and trip.place and "panic_on_warn" in message:
        first = trip.says[0]
        message = f"WARNING at {trip.place}" + ("" if first.startswith("WARNING: ") else f": {first.rstrip('.')}")
    return escape(message)


def _missing(unread: Unread | None) -> Iterator[str]:
    """That the sk_buff of the case is not in the dump."""
    if unread is not None:
        why = f"{unread.why.sentence} ({unread.why.name})"
        yield f"{unread.role[:1].upper()}{unread.role[1:]}, {hex16(unread.addr)}, cannot be judged: {why}."


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
    found = culprit.found or "The first module function on the way there"
    return f" {found} is {culprit.function} [{culprit.module}]: {culprit.why}."


def _everything(result: Triage) -> str:
    """What `skbcheck --all` found, in a sentence."""
    checked = result.everything
    if checked is None:
        return ""
    corrupt = sum(finding.severity == CORRUPT for finding in checked.findings)
    found = f"{corrupt} of its findings are corrupt" if corrupt else f"{len(checked.findings)} findings, none corrupt"
    holes = f", {len(checked.holes)} more are not in the dump" if checked.holes else ""
    judged = checked.skbs - len(checked.holes)
    return f" Of all sk_buffs, skbcheck --all judged {judged}: {found if checked.findings else 'all sound'}{holes}."


def next_commands(story: Story) -> list[str]:
    """The commands to type now: the frame at the fault, and what shows the evidence."""
    cause = story.case.cause
    evidence = [fact.command for fact in cause.evidence] if cause is not None else []
    return list(dict.fromkeys([*story.ways, *filter(None, evidence), *commands(story)]))[:_NEXT]


def commands(story: Story) -> Iterator[str]:
    """The commands that show each fact by hand."""
    result = story.case
    yield "kbt"
    yield from story.ways
    if result.missing is not None:
        yield f"kwhat {hex16(result.missing.addr)}"
    for suspect in result.suspects[:1] if result.missing is None else ():
        yield f"kstruct sk_buff {hex16(suspect.skb.addr)}"
        if is_kernel_address(suspect.skb.members.head):
            yield f"shinfo {hex16(suspect.skb.addr)}"
            yield f"x/16xg {hex16(suspect.skb.members.head)}"
        yield f"skbcheck {hex16(suspect.skb.addr)}"
    if result.sock is not None:
        yield f"kstruct sock {hex16(result.sock.addr)}"
        yield f"skbwalk {hex16(result.sock.addr)}"
        yield f"skbcheck --sock {hex16(result.sock.addr)}"

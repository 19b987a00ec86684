"""shinfo: the shared info behind an sk_buff's buffer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gdb_kdump.commands.arguments import Arguments, address
from gdb_kdump.commands.base import Command
from gdb_kdump.commands.show.findings import finding_json, findings_text, note_findings
from gdb_kdump.commands.show.objects import object_text
from gdb_kdump.commands.show.styles import Line
from gdb_kdump.debuginfo.objects import Object, read_object, to_json
from gdb_kdump.errors import Unreadable, UsageError
from gdb_kdump.kernel.net.skbuff import Skbs
from gdb_kdump.records.skb import Skb
from gdb_kdump.rules import judge_shinfo
from gdb_kdump.rules.findings import Finding
from gdb_kdump.session import Session
from gdb_kdump.text import hex16
from gdb_kdump.walks import Gaps


@dataclass(frozen=True)
class SharedInfoOf:
    """An sk_buff, its shared info as an object, and what is wrong with that."""

    skb: Skb
    object: Object
    end_is_offset: bool
    findings: tuple[Finding, ...]


class Shinfo(Command[SharedInfoOf]):
    name = "shinfo"
    operands = "SKB"
    summary = """Show the shared info of the sk_buff at SKB: where it stands, every member, and what is wrong with it.
SKB is a GDB expression (`skb`, `$r12`), or hex digits without 0x."""

    gap_words = "not judged"

    def read(self, session: Session, arguments: Arguments, gaps: Gaps) -> SharedInfoOf:
        if not arguments.operands:
            raise UsageError("name an sk_buff: shinfo SKB")
        skbs = session.once(Skbs)
        skb = skbs.read(address(" ".join(arguments.operands)))
        if isinstance(skb.shinfo, Unreadable):
            raise skb.shinfo
        thing = read_object(session.memory, session.layout.struct("skb_shared_info"), skb.end)
        gaps.note(*skbs.gaps)
        return SharedInfoOf(skb, thing, skbs.end_is_offset, tuple(judge_shinfo(skb)))

    def note(self, result: SharedInfoOf) -> None:
        note_findings(result.findings)

    def text(self, result: SharedInfoOf) -> Iterator[Line]:
        skb = result.skb
        if result.end_is_offset:
            how = f"head {hex16(skb.members.head)} + end {skb.end - skb.members.head} = {hex16(skb.end)}"
        else:
            how = f"end {hex16(skb.end)} (a pointer)"
        yield f"sk_buff {hex16(skb.addr)}: {how}"
        yield from object_text(result.object, {})
        yield from findings_text(result.findings)

    def json(self, result: SharedInfoOf) -> Any:
        return {
            "skb": hex16(result.skb.addr),
            "head": hex16(result.skb.members.head),
            "data": hex16(result.skb.members.data),
            "tail": hex16(result.skb.tail),
            "end": hex16(result.skb.end),
            "shinfo": hex16(result.object.addr),
            "size": result.object.type.sizeof,
            "fields": to_json(result.object),
            "findings": [finding_json(finding) for finding in result.findings],
        }

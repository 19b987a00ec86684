"""Packets of queues as a pcapng file, for Wireshark and tshark."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedWriter
from pathlib import Path
from typing import Any

from gdb_kdump.commands.export.files import named, new_file
from gdb_kdump.diagnosis.checks import Checks
from gdb_kdump.errors import Unreadable
from gdb_kdump.formats import pcapng
from gdb_kdump.kernel.net.packet import ETHERNET, IP, PAYLOAD, SkbData
from gdb_kdump.records.queue import Queue
from gdb_kdump.session import Session
from gdb_kdump.text import escape, hex16
from gdb_kdump.walks import walk

_LINKTYPES = {ETHERNET: pcapng.LINKTYPE_ETHERNET, IP: pcapng.LINKTYPE_RAW, PAYLOAD: pcapng.LINKTYPE_USER0}


@dataclass(frozen=True)
class Written:
    """What went into a capture file: packets in all, those flagged as bad, those of which bytes are missing; and why
    there are not more, or "".
    """

    file: Path
    packets: int
    bad: int
    incomplete: int
    stopped: str

    def text(self) -> Iterator[str]:
        """The lines for people."""
        yield f"wrote {self.packets} packets to {escape(str(self.file))}: {self.bad} bad, {self.incomplete} incomplete"
        if self.stopped:
            yield f"the capture is not whole: {self.stopped}"

    def json(self) -> dict[str, Any]:
        """The JSON object."""
        return {
            "file": str(self.file), "packets": self.packets, "bad": self.bad, "incomplete": self.incomplete,
            **({"stopped": self.stopped} if self.stopped else {}),
        }  # fmt: skip


def write_pcap(session: Session, name: str, queues: list[Queue]) -> Written:
    """Write the packets of some queues to a new file that only its owner can read; raises UsageError.

    After Ctrl-C it holds whole packets.
    """
    file = named(name)
    with new_file(file) as stream:
        capture = _Capture(session, stream)
        packets = ((queue, number, skb) for queue in queues for number, skb in enumerate(queue.skbs))
        with walk("the packets", where=lambda packet: packet[2]) as steps:
            for packet in steps(packets):
                capture.add(packet)
        counts = capture.end(steps.ended)
    return Written(file, *counts, steps.ended)


class _Capture:
    """A pcapng file that grows by one packet at a time."""

    def __init__(self, session: Session, stream: BufferedWriter) -> None:
        self._stream = stream
        self._data, self._checks = session.once(SkbData), Checks(session)
        self._kinds = list(_LINKTYPES)
        stream.write(pcapng.section_header("gdb-kdump", f"sk_buffs of {session.vmcore.name}"))
        for kind, linktype in _LINKTYPES.items():
            stream.write(pcapng.interface(linktype, kind))
        # Packets, those that are bad and incomplete, and where the last one ends: in one tuple, lest Ctrl-C part them.
        self._written = 0, 0, 0, stream.tell()

    def add(self, place: tuple[Queue, int, int]) -> None:
        """Write the packet of an sk_buff, which stands in a queue, with what is wrong with it."""
        queue, number, skb = place
        findings = self._checks.skb(skb, queue.held).findings
        lines = [f"sk_buff {hex16(skb)}, {number} in the {queue.name} queue of sock {hex16(queue.sock)}"]
        try:
            packet = self._data.read(skb)
        except Unreadable as error:
            packet = None
            lines.append(f"INCOMPLETE: {error}")
        if packet is not None:
            lines += [f"INCOMPLETE: {gap}" for gap in packet.gaps]
            lines += [] if packet.time_ns else ["no time stamp"]
        lines += [f"{finding.severity.upper()}: {finding.rule}: {finding.message}" for finding in findings]
        comment = escape_lines(lines)
        if packet is None:
            block = pcapng.packet(self._kinds.index(PAYLOAD), 0, b"", 0, comment)
        else:
            kind = self._kinds.index(packet.kind)
            block = pcapng.packet(kind, packet.time_ns, packet.data, packet.length, comment)
        packets, bad, incomplete, _ = self._written
        incomplete += packet is None or bool(packet.gaps)
        self._stream.write(block)
        self._written = packets + 1, bad + bool(findings), incomplete, self._stream.tell()

    def end(self, stopped: str) -> tuple[int, int, int]:
        """Packets, those that are bad, and those that are incomplete; a file that was `stopped` says so itself."""
        *counts, end = self._written
        if stopped:
            self._stream.truncate(end)
            self._stream.seek(end)
            self._stream.write(pcapng.section_header("gdb-kdump", f"INCOMPLETE: {stopped}"))
        return counts[0], counts[1], counts[2]


def escape_lines(lines: list[str]) -> str:
    """A comment of several lines, with nothing in it that a terminal would obey."""
    return "\n".join(escape(line) for line in lines)

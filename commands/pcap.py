"""Packets of queues as a pcapng file, for Wireshark and tshark."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gdb_kdump import pcapng
from gdb_kdump.errors import Unreadable, UsageError
from gdb_kdump.kernel.checks import Checks
from gdb_kdump.kernel.skbdata import ETHERNET, IP, PAYLOAD, SkbData
from gdb_kdump.rules.records import Queue
from gdb_kdump.session import Session
from gdb_kdump.text import escape, hex16

_LINKTYPES = {ETHERNET: pcapng.LINKTYPE_ETHERNET, IP: pcapng.LINKTYPE_RAW, PAYLOAD: pcapng.LINKTYPE_USER0}


@dataclass(frozen=True)
class Written:
    """What went into a capture file: packets in all, those flagged as bad, and those of which bytes are missing."""

    file: Path
    packets: int
    bad: int
    incomplete: int

    def text(self) -> Iterator[str]:
        """The lines for people."""
        yield f"wrote {self.packets} packets to {escape(str(self.file))}: {self.bad} bad, {self.incomplete} incomplete"

    def json(self) -> dict[str, Any]:
        """The JSON object."""
        return {
            "file": str(self.file), "packets": self.packets, "bad": self.bad, "incomplete": self.incomplete,
        }  # fmt: skip


def write_pcap(session: Session, name: str, queues: list[Queue]) -> Written:
    """Write the packets of some queues to a new file that only its owner can read; raises UsageError.

    Nothing is overwritten; where writing fails, no file stays behind.
    """
    file = Path(name.strip("\"'")).expanduser().absolute()
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UsageError(f"{file} exists, and is not overwritten: name a new file") from None
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}") from None
    counts = {"packets": 0, "bad": 0, "incomplete": 0}
    try:
        with os.fdopen(descriptor, "wb") as stream:
            for block in _blocks(session, queues, counts):
                stream.write(block)
    except OSError as error:
        file.unlink(missing_ok=True)
        raise UsageError(f"cannot write {file}: {error.strerror}") from None
    except BaseException:  # Ctrl-C too: half a capture would pass for a whole one
        file.unlink(missing_ok=True)
        raise
    return Written(file, **counts)


def _blocks(session: Session, queues: list[Queue], counts: dict[str, int]) -> Iterator[bytes]:
    yield pcapng.section_header("gdb-kdump", f"sk_buffs of {session.vmcore.name}")
    for kind, linktype in _LINKTYPES.items():
        yield pcapng.interface(linktype, kind)
    kinds = list(_LINKTYPES)
    data, checks = session.once(SkbData), session.once(Checks)
    for queue in queues:
        for number, skb in enumerate(queue.skbs):
            findings, _ = checks.skb(skb)
            lines = [f"sk_buff {hex16(skb)}, {number} in the {queue.name} queue of sock {hex16(queue.sock)}"]
            try:
                packet = data.read(skb)
            except Unreadable as error:
                packet = None
                lines.append(f"INCOMPLETE: {error}")
            if packet is not None:
                lines += [f"INCOMPLETE: {problem}" for problem in packet.problems]
                lines += [] if packet.time_ns else ["no time stamp"]
            lines += [f"{finding.severity.upper()}: {finding.rule}: {finding.message}" for finding in findings]
            counts["packets"] += 1
            counts["bad"] += bool(findings)
            counts["incomplete"] += packet is None or bool(packet.problems)
            comment = escape_lines(lines)
            if packet is None:
                yield pcapng.packet(kinds.index(PAYLOAD), 0, b"", 0, comment)
            else:
                yield pcapng.packet(kinds.index(packet.kind), packet.time_ns, packet.data, packet.length, comment)


def escape_lines(lines: list[str]) -> str:
    """A comment of several lines, with nothing in it that a terminal would obey."""
    return "\n".join(escape(line) for line in lines)

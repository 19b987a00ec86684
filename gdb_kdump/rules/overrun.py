"""Who wrote over the shared info: what the damaged bytes look like, and how far they reach."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gdb_kdump.records.skb import SharedInfo, Skb
from gdb_kdump.rules.findings import CORRUPT, Finding
from gdb_kdump.rules.patterns import Continuation, find_continuation, find_copy
from gdb_kdump.text import hex16

_POISONS = {0x6B: "freed slab memory (POISON_FREE)", 0x5A: "slab memory never written (POISON_INUSE)",
            0xCC: "an active red zone", 0xBB: "an inactive red zone"}  # fmt: skip


@dataclass(frozen=True)
class Attribution:
    """Who damaged the shared info: `first` (address) and `length` (bytes) of the damage, and a sentence each on
    the source, on how sure that is, and why.

    `kind` is "payload" (this buffer's own data ran on), "copy", "poison" or "unknown".
    """

    kind: str
    first: int
    length: int
    period: int
    source: str
    certainty: str


def attribute(skb: Skb) -> Attribution | None:
    """Say where the bytes in the shared info come from, or None when nothing is known of them."""
    payload, damaged = skb.payload_and_shinfo()
    if not damaged or not payload:
        return None
    written = skb.shinfo.written if isinstance(skb.shinfo, SharedInfo) else None
    found = find_continuation(payload, damaged, written)
    if found is not None:
        return _from_payload(skb, payload, damaged, found)
    poison = _POISONS.get(damaged[0])
    if poison and damaged[:16] == bytes([damaged[0]]) * 16:
        length = len(damaged) - len(damaged.lstrip(damaged[:1]))
        return Attribution("poison", skb.end, length, 1, f"the bytes of {poison}", f"{length} bytes of one value")
    copy = find_copy(damaged, payload, written)
    if copy is not None:
        source = f"a copy of {copy.length} bytes of the buffer at {hex16(skb.members.head + copy.source)}"
        return Attribution("copy", skb.end + copy.at, copy.length, 0, source, f"{copy.length} bytes in a row are equal")
    return None


def _from_payload(skb: Skb, payload: bytes, damaged: bytes, found: Continuation) -> Attribution:
    header = ip_header(payload, skb.members.data - skb.members.head)
    behind = f", behind {header}" if header else ""
    source = f"the payload's own records of {found.period} bytes run on across end{behind}"
    certainty = (
        f"{found.evidence} of {found.length} bytes continue their columns in phase; "
        f"by chance that is 1 in 256 to the power of {found.evidence}"
    )
    return Attribution("payload", skb.end, found.length, found.period, source, certainty)


def ip_header(buffer: bytes, data: int) -> str:
    """An IPv4 header with a right checksum within 64 bytes of offset `data` of a buffer, in words, or ""."""
    for at in range(max(0, data - 64), min(len(buffer) - 20, data + 64)):
        words, total = buffer[at] & 15, int.from_bytes(buffer[at + 2 : at + 4], "big")
        if buffer[at] >> 4 == 4 and words >= 5 and total > 4 * words and _checksum_fits(buffer[at : at + 4 * words]):
            source, target = (".".join(map(str, buffer[at + o : at + o + 4])) for o in (12, 16))
            return f"an IPv4 header at offset {at} ({source} to {target}, protocol {buffer[at + 9]}, {total} bytes)"
    return ""


def _checksum_fits(header: bytes) -> bool:
    """net/ipv4/ip_input.c: ip_rcv_core: the ones' complement sum of a header is all ones."""
    total = sum(int.from_bytes(header[at : at + 2], "big") for at in range(0, len(header), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total == 0xFFFF


def overrun(skb: Skb) -> Iterator[Finding]:
    """The shared info holds what belongs before it; net/core/skbuff.c: __alloc_skb puts it right behind the buffer.

    Asked only when another rule has found the shared info corrupt: any bytes look like a pattern if one looks long
    enough.
    """
    found = attribute(skb)
    if found is None:
        return
    expected = f"nothing written from {hex16(skb.end)} on"
    text = f"{found.length} bytes from {hex16(found.first)} on"
    message = f"{found.source}: {text} were overwritten ({found.certainty})"
    yield Finding("shinfo.overrun", skb.addr, "end", CORRUPT, expected, text, message)

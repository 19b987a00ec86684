"""The bytes that an sk_buff carries, and what kind of packet they are; net/core/skbuff.c: skb_copy_bits."""

from __future__ import annotations

from dataclasses import dataclass

from gdb_kdump.errors import Unreadable
from gdb_kdump.kernel.mm.pages import Pages
from gdb_kdump.kernel.net.skbuff import Skbs
from gdb_kdump.kernel.timekeeping import wall_clock_offset
from gdb_kdump.records.skb import FragList, Skb
from gdb_kdump.session import Session
from gdb_kdump.text import hex16
from gdb_kdump.walks import Gaps

ETHERNET, IP, PAYLOAD = "ethernet", "ip", "payload"

_ETH_HLEN = 14  # include/uapi/linux/if_ether.h
_ETH_P_IP, _ETH_P_IPV6 = 0x0800, 0x86DD
_IP_VERSIONS = {4: _ETH_P_IP, 6: _ETH_P_IPV6}
_MAX_LINEAR = 1 << 20  # no buffer is larger: net/core/skbuff.c: __alloc_skb by kmalloc
_MAX_DEPTH = 4  # frag_lists in frag_lists
_EARLIEST = 10**18  # nanoseconds since 1970: less is a time since boot


@dataclass(frozen=True)
class PacketData:
    """The bytes of an sk_buff from the outermost header that is still there, as far as they can be read.

    `kind` says what they begin with: ETHERNET, IP, or PAYLOAD (no header that can be trusted); `length` is how many
    there are, `time_ns` when it was stamped (since 1970), 0 when it was not, `gaps` why bytes are missing.
    """

    kind: str
    data: bytes
    length: int
    time_ns: int
    gaps: tuple[str, ...]


class SkbData:
    """Reads packets of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        self._skbs = session.once(Skbs)
        self._pages = session.once(Pages)
        self._more = session.layout.unpacker("sk_buff", ("tstamp", "protocol"))

    def read(self, addr: int) -> PacketData:
        """The packet in a `struct sk_buff *`; raises Unreadable for the sk_buff itself."""
        skb = self._skbs.read(addr)
        stamp, protocol = self._more.unpack_from(*self._memory.block(addr, self._more.span))
        kind, start = self._begin(skb, _swapped(protocol))
        gaps = Gaps()
        data = bytearray()
        if self._append(data, skb, start, gaps, 0) and skb.members.data - start + skb.members.len != len(data):
            gaps.note(f"{len(data)} bytes found, {skb.members.data - start + skb.members.len} expected")
        return PacketData(kind, bytes(data), skb.members.data - start + skb.members.len, self._time(stamp), tuple(gaps))

    def _begin(self, skb: Skb, protocol: int) -> tuple[str, int]:
        """What the packet begins with, and where that is: headers that were stripped still stand before `data`."""
        headers = dict(skb.headers)
        mac, network = headers["mac_header"], headers["network_header"]
        linear = skb.tail - skb.members.head
        if mac is not None and network is not None and network - mac == _ETH_HLEN and network <= linear:
            written = self._prefix(skb.members.head + mac, _ETH_HLEN)
            if int.from_bytes(written[12:14], "big") == protocol:
                return ETHERNET, min(skb.members.head + mac, skb.members.data)
        if network is not None and network < linear and protocol in _IP_VERSIONS.values():
            first = self._prefix(skb.members.head + network, 1)
            if first and _IP_VERSIONS.get(first[0] >> 4) == protocol:
                return IP, min(skb.members.head + network, skb.members.data)
        return PAYLOAD, skb.members.data

    def _prefix(self, addr: int, size: int) -> bytes:
        return self._memory.read_prefix(addr, size)[0]

    def _append(self, data: bytearray, skb: Skb, start: int, gaps: Gaps, depth: int) -> bool:
        """Append the bytes of an sk_buff from `start` on; False where some are missing and nothing may follow."""
        if not 0 <= skb.tail - start <= _MAX_LINEAR:
            gaps.note(f"the linear part of {hex16(skb.addr)} ends {skb.tail - start} bytes behind its beginning")
            return False
        if not self._append_memory(data, start, skb.tail - start, gaps):
            return False
        if isinstance(skb.shinfo, Unreadable):
            gaps.note(f"the shared info of {hex16(skb.addr)} cannot be read: {skb.shinfo.why.sentence}")
            return False
        if skb.shinfo.nr_frags > skb.facts.max_frags:
            gaps.note(f"nr_frags of {hex16(skb.addr)} is {skb.shinfo.nr_frags}: no fragment is followed")
            return False
        for number, frag in enumerate(skb.shinfo.frags):
            if not self._pages.is_page(frag.page) or frag.size > _MAX_LINEAR or frag.offset > _MAX_LINEAR:
                gaps.note(f"fragment {number} of {hex16(skb.addr)} is not in a page of memory")
                return False
            if not self._append_memory(data, self._pages.address_of(frag.page) + frag.offset, frag.size, gaps):
                return False
        return self._append_chain(data, skb, skb.shinfo.chain, gaps, depth)

    def _append_chain(self, data: bytearray, skb: Skb, chain: FragList, gaps: Gaps, depth: int) -> bool:
        for below in chain.skbs if depth < _MAX_DEPTH else ():
            try:
                part = self._skbs.read(below)
            except Unreadable as error:
                gaps.note(str(error))
                return False
            if not self._append(data, part, part.members.data, gaps, depth + 1):
                return False
        if not chain.is_whole:
            gaps.note(f"the frag_list of {hex16(skb.addr)} is cut short")
        return chain.is_whole

    def _append_memory(self, data: bytearray, addr: int, size: int, gaps: Gaps) -> bool:
        part, why = self._memory.read_prefix(addr, size)
        data += part
        if why is not None:
            gaps.note(f"the bytes from {len(data)} on are missing: {why.sentence} ({why.name})")
        return why is None

    def _time(self, stamp: int) -> int:
        """skb->tstamp as time since 1970: received packets have that, sent ones the time since boot."""
        if stamp <= 0 or stamp >= _EARLIEST:
            return max(stamp, 0)
        offset = wall_clock_offset(self._session)
        return stamp + offset if offset is not None else 0


def _swapped(number: int) -> int:
    """A __be16 in host order."""
    return (number & 0xFF) << 8 | number >> 8

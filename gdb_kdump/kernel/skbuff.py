"""struct sk_buff and what it holds, read into records; include/linux/skbuff.h."""

from __future__ import annotations

from gdb_kdump.errors import Unreadable, Why
from gdb_kdump.layout import max_skb_frags, skb_end_is_offset
from gdb_kdump.rules.records import Frag, FragList, Hole, SharedInfo, Skb
from gdb_kdump.session import Session
from gdb_kdump.text import is_kernel_address

MAX_CHAIN = 100_000

_SKB_MEMBERS = (
    "next", "prev", "sk", "len", "data_len", "head", "data", "tail", "end", "truesize", "users", "cloned", "nohdr",
)  # fmt: skip
_SHINFO_MEMBERS = ("nr_frags", "dataref", "frag_list")
_FRAG_MEMBERS = ("page", "offset", "size")


class Skbs:
    """Reads the sk_buffs of one session."""

    def __init__(self, session: Session) -> None:
        self._memory = session.memory
        layout = session.layout
        self._skb = layout.unpacker("sk_buff", _SKB_MEMBERS)
        self._ends = layout.unpacker("sk_buff", ("head", "end"))
        self._links = layout.unpacker("sk_buff", ("next", "len"))
        self._shinfo = layout.unpacker("skb_shared_info", _SHINFO_MEMBERS)
        self._frag = layout.unpacker("skb_frag", _FRAG_MEMBERS)
        self._frags_offset = layout.offset("skb_shared_info.frags")
        self.end_is_offset = skb_end_is_offset(layout)
        self.max_frags = max_skb_frags(layout)

    def end_pointer(self, skb: int) -> int:
        """The end of the linear buffer (address) of the `struct sk_buff *` skb; skb_end_pointer.

        Raises Unreadable.
        """
        head, end = self._ends.unpack_from(*self._memory.block(skb, self._ends.span))
        return self._address(head, end)

    def shinfo(self, skb: int) -> int:
        """The address of the `struct skb_shared_info` of the `struct sk_buff *` skb; skb_shinfo.

        Raises Unreadable.
        """
        return self.end_pointer(skb)

    def _address(self, head: int, end: int) -> int:
        return (head + end) & (1 << 64) - 1 if self.end_is_offset else end

    def read(self, skb: int) -> Skb:
        """The sk_buff at the `struct sk_buff *` skb with its shared info; raises Unreadable for skb itself only."""
        values = self._skb.unpack_from(*self._memory.block(skb, self._skb.span))
        next_, prev, sk, len_, data_len, head, data, tail, end, truesize, users, cloned, nohdr = values
        end = self._address(head, end)
        shinfo, hole = None, None
        try:
            shinfo = self.read_shinfo(end)
        except Unreadable as error:
            hole = Hole(error.addr, error.why)
        tail = self._address(head, tail)
        return Skb(
            skb, next_, prev, sk, len_, data_len, head, data, tail, end, truesize, users, cloned, nohdr, shinfo, hole
        )

    def read_shinfo(self, addr: int) -> SharedInfo:
        """The shared info at a `struct skb_shared_info *`; raises Unreadable."""
        block, at = self._memory.block(addr, self._shinfo.span)
        nr_frags, dataref, frag_list = self._shinfo.unpack_from(block, at)
        frags = self._frags(addr + self._frags_offset, min(nr_frags, self.max_frags))
        return SharedInfo(addr, nr_frags, dataref, frag_list, self.max_frags, frags, self._chain(frag_list))

    def _frags(self, addr: int, count: int) -> tuple[Frag, ...]:
        if not count:
            return ()
        size, unpack = self._frag.size, self._frag.unpack_from
        block, at = self._memory.block(addr, count * size)
        return tuple(Frag(*unpack(block, at + number * size)) for number in range(count))

    def _chain(self, first: int) -> FragList:
        skbs: dict[int, None] = {}  # a dict for its order
        total, skb = 0, first
        while skb and len(skbs) < MAX_CHAIN:
            if skb in skbs:
                return FragList(tuple(skbs), total, cycle=skb)
            if not is_kernel_address(skb):
                # A pointer that no kernel has: nothing worth a request, and the rule sees the pointer itself.
                return FragList(tuple(skbs), total, hole=Hole(skb, Why.UNMAPPED))
            try:
                following, length = self._links.unpack_from(*self._memory.block(skb, self._links.span))
            except Unreadable as error:
                return FragList(tuple(skbs), total, hole=Hole(error.addr, error.why))
            skbs[skb] = None
            total += length
            skb = following
        return FragList(tuple(skbs), total)

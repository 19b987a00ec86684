"""Every sk_buff that the skb caches have allocated, on a queue or not; net/core/skbuff.c: skb_init."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from gdb_kdump import walks
from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.lib.percpu import PerCpu
from gdb_kdump.kernel.mm.allocations import Allocations
from gdb_kdump.kernel.mm.allocator import allocator
from gdb_kdump.layout.net import skb_fclones
from gdb_kdump.records.slab import UNKNOWN
from gdb_kdump.session import Session
from gdb_kdump.walks import Gaps

# Destructors: those that take the truesize of an sk_buff back from its writer's sk_wmem_alloc, from its reader's
# sk_rmem_alloc, or neither.  Of a socket whose sk_buffs have another one nothing is known.
_WRITERS = ("sock_wfree", "__sock_wfree", "tcp_wfree", "unix_wfree", "unix_destruct_scm", "tpacket_destruct_skb")
_READERS = ("sock_rfree", "sock_rmem_free", "netlink_skb_destructor")
_OTHERS = ("sock_ofree", "sock_efree", "sock_edemux", "sock_pfree")
_SKB_FCLONE_CLONE = 2  # include/linux/skbuff.h: always the same number


@dataclass
class Charged:
    """The bytes of truesize that sk_buffs are charged to a socket with: `linked` of them are on a list for certain.

    Unlinked ones may be in flight: being freed (kfree_skb_list_reason clears prev), given back already, or half made
    and not charged yet.  So `all` is an upper bound, `linked` a lower one.
    """

    all: int = 0
    linked: int = 0

    def add(self, truesize: int, is_linked: bool) -> None:
        """One more sk_buff."""
        self.all += truesize
        self.linked += truesize if is_linked else 0


class SkbObjects:
    """Finds the allocated sk_buffs of one session, once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        self._layout = session.layout
        members = ("next", "prev", "sk", "truesize", "destructor")
        self._skb = session.layout.unpacker("sk_buff", members, {"destructor": 0})
        self._fclone = session.layout.unpacker("sk_buff", ("fclone",), {"fclone": 0})
        self._charged: tuple[dict[int, Charged], dict[int, Charged]] | None = None  # to writers and to readers
        self._uncounted: set[int] = set()
        absent = session.layout.absent("sk_buff", ("destructor", "fclone"))
        self._lacking = str(MissingDebugInfo(f"member sk_buff.{absent[0]}")) if absent else ""
        self._gaps = Gaps()  # of _charged
        self._found: array[int] | None = None
        self._found_gaps = Gaps()
        # Whether a damaged freelist hides which objects of some slab are allocated.
        self._unknown = False

    def all(self, gaps: Gaps) -> Iterator[int]:
        """Yield their addresses, without those that wait on a CPU for their next use.

        Raises Unreadable, MissingDebugInfo where the caches cannot be walked at all.
        """
        gaps.note(self._lacking)
        if self._found is not None:
            gaps.note(*self._found_gaps)
            yield from self._found
            return
        found, of_all = array("Q"), Gaps()
        for addr in self._find(of_all):
            found.append(addr)
            yield addr
        if not walks.is_interrupted():
            self._found, self._found_gaps = found, of_all
        gaps.note(*of_all)

    def _find(self, gaps: Gaps) -> Iterator[int]:
        waiting, slabs = self._waiting(), allocator(self._session)
        with gaps.about("not every sk_buff that stands on no queue is found") as unknown:
            skb_caches = self._session.once(Allocations).skb_caches(unknown)
        with gaps.about("") as broken:
            for cache in slabs.caches(broken):
                if cache.addr in skb_caches:
                    is_pair = cache.object_size >= 2 * self._skb.size
                    for start in slabs.for_each_object(cache, broken):
                        yield from (addr for addr in self._in_object(start, is_pair) if addr not in waiting)

    def written_by(self, sock: int) -> Charged | None:
        """What counts as written by a socket, of all sk_buffs of the system; None where not all can be found."""
        return self._charged_to(sock, 0)

    def received_by(self, sock: int) -> Charged | None:
        """What a socket has to read, wherever it stands; None where not all can be found."""
        return self._charged_to(sock, 1)

    def _charged_to(self, sock: int, way: int) -> Charged | None:
        if self._charged is None:
            self._charged = self._sum_charged()
        if len(self._gaps) or self._unknown or sock in self._uncounted:
            return None
        return self._charged[way].get(sock, Charged())

    def _sum_charged(self) -> tuple[dict[int, Charged], dict[int, Charged]]:
        find = self._session.debuginfo.find_address
        writers, readers, others = (
            {addr for name in names if (addr := find(name)) is not None} for names in (_WRITERS, _READERS, _OTHERS)
        )
        written: dict[int, Charged] = {}
        received: dict[int, Charged] = {}
        try:
            slabs, skb_caches = allocator(self._session), self._session.once(Allocations).skb_caches(self._gaps)
            hidden = (
                slabs.for_each_object(cache, self._gaps, (UNKNOWN,))
                for cache in slabs.caches(self._gaps)
                if cache.addr in skb_caches
            )
            self._unknown = any(True for objects in hidden for _ in objects)
            for skb in self.all(self._gaps):
                values = self._skb.unpack_from(*self._memory.block(skb, self._skb.span))
                following, before, sk, truesize, destructor = values
                if destructor in writers:
                    written.setdefault(sk, Charged()).add(truesize, bool(following and before))
                elif destructor in readers:
                    received.setdefault(sk, Charged()).add(truesize, bool(following and before))
                elif destructor and destructor not in others:
                    self._uncounted.add(sk)
        except (Unreadable, MissingDebugInfo, Corrupt) as error:
            self._gaps.note(str(error))
        return written, received

    def _in_object(self, start: int, is_pair: bool) -> Iterator[int]:
        """The sk_buffs in one object that are in use; net/core/skbuff.c: skb_clone, kfree_skbmem.

        An fclone pair with one reference is the original alone, unless it was cloned: then nobody can tell which of
        the two was freed, but in kernels where a clone says that it was.
        """
        if not is_pair:
            yield start
            return
        clone_at, references_at, clone_tells = skb_fclones(self._layout)
        second = start + clone_at
        is_cloned = self._fclone.unpack_from(*self._memory.block(second, self._fclone.span)) == (_SKB_FCLONE_CLONE,)
        if self._memory.s32(start + references_at) > 1:
            yield from (start, second)
        elif not is_cloned:
            yield start
        elif clone_tells:
            yield second

    def _waiting(self) -> set[int]:
        """The sk_buffs that NAPI keeps for its next packets; net/core/skbuff.c: napi_skb_cache_get."""
        waiting: set[int] = set()
        percpu = self._session.once(PerCpu)
        symbol = self._session.debuginfo.find_address("napi_alloc_cache")
        if symbol is None or self._layout.find_struct("napi_alloc_cache") is None:
            return waiting
        count, cache = (self._layout.find_member(f"napi_alloc_cache.{name}") for name in ("skb_count", "skb_cache"))
        if count is None or cache is None:
            return waiting
        for cpu in percpu.possible_cpus():
            data = percpu.pointer(symbol, cpu)
            number = min(self._memory.u32(data + count.offset), cache.size // 8)
            waiting.update(self._memory.ptr(data + cache.offset + 8 * index) for index in range(number))
        return waiting

"""Which per-CPU variable an address is one CPU's copy of; mm/percpu.c."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.lib.intervals import Intervals
from gdb_kdump.kernel.lib.lists import list_for_each
from gdb_kdump.kernel.lib.percpu import PerCpu
from gdb_kdump.session import Session
from gdb_kdump.walks import Gaps, walk

_MOST_SLOTS = 64  # mm/percpu.c: pcpu_nr_slots is a logarithm
# The array of lists of chunks, newest first: 3c7be18ac9a0 (v5.9) mm: memcg/percpu: account percpu memory.
_LISTS = ("pcpu_chunk_lists", "pcpu_slot")


@dataclass(frozen=True)
class PerCpuPlace:
    """A byte of one CPU's copy of per-CPU memory.

    `addr` is where the variable begins that has it, for that CPU, and `offset` where in that the byte is; `name` is ""
    where nothing tells that: modules and alloc_percpu() have theirs there.
    """

    cpu: int
    addr: int
    offset: int
    name: str


class PerCpuAreas:
    """Knows the per-CPU memory of one session; `gaps` is what could not be found of it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.gaps = Gaps()
        self._static, self._chunks = Intervals(()), Intervals(())  # the numbers are those of CPUs
        self._starts: dict[int, int] = {}
        find = session.debuginfo.find_address
        first, last = find("__per_cpu_start"), find("__per_cpu_end")
        if first is None or last is None:
            return
        self._first = first
        try:
            percpu = session.once(PerCpu)
            self._starts = {cpu: percpu.pointer(first, cpu) for cpu in percpu.possible_cpus()}
            self._static = Intervals((start, start + last - first, cpu) for cpu, start in self._starts.items())
            self._chunks = Intervals(self._read_chunks())
        except (Unreadable, MissingDebugInfo) as error:
            self.gaps.note(f"per-CPU memory: {error}")

    def _read_chunks(self) -> Iterator[tuple[int, int, int]]:
        session = self._session
        base = session.debuginfo.find_address("pcpu_base_addr")
        if base is None:
            return
        # Where the first CPU has its copy is where a chunk says that it is.
        origin = session.memory.ptr(base)
        unpacker = session.layout.unpacker("pcpu_chunk", ("base_addr", "nr_pages"))
        with walk("the chunks of per-CPU memory", self.gaps) as steps:
            for chunk in steps(self._all_chunks()):
                addr, pages = unpacker.unpack_from(*session.memory.block(chunk, unpacker.span))
                for cpu, start in self._starts.items():
                    low = addr + start - origin
                    yield low, low + pages * session.arch.page_size, cpu

    def _all_chunks(self) -> Iterator[int]:
        """Every `struct pcpu_chunk *`: the reserved one, and those in the lists."""
        session, find = self._session, self._session.debuginfo.find_address
        reserved, count = find("pcpu_reserved_chunk"), find("pcpu_nr_slots")
        lists = next((addr for addr in map(find, _LISTS) if addr is not None), None)
        if reserved is not None:
            chunk = session.memory.ptr(reserved)
            if chunk:
                yield chunk
        if lists is None or count is None:
            return
        first, node = session.memory.ptr(lists), session.layout.offset("pcpu_chunk.list")
        for slot in range(min(session.memory.u32(count), _MOST_SLOTS)):
            head = first + slot * session.layout.size("list_head")
            try:
                yield from (link - node for link in list_for_each(session, head))
            except Corrupt as error:
                self.gaps.note(f"the chunks of per-CPU memory: {error}")

    def find(self, addr: int) -> PerCpuPlace | None:
        """What of per-CPU memory an address is, or None where it is none."""
        for cpu in self._static.find(addr):
            start = self._starts[cpu]
            known = self._session.debuginfo.percpu_symbol_at(self._first + addr - start)
            if known is not None:
                symbol, offset = known
                return PerCpuPlace(cpu, addr - offset, offset, symbol.name)
            return PerCpuPlace(cpu, start, addr - start, "")
        for cpu in self._chunks.find(addr):
            return PerCpuPlace(cpu, addr, 0, "")
        return None

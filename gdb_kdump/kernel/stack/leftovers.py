"""What lies on a task's stacks, whether or not unwinding leads there: addresses of text, and exception frames.

A stack is full of what has long returned.  What a frame of the task's trace accounts for has that frame's `level`; all
else is a guess, as the kernel's own traces mark it with `?`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from gdb_kdump.errors import MissingDebugInfo, Unreadable, Why
from gdb_kdump.kernel.module.modules import Modules
from gdb_kdump.kernel.module.source import Source, SourceFrame
from gdb_kdump.kernel.sched.cpu_stacks import CpuStacks
from gdb_kdump.kernel.sched.cpus import Running
from gdb_kdump.kernel.stack.unwind import Frame, Stacks, Trace
from gdb_kdump.session import Session

_WORD = 8


@dataclass(frozen=True)
class TextSymbol:
    """A word at `addr` of a stack that is an address `pc` of text; `stack` says which of a CPU's, "" the task's own.

    `after_call` is whether a call stands before pc, as before every return address.
    """

    addr: int
    pc: int
    source: SourceFrame
    after_call: bool
    level: int | None
    stack: str


@dataclass(frozen=True)
class ExceptionFrame:
    """What may be a struct pt_regs at `addr` of a stack: registers by GDB's names; `source` is what they interrupted.

    `source` is None for user mode, and where pc is no address of text.
    """

    addr: int
    registers: dict[str, int]
    from_user: bool
    source: SourceFrame | None
    level: int | None
    stack: str


@dataclass(frozen=True)
class Leftovers:
    """What was found on a task's stacks, by their addresses; `unread` is what of them could not be read."""

    symbols: tuple[TextSymbol, ...]
    exceptions: tuple[ExceptionFrame, ...]
    unread: tuple[str, ...]


@dataclass(frozen=True)
class _Piece:
    """Memory of a stack that can be read in one piece."""

    low: int
    high: int
    stack: str


class LeftoverReader:
    """Looks through the stacks of one session's tasks."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        self._source = session.once(Source)
        self._stacks = session.once(Stacks)
        self._of_cpus = session.once(CpuStacks)
        self._known: dict[tuple[int, bool], SourceFrame | None] = {}

    def find(self, trace: Trace, with_symbols: bool) -> Leftovers:
        """What lies on the stacks of a trace's task: its own, and of one that has a CPU those of that.

        Addresses of text only `with_symbols`, as there are many.
        """
        unread: list[str] = []
        pieces = list(self._pieces(trace, unread))
        exceptions = self._all_exceptions(pieces, unread)
        exceptions = _with_levels(exceptions, [frame for frame in trace.frames if frame.saved])
        levels = {(frame.stack, frame.pc): frame.level for frame in trace.frames if not frame.source.inlined}
        levels |= self._interrupted(trace, exceptions)
        symbols = [found for piece in pieces for found in self._symbols(piece, levels)] if with_symbols else []
        return Leftovers(tuple(symbols), tuple(exceptions), tuple(unread))

    def _pieces(self, trace: Trace, unread: list[str]) -> Iterator[_Piece]:
        """The stacks from the innermost on, as far as they can be read."""
        task = trace.task
        cpu = self._session.once(Running).cpu_of(task.addr)
        if cpu is not None:
            for low, high in self._of_cpus.exception_stacks(cpu):
                # Guard pages, which nothing maps, lie between them.
                yield from self._readable(low, high, f"exception stacks of CPU {cpu}", unread)
            for low, high in self._of_cpus.irq_stacks(cpu):
                yield from self._readable(low, high, f"IRQ stack of CPU {cpu}", unread)
        if task.stack:
            try:
                low, high = self._of_cpus.of_task(task.addr)
            except (Unreadable, MissingDebugInfo) as error:
                unread.append(f"its stack: {error}")
                return
            yield from self._readable(low, high, "", unread)

    def _readable(self, low: int, high: int, stack: str, unread: list[str]) -> Iterator[_Piece]:
        page = self._session.arch.page_size
        while low < high:
            data, why = self._memory.read_prefix(low, high - low)
            if data:
                yield _Piece(low, low + len(data), stack)
            low += len(data)
            if why is not None:
                if why is not Why.UNMAPPED or not stack:
                    unread.append(str(Unreadable(low, why)))
                low = (low // page + 1) * page

    def _all_exceptions(self, pieces: Sequence[_Piece], unread: list[str]) -> list[ExceptionFrame]:
        try:
            return [found for piece in pieces for found in self._exceptions(piece)]
        except MissingDebugInfo as error:
            unread.append(f"exception frames: {error}")
            return []

    def _exceptions(self, piece: _Piece) -> Iterator[ExceptionFrame]:
        for addr, state in self._stacks.contexts_between(piece.low, piece.high):
            source = None if state.in_user_mode else self._find_source(state.pc, False)
            yield ExceptionFrame(addr, state.registers, state.in_user_mode, source, None, piece.stack)

    def _symbols(self, piece: _Piece, levels: dict[tuple[int, int], int]) -> Iterator[TextSymbol]:
        data = self._memory.read(piece.low, piece.high - piece.low)
        for number, word in enumerate(memoryview(data[: len(data) // _WORD * _WORD]).cast("Q")):
            if not self._source.is_text(word):
                continue
            addr, after_call = piece.low + number * _WORD, self._stacks.is_after_call(word)
            source = self._find_source(word, after_call)
            if source is not None:
                yield TextSymbol(addr, word, source, after_call, levels.get((addr, word)), piece.stack)

    def _find_source(self, pc: int, is_return_address: bool) -> SourceFrame | None:
        """The function that an address of code lies in, by the symbol's own name; None where no code is."""
        if (pc, is_return_address) not in self._known:
            self._known[pc, is_return_address] = self._look_up(pc, is_return_address)
        return self._known[pc, is_return_address]

    def _look_up(self, pc: int, is_return_address: bool) -> SourceFrame | None:
        looked_up = pc - is_return_address
        if not self._is_code(looked_up):
            return None
        source = self._source.frames(pc, is_return_address)[-1]
        if not self._source.in_kernel(looked_up) or self._source.is_assembly(looked_up):
            return source
        symbol = self._session.debuginfo.symbol_at(looked_up)
        # GDB counts the offset in what the compiler has split off a function (.cold) from the function itself.
        return source if symbol is None else replace(source, function=symbol[0].name, offset=symbol[1] + pc - looked_up)

    def _is_code(self, addr: int) -> bool:
        """Whether code is at an address: images have data, too; kernel/extable.c: kernel_text_address."""
        if self._source.in_kernel(addr):
            symbol = self._session.debuginfo.symbol_at(addr)
            return symbol is not None and symbol[0].is_code
        module = self._session.once(Modules).find(addr)
        if module is None:
            return self._source.find_generated(addr) is not None
        try:
            return any(low <= addr < low + size for low, size in self._session.once(Modules).text_of(module))
        except (MissingDebugInfo, Unreadable):
            return True

    def _interrupted(self, trace: Trace, exceptions: list[ExceptionFrame]) -> dict[tuple[int, int], int]:
        """Where the frames that were interrupted have their pc: in the exception frames."""
        offset = self._pc_offset() if exceptions else 0
        real = [frame for frame in trace.frames if not frame.source.inlined]
        after: dict[int, Frame] = {frame.level: following for frame, following in zip(real, real[1:])}
        known = ((found, after.get(found.level)) for found in exceptions if found.level is not None)
        return {(found.addr + offset, frame.pc): frame.level for found, frame in known if frame is not None}

    def _pc_offset(self) -> int:
        registers = self._session.arch.registers.by_name
        return self._session.layout.offset(f"pt_regs.{registers[self._session.arch.pc].member}")


def _with_levels(exceptions: Sequence[ExceptionFrame], entries: Sequence[Frame]) -> list[ExceptionFrame]:
    """The same with the levels of the trace's entry frames: of copies of a struct pt_regs the nearest to the frame."""
    levels: dict[int, int] = {}
    for entry in entries:
        copies = [found.addr for found in exceptions if entry.saved.items() <= found.registers.items()]
        if copies:
            levels[min(copies, key=lambda addr: abs(addr - entry.sp))] = entry.level
    return [replace(found, level=levels.get(found.addr)) for found in exceptions]

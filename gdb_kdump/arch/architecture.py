"""The machines that a kernel can be of: the one place that knows which there are, and what each must tell.

An architecture has two halves.  That about bytes (registers, notes, pages, where the kernel lies) is all that the dump
server needs; that about stacks is imported when it is first asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Optional, Protocol, Union

from gdb_kdump.arch.readers import Kernel, Memory, Types
from gdb_kdump.arch.registers import RegisterSet
from gdb_kdump.arch.state import Caller, State
from gdb_kdump.arch.x86_64.machine import X86_64
from gdb_kdump.errors import Why
from gdb_kdump.records.rows import Row
from gdb_kdump.records.threads import SavedFrame

FindAddress = Callable[[str], Optional[int]]
ReadU64 = Callable[[int], int]
ReadPage = Callable[[int], Union[bytes, Why]]
ReadMemory = Callable[[int, int], Union[bytes, Why]]
AskWhy = Callable[[int], Optional[Why]]


class Unwinder(Protocol):
    """How the frames of one kernel lead to their callers'; what it reads may raise Unreadable."""

    @property
    def restored(self) -> tuple[str, ...]:
        """The registers that calls keep for the caller: a row says which were saved or lost, others are the same."""

    @property
    def ends_at_zero(self) -> bool:
        """Whether a return address of 0 is where a stack ends."""

    def row(self, state: State, /) -> Row | None:
        """How to get from a state to its caller, or None where only fallback() may tell."""

    def entry_rows(self) -> Iterator[tuple[int, int, Row]]:
        """Ranges of entry code, from, to before, whose row has a context with all registers above a register."""

    def fallback(self, state: State, /) -> Caller:
        """What stands above a frame that has no row."""

    def is_after_call(self, pc: int, /) -> bool:
        """Whether a call stands before an address, as before every return address that nothing has replaced."""

    def before_call(self, state: State, /) -> State:
        """The caller, where pc has just been called and is no code."""

    def callers_between(self, low: int, high: int, end: int, /) -> Iterator[State]:
        """The states that a stack may have between two addresses, of callers; the stack goes on to `end`."""

    def contexts_between(self, low: int, high: int, /) -> Iterator[tuple[int, State]]:
        """What may be a saved context (struct pt_regs) between two addresses: where it begins, and what it has."""

    def framed(self, state: State, function: int, end: int, /) -> Iterator[State]:
        """The state with each frame base that it may have in the function at an address, by who has called that."""


class SwitchFrame(Protocol):
    """Where a kernel's sleeping tasks have their registers."""

    @property
    def frame(self) -> SavedFrame:
        """The registers that every sleeping task left; raises MissingDebugInfo, Unreadable."""

    def find(self, task: int, stack: int, sp: int, /) -> int | dict[str, int]:
        """Where a task's frame is, or its registers where it has none.

        `task` is its struct task_struct *, `stack` its lowest address, `sp` what task_struct.sp has.
        Raises MissingDebugInfo.
        """


class MemoryMap(Protocol):
    """Where a kernel has physical memory, and the struct pages of it."""

    @property
    def direct_map(self) -> int:
        """The address where physical address 0 is mapped, or would be; PAGE_OFFSET."""

    @property
    def vmemmap(self) -> int:
        """The address that the struct page of page frame 0 has, or would have."""

    @property
    def image(self) -> tuple[int, int, int] | None:
        """Where the image is mapped: first address, bytes, and the physical address there; None where not known."""


class Translation(Protocol):
    """From virtual to physical addresses by a kernel's page tables."""

    linear: list[tuple[int, int, int]]
    """Areas that are mapped in one piece (first address, bytes, physical address), for where a table is missing."""

    def physical(self, addr: int, /) -> int | Why:
        """The physical address of a virtual one, or UNMAPPED, or why a table on the way cannot be read."""

    def mapped(self, start: int, end: int, /) -> Iterator[tuple[int, int, int | Why]]:
        """What the tables map of the kernel's half of the addresses, from `start` to before `end`, in order.

        Yields addresses, bytes, and physical addresses, or why a table cannot be read. What a table maps that occurs
        more than once comes once.
        """

    def in_one_piece(self, addr: int, /) -> int:
        """For how many bytes physical addresses follow one another from where `physical` has just found one."""


class Located(Protocol):
    """A kernel that was found in physical memory."""

    @property
    def kaslr_offset(self) -> int:
        """How far it is from where it was linked for, in bytes."""

    @property
    def tables(self) -> Translation:
        """Its page tables."""


class Architecture(Protocol):
    """What a machine decides."""

    # The half about bytes.

    @property
    def name(self) -> str:
        """What uname calls it, and the header of a kdump file."""

    @property
    def elf_machine(self) -> int:
        """e_machine of its ELF files."""

    @property
    def page_size(self) -> int:
        """Bytes."""

    def address_bits(self, vmcoreinfo: dict[str, str], /) -> int:
        """How many bits of a virtual address mean something: all above them are as the highest of them is."""

    def page_tables(
        self, vmcoreinfo: dict[str, str], noted: Callable[[], int | None], read_page: ReadPage, /
    ) -> Translation | None:
        """The kernel's page tables where VMCOREINFO says where they are, else None.

        `noted` gives what the dump's own headers say of where the image is: image_base(), or libkdumpfile's phys_base.
        """

    def image_base(self, segments: Iterable[tuple[int, int]], /) -> int | None:
        """Where the image is by the (virtual, physical) addresses of a dump's segments, or None."""

    @property
    def memory_holes(self) -> tuple[tuple[int, int], ...]:
        """Where memory of a virtual machine may have a hole for devices: first address, and the first one after it."""

    @property
    def located_by(self) -> tuple[str, ...]:
        """The symbols of a vmlinux that locate() takes, as far as it has them."""

    @property
    def needed_to_locate(self) -> tuple[str, ...]:
        """Those without which it finds nothing, for the user."""

    def can_locate(self, symbols: Mapping[str, int], /) -> bool:
        """Whether these symbols are enough for locate()."""

    def locate(
        self, banner: bytes, symbols: Mapping[str, int], read: ReadMemory, memory: Sequence[tuple[int, int]], /
    ) -> Sequence[Located]:
        """The kernels of a vmlinux in physical memory: one, or none, or several when it has been loaded twice.

        `banner` is the text of its linux_banner, `symbols` are link-time addresses; `read` gives the bytes at a
        physical address, at most a page's, or why not; `memory` says where there are any: ranges that do not overlap,
        from, to before.
        """

    def find_direct_map(self, pages: Iterable[tuple[int, bytes]], /) -> int | None:
        """The direct map's address as some pages (physical address, contents) tell it, or None."""

    @property
    def section_pages(self) -> int:
        """Pages of a section of struct pages, which is mapped as a whole or not at all: 1 << PFN_SECTION_SHIFT."""

    @property
    def most_pages(self) -> int:
        """More pages than any machine can have."""

    def direct_map(self, find_address: FindAddress, read_u64: ReadU64, why: AskWhy, /) -> int:
        """The address where the kernel maps physical address 0, or would; raises Unreadable.

        `find_address` finds a symbol; `read_u64` and `why` (there is no byte at an address, or None) read memory.
        """

    def memory_map(
        self,
        find_address: FindAddress,
        read_u64: ReadU64,
        why: AskWhy,
        vmcoreinfo: Mapping[str, str],
        struct_page: int,
        /,
    ) -> MemoryMap:
        """Where the kernel has physical memory and its struct pages, of `struct_page` bytes each.

        Raises Unreadable.
        """

    @property
    def registers(self) -> RegisterSet:
        """Its registers."""

    @property
    def pc(self) -> str:
        """GDB's name of the program counter."""

    @property
    def sp(self) -> str:
        """GDB's name of the stack pointer."""

    # The half about stacks.

    @property
    def unwound_by(self) -> tuple[str, ...]:
        """The registers that unwinding may take."""

    @property
    def exception_stacks(self) -> tuple[tuple[str, str], ...]:
        """The per-CPU pointers to stacks that exceptions have for themselves: symbol, and type of what is there."""

    @property
    def irq_stack(self) -> str:
        """The type of a CPU's stack for interrupts."""

    @property
    def irq_stack_pointers(self) -> tuple[tuple[str, str], ...]:
        """The per-CPU variable that points to its end, and the member path in it, newest first."""

    @property
    def entry_areas(self) -> tuple[tuple[str, str], ...]:
        """The struct that has all that entry code needs of one CPU, and its member that the exception stacks are."""

    @property
    def stop_functions(self) -> tuple[str, ...]:
        """The functions in which a CPU stays that another one has stopped."""

    @property
    def graph_return(self) -> tuple[str, ...]:
        """The symbols that the function_graph tracer puts in place of return addresses."""

    @property
    def probe_return(self) -> tuple[str, ...]:
        """The symbols that kretprobes and rethooks put there."""

    def per_cpu_base(self, registers: Mapping[str, int], /) -> int | None:
        """The offset of a CPU's per-CPU variables, where what a hypervisor has noted of it tells that, or None."""

    def state(self, registers: dict[str, int], interrupted: bool, /) -> State:
        """The state with these registers, among which are pc and sp."""

    def after_call(self, registers: dict[str, int], /) -> State:
        """The state of a caller, of which sp and what a row has restored are known."""

    def return_slot(self, state: State, /) -> int:
        """The address where the return address stands that pc is; sp where pc was interrupted."""

    def entry_kind(self, function: str | None, /) -> str:
        """What kind of entry the code of that name is: exception, irq, nmi, syscall."""

    def unwinder(self, kernel: Kernel, /) -> Unwinder:
        """The unwinder of a kernel; raises MissingDebugInfo, Unreadable."""

    def switch_frame(
        self, memory: Memory, types: Types, find_address: Callable[[str], int | None], thread_size: Callable[[], int], /
    ) -> SwitchFrame:
        """Where a kernel's sleeping tasks have their registers; `thread_size` is that of their stacks, in bytes."""


ARCHITECTURES: tuple[Architecture, ...] = (X86_64(),)


def by_elf_machine(machine: int) -> Architecture | None:
    """The architecture of an ELF file, by its e_machine, or None."""
    return next((known for known in ARCHITECTURES if known.elf_machine == machine), None)


def by_name(name: str) -> Architecture | None:
    """The architecture that uname calls so, or None."""
    return next((known for known in ARCHITECTURES if known.name == name), None)


UNSAID = ARCHITECTURES[0]
"""Whose memory it is that does not say whose it is: raw files and LiME's name no machine."""

NAMES = tuple(known.name for known in ARCHITECTURES)
"""The machines whose dumps can be read."""

PAGE_SIZES = {known.elf_machine: known.page_size for known in ARCHITECTURES}
"""Their pages, in bytes, by e_machine."""

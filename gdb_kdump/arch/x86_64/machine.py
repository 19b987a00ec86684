"""x86-64 as the rest of the house sees it; architecture.py says what each member is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from gdb_kdump.arch.readers import Kernel, Memory, Types
from gdb_kdump.arch.state import State
from gdb_kdump.arch.x86_64.direct_map import MemoryMap, direct_map, find_direct_map, memory_map
from gdb_kdump.arch.x86_64.locate import SYMBOLS, Located, locate, vmlinux_of
from gdb_kdump.arch.x86_64.paging import PAGE_SIZE, PageTables, known_tables, phys_base_of, virtual_bits
from gdb_kdump.arch.x86_64.registers import KERNEL_GS_BASE, PC, REGISTERS, SP, UNWOUND_BY
from gdb_kdump.arch.x86_64.states import after_call, is_user_selector, state_of
from gdb_kdump.errors import Why

if TYPE_CHECKING:
    from gdb_kdump.arch.x86_64.switch_frame import SwitchFrame
    from gdb_kdump.arch.x86_64.unwind import Unwinder


class X86_64:
    name = "x86_64"
    elf_machine = 62  # EM_X86_64
    page_size = PAGE_SIZE
    section_pages = 1 << 15  # arch/x86/include/asm/sparsemem.h: SECTION_SIZE_BITS is 27 on 64-bit
    most_pages = 1 << 40  # 52 bits of physical address; arch/x86/include/asm/sparsemem.h: MAX_PHYSMEM_BITS
    registers = REGISTERS
    pc, sp = PC, SP
    unwound_by = UNWOUND_BY
    # arch/x86/include/asm/cpu_entry_area.h: the stacks of NMIs and exceptions, with guard pages between them.
    exception_stacks = (("cea_exception_stacks", "struct cea_exception_stacks"),)
    # d7b6d709a76a (v6.2) moved it into pcpu_hot, c6a0918072ea (v6.15) x86/irq: Move irq stacks to percpu hot section.
    irq_stack = "struct irq_stack"
    irq_stack_pointers = (("hardirq_stack_ptr", ""), ("pcpu_hot", "hardirq_stack_ptr"))
    entry_areas = (("struct cpu_entry_area", "estacks"),)
    graph_return = ("return_to_handler",)
    # Newest first: those of rethooks (v5.18), and of kretprobes.
    probe_return = ("arch_rethook_trampoline", "__kretprobe_trampoline", "kretprobe_trampoline")
    stop_functions = ("stop_this_cpu",)

    # QEMU's pc, cloud-hypervisor and VMware; Firecracker; QEMU's q35; others between them.
    memory_holes = tuple((start << 28, 1 << 32) for start in (0xC, 0xD, 0x8, 0xE, 0xB, 0xF))
    located_by = SYMBOLS
    needed_to_locate = SYMBOLS[:2]

    def address_bits(self, vmcoreinfo: dict[str, str]) -> int:
        return virtual_bits(vmcoreinfo)

    def page_tables(
        self,
        vmcoreinfo: dict[str, str],
        noted: Callable[[], int | None],
        read_page: Callable[[int], bytes | Why],
    ) -> PageTables | None:
        return known_tables(vmcoreinfo, noted, read_page)

    def image_base(self, segments: Iterable[tuple[int, int]]) -> int | None:
        return phys_base_of(segments)

    def can_locate(self, symbols: Mapping[str, int]) -> bool:
        return vmlinux_of(b"", symbols) is not None

    def locate(
        self,
        banner: bytes,
        symbols: Mapping[str, int],
        read: Callable[[int, int], bytes | Why],
        memory: Sequence[tuple[int, int]],
    ) -> list[Located]:
        vmlinux = vmlinux_of(banner, symbols)
        return [] if vmlinux is None else locate(vmlinux, read, memory)

    def find_direct_map(self, pages: Iterable[tuple[int, bytes]]) -> int | None:
        return find_direct_map(pages)

    def memory_map(
        self,
        find_address: Callable[[str], int | None],
        read_u64: Callable[[int], int],
        why: Callable[[int], Why | None],
        vmcoreinfo: Mapping[str, str],
        struct_page: int,
    ) -> MemoryMap:
        return memory_map(find_address, read_u64, why, vmcoreinfo)

    def direct_map(
        self,
        find_address: Callable[[str], int | None],
        read_u64: Callable[[int], int],
        why: Callable[[int], Why | None],
    ) -> int:
        return direct_map(find_address, read_u64, why)

    def per_cpu_base(self, registers: Mapping[str, int]) -> int | None:
        return registers.get(KERNEL_GS_BASE if is_user_selector(registers.get("cs", 0)) else "gs_base")

    def state(self, registers: dict[str, int], interrupted: bool) -> State:
        return state_of(registers, interrupted)

    def after_call(self, registers: dict[str, int]) -> State:
        return after_call(registers)

    def return_slot(self, state: State) -> int:
        return state.sp if state.interrupted else state.sp - 8

    def entry_kind(self, function: str | None) -> str:
        from gdb_kdump.arch.x86_64.entry_frames import entry_kind

        return entry_kind(function)

    def unwinder(self, kernel: Kernel) -> Unwinder:
        from gdb_kdump.arch.x86_64.unwind import Unwinder

        return Unwinder(kernel)

    def switch_frame(
        self, memory: Memory, types: Types, find_address: Callable[[str], int | None], thread_size: Callable[[], int]
    ) -> SwitchFrame:
        from gdb_kdump.arch.x86_64.switch_frame import SwitchFrame

        return SwitchFrame(memory, types, find_address, thread_size)

"""The registers of x86-64: GDB's names, DWARF's numbers, the order of a crash note, and the kernel's names."""

from __future__ import annotations

from gdb_kdump.arch.registers import Flags, Register, RegisterSet
from gdb_kdump.formats.notes import Field
from gdb_kdump.records.rows import Context

PC, SP = "rip", "rsp"
CALLEE_SAVED = ("rbx", "rbp", "r12", "r13", "r14", "r15")
RESTORED = (PC, *CALLEE_SAVED)
"""What a row of unwind information says of the caller, besides its stack pointer."""
UNWOUND_BY = (PC, SP, "rbp", "rbx", "r12", "r13", "r14", "r15", "rax", "rdi", "rdx", "r10")
"""What such rows begin from."""

_CORE, _LINUX, _SEGMENTS = "org.gnu.gdb.i386.core", "org.gnu.gdb.i386.linux", "org.gnu.gdb.i386.segments"

# The order is the one that GDB requires of an i386:x86-64 target.  DWARF's numbers are those of the psABI, the order of
# the note that of struct user_regs_struct, arch/x86/include/asm/user_64.h.
#    name    bits  GDB's type  DWARF  note  struct pt_regs
_REGISTERS = (
    ("rax", 64, "int64", 0, 10, "ax"),
    ("rbx", 64, "int64", 3, 5, "bx"),
    ("rcx", 64, "int64", 2, 11, "cx"),
    ("rdx", 64, "int64", 1, 12, "dx"),
    ("rsi", 64, "int64", 4, 13, "si"),
    ("rdi", 64, "int64", 5, 14, "di"),
    ("rbp", 64, "data_ptr", 6, 4, "bp"),
    ("rsp", 64, "data_ptr", 7, 19, "sp"),
    ("r8", 64, "int64", 8, 9, "r8"),
    ("r9", 64, "int64", 9, 8, "r9"),
    ("r10", 64, "int64", 10, 7, "r10"),
    ("r11", 64, "int64", 11, 6, "r11"),
    ("r12", 64, "int64", 12, 3, "r12"),
    ("r13", 64, "int64", 13, 2, "r13"),
    ("r14", 64, "int64", 14, 1, "r14"),
    ("r15", 64, "int64", 15, 0, "r15"),
    ("rip", 64, "code_ptr", 16, 16, "ip"),
    ("eflags", 32, "i386_eflags", None, 18, "flags"),
    ("cs", 32, "int32", None, 17, "cs"),
    ("ss", 32, "int32", None, 20, "ss"),
    ("ds", 32, "int32", None, 23, ""),
    ("es", 32, "int32", None, 24, ""),
    ("fs", 32, "int32", None, 25, ""),
    ("gs", 32, "int32", None, 26, ""),
)  # fmt: skip
_X87 = [(f"st{number}", 80, "i387_ext") for number in range(8)] + [
    (name, 32, "int") for name in ("fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop")
]
_EFLAGS = (
    ("CF", 0), ("", 1), ("PF", 2), ("AF", 4), ("ZF", 6), ("SF", 7), ("TF", 8), ("IF", 9), ("DF", 10), ("OF", 11),
    ("NT", 14), ("RF", 16), ("VM", 17), ("AC", 18), ("VIF", 19), ("VIP", 20), ("ID", 21),
)  # fmt: skip
KERNEL_GS_BASE = "kernel_gs_base"  # the MSR that a program's gs_base is exchanged with: swapgs
# struct QEMUCPUState of QEMU's target/i386/arch_dump.c: two 32-bit words, 18 registers, 10 segments and tables of 24
# bytes, 5 control registers; an old QEMU ends there.
_QEMU = (Field(KERNEL_GS_BASE, 8 + 8 * 18 + 24 * 10 + 8 * 5, 8),)
# struct DBGFCORECPU of VirtualBox's include/VBox/vmm/dbgfcorefmt.h: 64-bit registers, then a struct DBGFCORESEL of each
# segment, of which uBase is the first member and uSel the fourth; 4 control and 8 debug registers, 2 tables of 16
# bytes, 2 more segments, 9 words of MSRs before the one of swapgs.
_VIRTUALBOX_WORDS = (
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip", "rsp", "rbp",
    "eflags",
)  # fmt: skip
_VIRTUALBOX_SEGMENTS = ("cs", "ds", "es", "fs", "gs", "ss")
_SELECTORS_AT, _SELECTOR_BYTES, _USEL = 8 * len(_VIRTUALBOX_WORDS), 24, 16
_VIRTUALBOX = (
    *(Field(name, 8 * number, 8) for number, name in enumerate(_VIRTUALBOX_WORDS)),
    *(
        Field(name, _SELECTORS_AT + _SELECTOR_BYTES * number + _USEL, 2)
        for number, name in enumerate(_VIRTUALBOX_SEGMENTS)
    ),
    *(
        Field(f"{name}_base", _SELECTORS_AT + _SELECTOR_BYTES * _VIRTUALBOX_SEGMENTS.index(name), 8)
        for name in ("fs", "gs")
    ),
    Field(KERNEL_GS_BASE, _SELECTORS_AT + _SELECTOR_BYTES * 8 + 8 * 12 + 16 * 2 + 8 * 9, 8),
)

REGISTERS = RegisterSet(
    "i386:x86-64",
    [
        *(Register(name, bits, gdb_type, _CORE, *rest) for name, bits, gdb_type, *rest in _REGISTERS),
        *(Register(name, bits, gdb_type, _CORE) for name, bits, gdb_type in _X87),
        Register("orig_rax", 64, "int", _LINUX, None, 15, "orig_ax"),
        Register("fs_base", 64, "int", _SEGMENTS, None, 21),
        Register("gs_base", 64, "int", _SEGMENTS, None, 22),
    ],
    16,
    [Flags("i386_eflags", _CORE, _EFLAGS)],
    _QEMU,
    _VIRTUALBOX,
)

PT_REGS = Context(REGISTERS.members)
"""All of a struct pt_regs."""
IRET_FRAME = Context(("ip", "cs", "flags", "sp", "ss"))
"""What the CPU itself pushes, the end of a struct pt_regs."""

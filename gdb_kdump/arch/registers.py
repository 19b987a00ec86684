"""The registers of a machine: one list, from which everything that names registers takes what it needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gdb_kdump.formats.notes import Field


@dataclass(frozen=True)
class Register:
    """One register, by GDB's name."""

    name: str
    bits: int
    type: str
    """GDB's type of it: int64, code_ptr, ..."""
    feature: str
    """The feature of GDB's target description that it belongs to."""
    dwarf: int | None = None
    """DWARF's number of it; that of the program counter is the column of the return address."""
    note: int | None = None
    """Which of the words of elf_prstatus.pr_reg it is."""
    member: str = ""
    """The kernel's name of it: the member of struct pt_regs."""


@dataclass(frozen=True)
class Flags:
    """A type of GDB's whose bits have names: (name, bit)."""

    name: str
    feature: str
    fields: Sequence[tuple[str, int]]


class RegisterSet:
    """All registers of a machine, in the order that GDB requires of its target description."""

    def __init__(
        self,
        gdb_name: str,
        registers: Sequence[Register],
        return_column: int,
        flags: Sequence[Flags] = (),
        qemu: Sequence[Field] = (),
        virtualbox: Sequence[Field] = (),
    ) -> None:
        self.gdb_name = gdb_name
        """What GDB calls the machine: `set architecture`."""
        self.return_column = return_column
        """DWARF's number of the register that has the return address."""
        self.all = tuple(registers)
        self._flags = tuple(flags)
        self.by_name = {register.name: register for register in registers}
        self.by_member = {register.member: register.name for register in registers if register.member}
        """GDB's names by those of struct pt_regs."""
        numbered = sorted((register.dwarf, register.name) for register in registers if register.dwarf is not None)
        self.dwarf = tuple(name for _, name in numbered)
        """The names by DWARF's numbers, which begin at 0 and leave none out."""
        noted = sorted((register.note, register.name) for register in registers if register.note is not None)
        self.note = tuple(name for _, name in noted)
        """The names in the order of elf_prstatus.pr_reg."""
        self.qemu = tuple(qemu)
        """What QEMU's own note has besides those: GDB need not know it."""
        self.virtualbox = tuple(virtualbox)
        """Those that stand in VirtualBox's DBGFCORECPU; none where it has no such machine."""
        self.members = tuple(self.by_name[name].member for name in self.note if self.by_name[name].member)
        """The members of struct pt_regs in that order."""

    def target_xml(self) -> bytes:
        """GDB's description of the machine, with no osabi: a dump is no Linux process."""
        lines = [
            '<?xml version="1.0"?>\n<!DOCTYPE target SYSTEM "gdb-target.dtd">\n<target>\n',
            f"<architecture>{self.gdb_name}</architecture>\n",
        ]
        for feature in dict.fromkeys(register.feature for register in self.all):
            lines.append(f'<feature name="{feature}">\n')
            for flags in self._flags:
                if flags.feature == feature:
                    lines.append(f'<flags id="{flags.name}" size="4">\n')
                    lines += (f'<field name="{name}" start="{bit}" end="{bit}"/>\n' for name, bit in flags.fields)
                    lines.append("</flags>\n")
            lines += (
                f'<reg name="{register.name}" bitsize="{register.bits}" type="{register.type}"/>\n'
                for register in self.all if register.feature == feature
            )  # fmt: skip
            lines.append("</feature>\n")
        lines.append("</target>\n")
        return "".join(lines).encode()

"""DWARF call frames, against pyelftools' decoder on what gcc makes, and by hand where gcc makes nothing of the kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from gdb_kdump.arch.x86_64.registers import CALLEE_SAVED
from gdb_kdump.arch.x86_64.registers import REGISTERS as X86_64
from gdb_kdump.formats.cfi import CallFrames

REGISTERS = X86_64.dwarf

SOURCE = """
#include <stdarg.h>
int sink(void *);
int leaf(int a) { return a * 3; }
int saves(int a, int b, int c, int d, int e, int f) {
    char buffer[200];
    int x = leaf(a), y = sink(buffer), z = sink(&x), w = sink(&y);
    return x * y + z * w + a + b + c + d + e + f + sink(&z);
}
int early(int a) { if (a < 3) return 0; char big[4096 * 4]; return sink(big) + saves(a, 1, 2, 3, 4, 5); }
int aligned(int a) { __attribute__((aligned(64))) char b[64]; return sink(b) + a; }
int dynamic(int n) { char b[n]; return sink(b); }
int varied(int a, ...) { va_list l; va_start(l, a); int r = va_arg(l, int); va_end(l); return sink(&r); }
int many(int a,int b,int c,int d,int e,int f,int g,int h,int i) { return saves(a,b,c,d,e,f)+g+h+saves(i,h,g,f,e,d); }
int sink(void *p) { return *(int *)p; }
int main(void) {
    return saves(1,2,3,4,5,6) + early(5) + aligned(1) + dynamic(9) + varied(1,2) + many(1,2,3,4,5,6,7,8,9);}
"""

OPTIONS = {
    "-O0": ("-O0",),
    "-O2": ("-O2", "-fno-inline"),
    "-O2 -fno-omit-frame-pointer": ("-O2", "-fno-inline", "-fno-omit-frame-pointer"),
    "-Os": ("-Os", "-fno-inline", "-mno-red-zone"),
}
# .debug_frame, as a kernel has it, and no .eh_frame of the program's own.
FLAGS = ("-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-fno-stack-protector", "-fcf-protection=none")


@pytest.mark.parametrize("options", OPTIONS)
def test_every_address_is_decoded_as_pyelftools_does(compile_types: Callable[..., Path], options: str) -> None:
    with compile_types(SOURCE, *FLAGS, *OPTIONS[options]).open("rb") as file:
        elf = ELFFile(file)
        frames = CallFrames(elf.get_section_by_name(".debug_frame").data(), REGISTERS)
        compared = 0
        for entry in elf.get_dwarf_info().CFI_entries():
            if "initial_location" not in entry.header:
                continue
            start, size = entry["initial_location"], entry["address_range"]
            table = entry.get_decoded().table
            for addr in range(start, start + size):
                compared += compare(frames, addr, [row for row in table if row["pc"] <= addr][-1])
    assert compared > 300


def compare(frames: CallFrames, addr: int, expected: dict[object, object]) -> int:
    found = frames.find(addr)
    cfa = expected["cfa"]
    if cfa.expr is not None:  # type: ignore[attr-defined]
        assert found is None, hex(addr)
        return 1
    assert found is not None, hex(addr)
    assert found.cfa_register == REGISTERS[cfa.reg], hex(addr)  # type: ignore[attr-defined]
    assert found.cfa_offset == cfa.offset, hex(addr)  # type: ignore[attr-defined]
    saved = {
        REGISTERS[number]: rule.arg  # type: ignore[attr-defined]
        for number, rule in expected.items()
        if isinstance(number, int) and number < 16 and rule.type == "OFFSET"  # type: ignore[attr-defined]
    }
    assert {name: offset for name, offset in found.saved.items() if name in CALLEE_SAVED} == saved, hex(addr)
    return 1


def test_addresses_between_functions_have_no_row(compile_types: Callable[..., Path]) -> None:
    with compile_types(SOURCE, *FLAGS, "-O2").open("rb") as file:
        elf = ELFFile(file)
        frames = CallFrames(elf.get_section_by_name(".debug_frame").data(), REGISTERS)
        entries = [e for e in elf.get_dwarf_info().CFI_entries() if "initial_location" in e.header]
    first = min(entry["initial_location"] for entry in entries)
    last = max(entry["initial_location"] + entry["address_range"] for entry in entries)
    for addr in (0, first - 1, last, 0xFFFFFFFFFFFFFFFF):
        assert frames.find(addr) is None
    assert frames.find(first) is not None


def section(*instructions: int) -> bytes:
    """A CIE (CFA = rsp+8, return address at CFA-8) and one FDE for 0x1000 to 0x1100 with these instructions."""
    cie = b"\xff\xff\xff\xff\x03\0\x01\x78\x10" + bytes([0x0C, 7, 8, 0x80 | 16, 1])
    cie += b"\0" * (-(len(cie) + 4) % 8)
    fde = (0).to_bytes(4, "little") + (0x1000).to_bytes(8, "little") + (0x100).to_bytes(8, "little")
    fde += bytes(instructions)
    fde += b"\0" * (-(len(fde) + 4) % 8)
    return b"".join(len(entry).to_bytes(4, "little") + entry for entry in (cie, fde))


def test_remember_and_restore_state() -> None:
    frames = CallFrames(section(0x0E, 32, 0x83, 2, 0x44, 0x0A, 0x0E, 8, 0xC3, 0x48, 0x0B), REGISTERS)
    assert [(frames.find(at).cfa_offset, frames.find(at).saved.get("rbx")) for at in (0x1000, 0x1004, 0x100C)] == [  # type: ignore[union-attr]
        (32, -16), (8, None), (32, -16),
    ]  # fmt: skip


def test_a_register_of_which_nothing_is_known_is_lost() -> None:
    row = CallFrames(section(0x83, 2, 0x07, 3), REGISTERS).find(0x1000)
    assert row is not None and row.lost == {"rbx"} and "rbx" not in row.saved


def test_an_expression_for_the_cfa_gives_no_row() -> None:
    frames = CallFrames(section(0x44, 0x0F, 3, 0x77, 8, 0x06, 0x48, 0x0C, 6, 16), REGISTERS)
    assert frames.find(0x1003) is not None
    assert frames.find(0x1004) is None
    row = frames.find(0x100C)
    assert row is not None and (row.cfa_register, row.cfa_offset) == ("rbp", 16)


def test_an_undefined_return_address_is_the_end_of_the_stack() -> None:
    row = CallFrames(section(0x07, 16), REGISTERS).find(0x1000)
    assert row is not None and row.is_end


def test_an_empty_section_has_no_rows() -> None:
    assert CallFrames(b"", REGISTERS).find(0x1000) is None

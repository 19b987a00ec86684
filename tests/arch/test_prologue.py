"""Prologues of compiled functions: where each register was saved, and where the return address stands meanwhile."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from gdb_kdump.arch.x86_64.prologue import decode, words_to_return

# The case's own: push %rbp; mov %rsp,%rbp; push %r12; push %rbx; nopl; ...; pop %rbx; pop %r12; leave; ret.
SKB_RELEASE_DATA = bytes.fromhex("554889e541545" + "30f1f4400004989fc" + "e800000000" + "5b415cc9c3")
# gcc 4.4 saves by stores: push %rbp; mov %rsp,%rbp; sub $0x20,%rsp; mov %rbx,-0x18(%rbp); mov %r12,-0x10(%rbp);
# mov %r13,-0x8(%rbp); nopl; ...; mov -0x18(%rbp),%rbx; mov -0x10(%rbp),%r12; mov -0x8(%rbp),%r13; leave; ret.
BY_STORES = bytes.fromhex(
    "554889e54883ec2048895de84c8965f04c896df80f1f440000e800000000488b5de84c8b65f04c8b6df8c9c3"
)  # fmt: skip


def test_pushes() -> None:
    found = decode(SKB_RELEASE_DATA, 20)
    assert found is not None
    assert (found.frame_at, found.saved) == (0, {"r12": -8, "rbx": -16})
    assert found.kept == {"r13", "r14", "r15"}


def test_stores() -> None:
    found = decode(BY_STORES, 30)
    assert found is not None
    assert found.saved == {"rbx": -0x18, "r12": -0x10, "r13": -8}
    assert found.kept == {"r14", "r15"}


def test_only_what_was_saved_already() -> None:
    found = decode(SKB_RELEASE_DATA, 6)
    assert found is not None and found.saved == {"r12": -8}
    assert "rbx" not in found.kept


def test_the_return_address_before_the_frame_is_there() -> None:
    for start in (b"", bytes.fromhex("f30f1efa"), bytes.fromhex("f30f1efae812345678"), bytes.fromhex("0f1f440000")):
        code = start + SKB_RELEASE_DATA
        for offset, words in ((0, 0), (len(start), 0), (len(start) + 1, 1), (len(start) + 4, None), (len(code) - 1, 0)):
            assert words_to_return(code, offset, decode(code, offset)) == words, (start, offset)


def test_code_without_a_frame_tells_nothing() -> None:
    code = bytes.fromhex("31c0c3")
    assert decode(code, 2) is None
    assert [words_to_return(code, offset, None) for offset in (0, 1, 2)] == [0, None, 0]


@pytest.mark.parametrize("options", ["-O2", "-O2 -fcf-protection=full", "-O1 -mno-red-zone", "-Os"])
def test_what_gcc_makes_is_what_its_own_cfi_says(tmp_path: Path, options: str) -> None:
    """Every register that the prologue saves is where DWARF says."""
    from gdb_kdump.arch.x86_64.registers import REGISTERS
    from gdb_kdump.debuginfo.elf import ElfFile
    from gdb_kdump.formats.cfi import CallFrames

    (tmp_path / "p.c").write_text(
        "int g(int);\n"
        'int f(int a, int b, int c) { char l[300]; asm volatile("" : : "r"(l) : "r15", "memory");\n'
        "  int x = g(a); int y = g(b + x); return g(c) + x * y; }\n"
    )
    flags = [
        *options.split(),
        "-fno-omit-frame-pointer",
        "-fno-asynchronous-unwind-tables",
        "-g",
        "-nostdlib",
        "-shared",
    ]
    subprocess.run(["gcc", *flags, "-o", "p", "p.c", "-fPIC"], cwd=tmp_path, check=True)
    elf = ElfFile(tmp_path / "p")
    symbol = elf.find_symbol("f")
    assert symbol is not None
    code = elf.read(symbol.value, symbol.size)
    body = code.index(b"\xe8", 8)  # the first call of g
    row, found = CallFrames(elf.section(".debug_frame"), REGISTERS.dwarf).find(symbol.value + body), decode(code, body)
    assert row is not None and found is not None
    assert row.cfa_register == "rbp"
    in_dwarf = {name: at + row.cfa_offset for name, at in row.saved.items() if name not in ("rip", "rbp")}
    assert found.saved == in_dwarf
    assert found.saved

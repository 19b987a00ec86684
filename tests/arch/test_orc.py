"""ORC's numbers of registers have had two meanings, of which only the table itself tells."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from patched_dump import PatchedDump
from pytest_gdb_fixtures import KERNELS, Gdb, LabDump

from gdb_kdump.arch.x86_64.orc import indirect_cfa, orc_registers
from gdb_kdump.records.rows import Cfa

# arch/x86/include/asm/orc_types.h as of v4.14 (with what v7.1 added), and as 1735858caa4b (v7.1) reordered it.
OLD = ("UNDEFINED", "PREV_SP", "DX", "DI", "BP", "SP", "R10", "R13", "BP_INDIRECT", "SP_INDIRECT", "AX")
NEW = ("UNDEFINED", "AX", "DX", "SP", "BP", "DI", "R10", "R13", "PREV_SP", "SP_INDIRECT", "BP_INDIRECT")
NAMES = {"UNDEFINED": "", "PREV_SP": "cfa", "BP_INDIRECT": "[rbp]", "SP_INDIRECT": "[rsp]", "SP": "rsp", "BP": "rbp",
         "AX": "rax", "DX": "rdx", "DI": "rdi", "R10": "r10", "R13": "r13"}  # fmt: skip
ENTRY = 6  # sizeof(struct orc_entry): two offsets, then a byte with sp_reg in its lower half and bp_reg in the other


@pytest.mark.parametrize("numbers", [OLD, NEW])
def test_most_frames_are_based_on_the_stack_pointer(numbers: tuple[str, ...]) -> None:
    often = {"SP": 470, "UNDEFINED": 30, "BP": 9, "DI": 2, "R10": 1}
    bases = {numbers.index(name): count for name, count in often.items()}
    assert orc_registers(bases) == tuple(NAMES[name] for name in numbers)


def test_a_table_that_is_not_in_the_dump_is_an_old_one() -> None:
    assert orc_registers({}) == tuple(NAMES[name] for name in OLD)


STACK, TEXT = 0xFFFFC90000003F58, range(0xFFFFFFFF81000000, 0xFFFFFFFF82000000)


@pytest.mark.parametrize(
    ("words", "offset", "expected"),
    [
        # v4.14 to v5.11: the old stack pointer stands after the return address that was pushed after it.
        ({0: TEXT[100], 8: STACK}, 8, STACK),
        # v5.12 and later: the old stack pointer stands first, and what was pushed before it is above where it points.
        ({0: STACK, 8: TEXT[100]}, 8, STACK + 8),
        # Without an offset both mean the same.
        ({0: STACK}, 0, STACK),
    ],
)
def test_an_indirect_stack_pointer_has_meant_two_things(words: dict[int, int], offset: int, expected: int) -> None:
    sp = 0xFFFFC90000800FF0
    stack = {sp + at: word for at, word in words.items()}
    cfa = indirect_cfa(stack.__getitem__, TEXT.__contains__, sp, offset)
    assert (stack[sp + offset] if cfa is Cfa.WORD else stack[sp] + offset) == expected


# arch/x86/include/asm/orc_types.h as of v5.x, and as of v6.4 with three bits of type and `signal`.
ENTRIES = {
    False: """struct orc_entry { short sp_offset, bp_offset; unsigned sp_reg:4, bp_reg:4, type:2, end:1; }
              __attribute__((packed));""",
    True: """struct orc_entry { short sp_offset, bp_offset; unsigned sp_reg:4, bp_reg:4, type:3, signal:1; }
             __attribute__((packed));""",
}


def is_renumbered() -> bool:
    import gdb

    from gdb_kdump.arch.x86_64.orc import orc_types_renumbered
    from gdb_kdump.layout.layout import Layout

    return orc_types_renumbered(Layout(gdb.lookup_type))


@pytest.mark.parametrize("renumbered", ENTRIES)
def test_types_were_renumbered_with_the_third_bit(
    in_gdb: Callable[..., Any], compile_types: Callable[..., Path], renumbered: bool
) -> None:
    program = compile_types(ENTRIES[renumbered] + " struct orc_entry orc;")
    assert in_gdb(is_renumbered, elf=program) is renumbered


def renumbered(table: bytes) -> bytes:
    """The table with the other numbers: those that it has are told by the most frequent base."""
    bases = Counter(byte & 15 for byte in table[4::ENTRY])
    now, then = (OLD, NEW) if bases.most_common(1)[0][0] == OLD.index("SP") else (NEW, OLD)
    other = [then.index(name) for name in now] + [15] * (16 - len(now))
    found = bytearray(table)
    found[4::ENTRY] = bytes(other[byte & 15] | other[byte >> 4] << 4 for byte in table[4::ENTRY])
    return bytes(found)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_same_traces_with_the_other_numbers(
    gdb_run: Gdb, lab_dump: Callable[[str], LabDump], kernel: str, tmp_path: Path
) -> None:
    dump = lab_dump(f"{kernel}-reference")
    ends = [f"print (unsigned long)&__{end}_orc_unwind" for end in ("start", "stop")]
    before = gdb_run("kbt -a --json", *ends, vmcore=dump.vmcore).succeeded()
    start, stop = map(int, re.findall(r"\$\d = (\d+)", before.stdout))
    patched = PatchedDump(dump.vmcore, tmp_path / "patched.vmcore")
    patched.write_image(start, renumbered(patched.read(start, stop - start)))
    after = gdb_run("kbt -a --json", "bt", vmcore=patched.path).succeeded()
    assert before.json()["tasks"] == after.json()["tasks"]
    assert len(before.json()["tasks"]) > 50

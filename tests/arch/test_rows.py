"""ORC's entries in the words of DWARF, and the one list of registers beside what GDB, DWARF and the kernel say."""

from __future__ import annotations

import pytest

from gdb_kdump.arch.architecture import ARCHITECTURES, Architecture
from gdb_kdump.arch.x86_64.orc import FrameType, OrcEntry
from gdb_kdump.arch.x86_64.registers import IRET_FRAME, PT_REGS
from gdb_kdump.records.rows import Cfa


def test_a_call_with_its_frame_pointer_saved() -> None:
    row = OrcEntry("rsp", 32, "cfa", -16, FrameType.CALL).row()
    assert row is not None
    assert (row.cfa, row.cfa_register, row.cfa_offset) == (Cfa.SUM, "rsp", 32)
    assert row.saved == {"rip": -8, "rbp": -16} and not row.saved_elsewhere
    assert row.lost == {"rbx", "r12", "r13", "r14", "r15"}
    assert row.may_change_stack and not row.is_dwarf and row.context is None


def test_a_frame_pointer_that_is_the_same_in_the_caller() -> None:
    row = OrcEntry("rsp", 8, "", 0, FrameType.CALL).row()
    assert row is not None and row.saved == {"rip": -8} and "rbp" not in row.lost


def test_a_frame_that_was_realigned() -> None:
    row = OrcEntry("[rbp]", -8, "rbp", 0, FrameType.CALL).row()
    assert row is not None
    assert (row.cfa, row.cfa_register, row.cfa_offset) == (Cfa.WORD, "rbp", -8)
    assert row.saved_elsewhere == {"rbp": ("rbp", 0)}


@pytest.mark.parametrize(("frame_type", "context"), [(FrameType.REGS, PT_REGS), (FrameType.REGS_PARTIAL, IRET_FRAME)])
def test_an_interruption(frame_type: FrameType, context: object) -> None:
    row = OrcEntry("rsp", 0, "", 0, frame_type).row()
    assert row is not None and row.context is context and not row.saved


def test_the_end_and_what_is_not_known() -> None:
    end = OrcEntry("", 0, "", 0, FrameType.END_OF_STACK).row()
    assert end is not None and end.is_end
    assert OrcEntry("rsp", 8, "", 0, FrameType.UNDEFINED).row() is None
    assert OrcEntry("", 8, "", 0, FrameType.CALL).row() is None


@pytest.mark.parametrize("arch", ARCHITECTURES, ids=lambda arch: arch.name)
def test_one_list_of_registers(arch: Architecture) -> None:
    registers = arch.registers
    noted = sorted(register.note for register in registers.all if register.note is not None)
    numbers = sorted(register.dwarf for register in registers.all if register.dwarf is not None)
    assert noted == list(range(len(registers.note))), "a crash note leaves no word out"
    assert numbers == list(range(len(registers.dwarf))), "DWARF leaves no number out"
    assert {arch.pc, arch.sp, *arch.unwound_by, *registers.by_member.values()} <= {*registers.by_name}
    assert registers.target_xml().count(b"<reg ") == len(registers.all) == len(registers.by_name)

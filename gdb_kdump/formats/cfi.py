"""DWARF call frame information: at each address, where the caller's frame and the registers that it keeps are.

Decodes .debug_frame (DWARF 5, section 6.4), whose entries GDB does not hand out to Python.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

from gdb_kdump.records.rows import END_OF_STACK, Row

_HEADER = struct.Struct("<IIQQ")  # length, CIE offset, start, size of an FDE in 32-bit DWARF
_CIE_ID = 0xFFFFFFFF


@dataclass(frozen=True)
class _Cie:
    code_align: int
    data_align: int
    return_column: int
    instructions: bytes


class CallFrames:
    """The rows of one .debug_frame section, found by link-time address.

    `registers` are the names by DWARF's numbers, that of the return address's column included; of others, nothing
    is told.
    """

    def __init__(self, section: bytes, registers: Sequence[str]) -> None:
        self._section = section
        self._registers = registers
        self._cies: dict[int, _Cie | None] = {}
        entries = sorted(_fdes(section))
        self._starts = [start for start, _ in entries]
        self._offsets = [offset for _, offset in entries]

    def find(self, addr: int) -> Row | None:
        """The row that governs an address, or None where there is none or it takes an expression to say."""
        number = bisect_right(self._starts, addr) - 1
        if number < 0:
            return None
        at = self._offsets[number]
        length, cie_offset, start, size = _HEADER.unpack_from(self._section, at)
        cie = self._cie(cie_offset)
        if addr >= start + size or cie is None:
            return None
        program = self._section[at + _HEADER.size : at + 4 + length]
        return self._row(cie, _run(cie, program, start, addr))

    def _row(self, cie: _Cie, rules: _Rules) -> Row | None:
        names = self._registers
        if rules.cfa is None or rules.cfa[0] >= len(names):
            return None
        if cie.return_column in rules.lost:
            return END_OF_STACK
        saved = {names[number]: offset for number, offset in rules.saved.items() if number < len(names)}
        lost = frozenset(names[number] for number in rules.lost if number < len(names))
        return Row(names[rules.cfa[0]], rules.cfa[1], saved=saved, lost=lost)

    def _cie(self, offset: int) -> _Cie | None:
        if offset not in self._cies:
            self._cies[offset] = _read_cie(self._section, offset)
        return self._cies[offset]


def _fdes(section: bytes) -> list[tuple[int, int]]:
    fdes, at, end = [], 0, len(section) - _HEADER.size
    while at <= end:
        length, cie, start, size = _HEADER.unpack_from(section, at)
        if cie != _CIE_ID and size:
            fdes.append((start, at))
        at += 4 + length
    return fdes


def _read_cie(section: bytes, at: int) -> _Cie | None:
    length = int.from_bytes(section[at : at + 4], "little")
    cursor = _Cursor(section[: at + 4 + length], at + 8)
    version = cursor.u8()
    augmentation = cursor.string()
    if version >= 4:
        cursor.u8()  # address size
        cursor.u8()  # segment selector size
    if augmentation:
        return None  # only .eh_frame has any
    code_align, data_align = cursor.uleb(), cursor.sleb()
    return_column = cursor.u8() if version == 1 else cursor.uleb()
    return _Cie(code_align, data_align, return_column, section[cursor.at : at + 4 + length])


@dataclass
class _Rules:
    """The rules while a program runs: a CFA of None takes an expression to say."""

    cfa: tuple[int, int] | None = None
    saved: dict[int, int] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)

    def copy(self) -> _Rules:
        return _Rules(self.cfa, dict(self.saved), set(self.lost))

    def forget(self, register: int) -> None:
        self.saved.pop(register, None)
        self.lost.discard(register)


def _run(cie: _Cie, program: bytes, start: int, addr: int) -> _Rules:
    rules = _Rules()
    _execute(cie, cie.instructions, rules, _Rules(), 0, 0)
    initial = rules.copy()
    _execute(cie, program, rules, initial, start, addr)
    return rules


def _execute(cie: _Cie, program: bytes, rules: _Rules, initial: _Rules, location: int, addr: int) -> None:
    """Run a program up to `addr`; DWARF 5, section 6.4.2."""
    cursor = _Cursor(program, 0)
    stack: list[_Rules] = []
    while cursor.at < len(program):
        byte = cursor.u8()
        high, low = byte & 0xC0, byte & 0x3F
        if high == 0x40:  # DW_CFA_advance_loc
            location += low * cie.code_align
        elif high == 0x80:  # DW_CFA_offset
            rules.forget(low)
            rules.saved[low] = cursor.uleb() * cie.data_align
        elif high == 0xC0:  # DW_CFA_restore
            _restore(rules, initial, low)
        elif byte in (0x02, 0x03, 0x04):  # DW_CFA_advance_loc1, 2, 4
            location += cursor.uint(1 << byte - 2) * cie.code_align
        elif byte == 0x01:  # DW_CFA_set_loc
            location = cursor.uint(8)
        elif byte == 0x05 or byte == 0x11:  # DW_CFA_offset_extended, _sf
            register = cursor.uleb()
            rules.forget(register)
            rules.saved[register] = (cursor.uleb() if byte == 0x05 else cursor.sleb()) * cie.data_align
        elif byte == 0x06:  # DW_CFA_restore_extended
            _restore(rules, initial, cursor.uleb())
        elif byte == 0x08:  # DW_CFA_same_value
            rules.forget(cursor.uleb())
        elif byte == 0x0A:  # DW_CFA_remember_state
            stack.append(rules.copy())
        elif byte == 0x0B and stack:  # DW_CFA_restore_state
            old = stack.pop()
            rules.cfa, rules.saved, rules.lost = old.cfa, old.saved, old.lost
        elif byte == 0x0C:  # DW_CFA_def_cfa
            rules.cfa = (cursor.uleb(), cursor.uleb())
        elif byte == 0x12:  # DW_CFA_def_cfa_sf
            rules.cfa = (cursor.uleb(), cursor.sleb() * cie.data_align)
        elif byte == 0x0D:  # DW_CFA_def_cfa_register
            rules.cfa = (cursor.uleb(), rules.cfa[1] if rules.cfa else 0)
        elif byte == 0x0E:  # DW_CFA_def_cfa_offset
            offset = cursor.uleb()
            rules.cfa = (rules.cfa[0], offset) if rules.cfa else None
        elif byte == 0x13:  # DW_CFA_def_cfa_offset_sf
            offset = cursor.sleb() * cie.data_align
            rules.cfa = (rules.cfa[0], offset) if rules.cfa else None
        elif byte == 0x0F:  # DW_CFA_def_cfa_expression
            rules.cfa = None
            cursor.skip(cursor.uleb())
        elif byte in (0x07, 0x09, 0x10, 0x14, 0x15, 0x16):  # undefined, register, expression, val_*: value unknown
            register = cursor.uleb()
            rules.forget(register)
            rules.lost.add(register)
            if byte in (0x10, 0x16):
                cursor.skip(cursor.uleb())
            elif byte != 0x07:
                cursor.uleb()
        elif byte == 0x2E:  # DW_CFA_GNU_args_size
            cursor.uleb()
        if addr and location > addr:
            return


def _restore(rules: _Rules, initial: _Rules, register: int) -> None:
    rules.forget(register)
    if register in initial.saved:
        rules.saved[register] = initial.saved[register]


class _Cursor:
    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self.at = at

    def u8(self) -> int:
        self.at += 1
        return self._data[self.at - 1]

    def uint(self, size: int) -> int:
        self.at += size
        return int.from_bytes(self._data[self.at - size : self.at], "little")

    def skip(self, size: int) -> None:
        self.at += size

    def string(self) -> bytes:
        end = self._data.index(b"\0", self.at)
        text, self.at = self._data[self.at : end], end + 1
        return text

    def uleb(self) -> int:
        value = shift = 0
        while True:
            byte = self.u8()
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value

    def sleb(self) -> int:
        start = self.at
        value = self.uleb()
        bits = 7 * (self.at - start)
        return value - (1 << bits) if value >> bits - 1 else value

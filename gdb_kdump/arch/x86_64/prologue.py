"""What a function compiled with frame pointers did with its caller's registers, read from its instructions.

For code without call frame information: kernels without .debug_frame, and modules without debug information.
"""

from __future__ import annotations

from dataclasses import dataclass

_FRAME = b"\x55\x48\x89\xe5"  # push %rbp; mov %rsp,%rbp
# What can stand before it: endbr64, and a call of __fentry__ or the nop in its place.
_BEFORE = {b"\xf3\x0f\x1e\xfa": 4, b"\xe8": 5, b"\x0f\x1f\x44\x00\x00": 5}
_PUSHES = {b"\x53": "rbx", b"\x41\x54": "r12", b"\x41\x55": "r13", b"\x41\x56": "r14", b"\x41\x57": "r15"}
_POPS = {"rbx": b"\x5b", "r12": b"\x41\x5c", "r13": b"\x41\x5d", "r14": b"\x41\x5e", "r15": b"\x41\x5f"}
# mov %reg,disp8(%rbp) and disp32(%rbp): how gcc 4 saved registers; and mov disp8(%rbp),%reg back.
_STORES = {
    b"\x48\x89\x5d": "rbx", b"\x4c\x89\x65": "r12", b"\x4c\x89\x6d": "r13", b"\x4c\x89\x75": "r14",
    b"\x4c\x89\x7d": "r15",
}  # fmt: skip
_LOADS = {
    "rbx": b"\x48\x8b\x5d", "r12": b"\x4c\x8b\x65", "r13": b"\x4c\x8b\x6d", "r14": b"\x4c\x8b\x75",
    "r15": b"\x4c\x8b\x7d",
}  # fmt: skip
_SUB8, _SUB32 = b"\x48\x83\xec", b"\x48\x81\xec"  # sub $n,%rsp
_NOP = b"\x0f\x1f\x44\x00\x00"  # of ftrace
_ARITHMETIC = (0x01, 0x09, 0x21, 0x29, 0x31, 0x39, 0x85, 0x89, 0x8B)  # add, or, and, sub, xor, cmp, test, mov
_LEA = 0x8D
_CALL = 0xE8
_RET = 0xC3


@dataclass(frozen=True)
class Prologue:
    """`frame_at` is the offset of push %rbp (bytes); `saved` maps callee-saved registers to their offset from rbp.

    `kept` are those that the function never restores, and so has not changed.
    """

    frame_at: int
    saved: dict[str, int]
    kept: frozenset[str]


def decode(code: bytes, offset: int) -> Prologue | None:
    """The prologue of a function with these instructions up to `offset` (bytes), or None where it makes no frame.

    `code` is the whole function: a register that is kept must nowhere be restored.
    """
    at = 0
    while not code.startswith(_FRAME, at):
        size = next((size for start, size in _BEFORE.items() if code.startswith(start, at)), 0)
        if not size:
            return None
        at += size
    frame_at = at
    at += len(_FRAME)
    saved: dict[str, int] = {}
    below = 0  # rbp - rsp
    while at < offset:
        push = next((start for start in _PUSHES if code.startswith(start, at)), None)
        store = next((start for start in _STORES if code.startswith((start, _wide(start)), at)), None)
        if push is not None:
            below += 8
            saved[_PUSHES[push]] = -below
            at += len(push)
        elif store is not None:
            size = 1 if code.startswith(store, at) else 4
            saved[_STORES[store]] = int.from_bytes(code[at + 3 : at + 3 + size], "little", signed=True)
            at += 3 + size
        elif code.startswith((_SUB8, _SUB32), at):
            size = 1 if code.startswith(_SUB8, at) else 4
            below += int.from_bytes(code[at + 3 : at + 3 + size], "little")
            at += 3 + size
        elif code.startswith(_NOP, at):
            at += len(_NOP)
        elif size := _between_registers(code, at):
            at += size
        else:
            break
    kept = frozenset(name for name in _POPS if name not in saved and not _restores(code, name))
    return Prologue(frame_at, saved, kept)


def ends_in_call(code: bytes) -> bool:
    """Whether these 7 bytes end in a call: what stands before a return address.  Direct, or by register or memory."""
    if len(code) < 7:
        return False
    return code[-5] == _CALL or any(code[-size] == 0xFF and code[1 - size] >> 3 & 7 == 2 for size in (2, 3, 4, 6, 7))


def call_target(code: bytes, return_address: int) -> int | None:
    """The function that the direct call in these 5 bytes before a return address calls, or None."""
    if len(code) < 5 or code[0] != _CALL:
        return None
    return (return_address + int.from_bytes(code[1:5], "little", signed=True)) & (1 << 64) - 1


def words_to_return(code: bytes, offset: int, prologue: Prologue | None) -> int | None:
    """How many words above rsp the return address stands while the frame is not there; None once it is.

    `offset` is that of the instruction that was interrupted: a prologue's, or ret.
    """
    if not offset or code[offset : offset + 1] == bytes([_RET]):
        return 0
    if prologue is None or offset > prologue.frame_at + 1:
        return None
    return max(offset - prologue.frame_at, 0)


def _between_registers(code: bytes, at: int) -> int:
    """The size of an instruction that works on registers only, as gcc puts them between the pushes; 0 for others."""
    start = at + (code[at] & 0xF0 == 0x40)
    if start + 1 >= len(code):
        return 0
    mode, base = code[start + 1] >> 6, code[start + 1] & 7
    if code[start] in _ARITHMETIC and mode == 3:
        return start + 2 - at
    if code[start] == _LEA and mode in (1, 2) and base != 4:  # base 4 would be followed by another byte
        return start + (3 if mode == 1 else 6) - at
    return 0


def _restores(code: bytes, name: str) -> bool:
    load = _LOADS[name]
    return _POPS[name] in code or load in code or _wide(load) in code


def _wide(move: bytes) -> bytes:
    """The same instruction with a displacement of 32 bits: other bits of its ModRM."""
    return move[:2] + bytes([move[2] ^ 0xC0])

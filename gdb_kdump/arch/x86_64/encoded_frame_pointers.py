"""Frame pointers: how kernels built with them find a caller; arch/x86/kernel/unwind_frame.c: unwind_next_frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping

_LARGEST_FRAME = 1 << 14  # bytes: a whole kernel stack


def caller_of(registers: Mapping[str, int], read: Callable[[int], int]) -> dict[str, int] | int | None:
    """The registers of the caller by the chain of frame pointers, or the address of a `struct pt_regs`, or None.

    `registers` are GDB's names and values of the callee, `read` gives the u64 at an address and may raise Unreadable.
    An rbp with its lowest bit set is an encoded pointer to pt_regs: 946c191161ce (v4.9) x86/entry/unwind: Create stack
    frames for saved interrupt registers.
    """
    base, sp = registers.get("rbp"), registers["rsp"]
    if base is None:
        return None
    if base & 1:
        return base - 1 if 0 <= base - 1 - sp < _LARGEST_FRAME else None
    if base % 8 or not 0 <= base - sp < _LARGEST_FRAME:
        return None
    return {"rip": read(base + 8), "rsp": base + 16, "rbp": read(base)}

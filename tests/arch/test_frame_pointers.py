"""The chain of frame pointers, on stacks made by hand: plain frames, encoded pt_regs, and chains that are broken."""

from __future__ import annotations

from gdb_kdump.arch.x86_64.frame_pointers import Encoded, Linked, follow_link

STACK = 0xFFFF88106F035A00


def read(addr: int) -> int:
    """A stack whose every word is its own address."""
    return addr


def test_a_plain_frame() -> None:
    link = follow_link({"rip": 1, "rsp": STACK, "rbp": STACK + 0x20}, read)
    assert link == Linked({"rip": STACK + 0x28, "rsp": STACK + 0x30, "rbp": STACK + 0x20})


def test_encoded_pt_regs() -> None:
    assert follow_link({"rip": 1, "rsp": STACK, "rbp": STACK + 0x41}, read) == Encoded(STACK + 0x40)


def test_a_broken_chain_ends() -> None:
    for base in (0, STACK - 8, STACK + 4, STACK + 0x10000, 0x4002030400585A08, STACK + 0x10001):
        assert follow_link({"rip": 1, "rsp": STACK, "rbp": base}, read) is None
    assert follow_link({"rip": 1, "rsp": STACK}, read) is None

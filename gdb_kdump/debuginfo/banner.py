"""Whether a vmlinux is that of a dump whose kernel noted no build-id: their linux_banner must be the same text.

0935288c6e00 (v5.9) kdump: append kernel build-id string to VMCOREINFO.
"""

from __future__ import annotations

from gdb_kdump.debuginfo.elf import ElfFile
from gdb_kdump.errors import Unreadable, UsageError
from gdb_kdump.memory import Memory
from gdb_kdump.text import escape


def check(elf: ElfFile, memory: Memory, kaslr_offset: int) -> None:
    """Raise UsageError when the dump has another kernel's banner where `elf` has its own; init/version.c: linux_banner.

    A dump that lacks the page, or that has nothing there, tells nothing.
    """
    symbol = elf.find_symbol("linux_banner")
    expected = elf.banner
    if symbol is None or not expected:
        return
    try:
        found = memory.cstring(symbol.value + (kaslr_offset if symbol.relocated else 0), len(expected) + 256)
    except Unreadable:
        return
    if found and found != expected:
        text = escape(found.decode("utf-8", "replace").strip()) if found.startswith(b"Linux version ") else "none"
        raise UsageError(
            f"{elf.path} is the vmlinux of another kernel: its banner is {escape(expected.strip())!r}, the dump has "
            f"{text!r} there; name the vmlinux of the kernel that crashed"
        )

"""What the files of dumps begin with."""

from __future__ import annotations

from pathlib import Path

ELF = b"\x7fELF"
KDUMP = (b"KDUMP   ", b"DISKDUMP")
FLATTENED = b"makedumpfile\0"
LIME = b"EMiL"  # 0x4C694D45, little-endian


def looks_like_dump(path: Path) -> bool:
    """Whether a file begins as a dump does, and not as a vmlinux does; false when it cannot be read."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(18)
    except OSError:
        return False
    core = head.startswith(ELF) and head[16:18] in (b"\4\0", b"\0\4")
    return core or head.startswith((*KDUMP, FLATTENED, LIME))


def looks_like_program(path: Path) -> bool:
    """Whether a file begins as a vmlinux does: an ELF program or library; false when it cannot be read."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(18)
    except OSError:
        return False
    return head.startswith(ELF) and head[16:18] in (b"\2\0", b"\0\2", b"\3\0", b"\0\3")

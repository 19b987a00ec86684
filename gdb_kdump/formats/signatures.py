"""What the files of dumps begin with."""

from __future__ import annotations

from pathlib import Path

ELF = b"\x7fELF"
KDUMP = (b"KDUMP   ", b"DISKDUMP")
FLATTENED = b"makedumpfile\0"


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
    return core or head.startswith((*KDUMP, FLATTENED))

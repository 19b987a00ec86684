"""What the files of dumps begin with."""

from __future__ import annotations

from pathlib import Path

ELF = b"\x7fELF"
KDUMP = (b"KDUMP   ", b"DISKDUMP")
FLATTENED = b"makedumpfile\0"
LIME = b"EMiL"  # 0x4C694D45, little-endian


_CORE, _PROGRAMS = b"\4\0", (b"\2\0", b"\3\0")  # e_type: ET_CORE; ET_EXEC, ET_DYN


def looks_like_dump(path: Path) -> bool:
    """Whether a file begins as a dump does, and not as a vmlinux does; false when it cannot be read."""
    head = _head(path)
    return _is_elf_of(head, (_CORE,)) or head.startswith((*KDUMP, FLATTENED, LIME))


def looks_like_program(path: Path) -> bool:
    """Whether a file begins as a vmlinux does: an ELF program or library; false when it cannot be read."""
    return _is_elf_of(_head(path), _PROGRAMS)


def _is_elf_of(head: bytes, types: tuple[bytes, ...]) -> bool:
    """Whether a file is ELF of one of these types, of either byte order."""
    return head.startswith(ELF) and (head[16:18] in types or head[17:15:-1] in types)


def _head(path: Path) -> bytes:
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(18)
    except OSError:
        return b""

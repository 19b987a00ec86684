"""Data that is packed: files by gzip, bzip2, xz and zstd, and the sections of ELF files."""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from gdb_kdump.errors import DumpError


def _zstd() -> Any:
    from gdb_kdump.debuginfo import zstd  # and ctypes with it, which takes a while

    return zstd.decompressor()


_PIECE = 1 << 16  # bytes: what comes out of them is held at once
_GZIP = 16 + zlib.MAX_WBITS
_CHDR = struct.Struct("<IIQQ")  # Elf64_Chdr: ch_type, ch_reserved, ch_size, ch_addralign
_GNU = struct.Struct(">4sQ")  # .zdebug_*: "ZLIB", size
_ELFCOMPRESS: dict[int, tuple[str, Callable[[], Any]]] = {1: ("zlib", zlib.decompressobj), 2: ("zstd", _zstd)}

# How a packed file begins, the suffix of its name, what unpacks it here, and by hand.
_FORMS: tuple[tuple[bytes, str, Callable[[], Any], str], ...] = (
    (b"\x1f\x8b", ".gz", lambda: zlib.decompressobj(_GZIP), "gzip -dk"),
    (b"BZh", ".bz2", bz2.BZ2Decompressor, "bzip2 -dk"),
    (b"\xfd7zXZ\0", ".xz", lzma.LZMADecompressor, "xz -dk"),
    (b"\x28\xb5\x2f\xfd", ".zst", _zstd, "zstd -d"),
)
SUFFIXES = tuple(suffix for _, suffix, _, _ in _FORMS)
_ERRORS = (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError)


def unpacking_command(beginning: bytes) -> str | None:
    """The command that unpacks a file which begins so, without its name; None for a file that is not packed."""
    return next((command for magic, _, _, command in _FORMS if beginning.startswith(magic)), None)


def unpacked(file: BinaryIO) -> Iterator[bytes]:
    """What a packed file holds, in pieces; raises DumpError with the reason where it is damaged or cut off."""
    beginning = file.read(8)
    make = next(make for magic, _, make, _ in _FORMS if beginning.startswith(magic))
    stream, data = make(), beginning + file.read(_PIECE)
    try:
        while data:
            if stream.eof:  # another stream follows, or padding
                data = data.lstrip(b"\0") or file.read(_PIECE)
                stream = make() if data else stream
                continue
            piece = stream.decompress(data)
            if piece:
                yield piece
            data = (getattr(stream, "unused_data", b"") if stream.eof else b"") or file.read(_PIECE)
    except _ERRORS as error:
        if isinstance(error, DumpError):
            raise
        raise DumpError(f"it is damaged ({error})") from error
    if not stream.eof:
        raise DumpError("it is cut off")


def section_contents(data: bytes, has_header: bool) -> bytes:
    """The contents of a compressed ELF section: with an Elf64_Chdr, or of a .zdebug_* section.

    Raises DumpError with the reason, ValueError for damage.
    """
    if len(data) < (_CHDR.size if has_header else _GNU.size):
        raise ValueError("a compressed section has no header")
    if has_header:
        kind, _, size, _ = _CHDR.unpack_from(data)
        start = _CHDR.size
        if kind not in _ELFCOMPRESS:
            raise DumpError(f"its sections are compressed in a way that is not known here (ch_type {kind})")
    else:
        magic, size = _GNU.unpack_from(data)
        kind, start = 1, _GNU.size
        if magic != b"ZLIB":  # `as` leaves a section as it is where compressing it gains nothing
            return data
    name, make = _ELFCOMPRESS[kind]
    try:
        contents = bytes(make().decompress(data[start:]))
    except _ERRORS as error:
        if isinstance(error, DumpError):
            raise
        raise ValueError(f"a section compressed by {name}: {error}") from error
    if len(contents) != size:
        raise ValueError(f"a section compressed by {name} has {len(contents)} bytes, not {size}")
    return contents


def compression(header: bytes) -> str:
    """The name of what a section with that Elf64_Chdr was compressed by."""
    kind = int.from_bytes(header[:4], "little")
    return _ELFCOMPRESS[kind][0] if kind in _ELFCOMPRESS else f"ch_type {kind}"


def section_size(header: bytes, is_compressed: bool, is_zdebug: bool, size: int) -> int:
    """The size in bytes of a section's contents, by what it begins with."""
    if is_compressed and len(header) >= _CHDR.size:
        return int(_CHDR.unpack_from(header)[2])
    if is_zdebug and header.startswith(b"ZLIB") and len(header) >= _GNU.size:
        return int(_GNU.unpack_from(header)[1])
    return size

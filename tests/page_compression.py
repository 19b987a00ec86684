"""Compresses a page as makedumpfile does, with the libraries that libkdumpfile itself needs."""

from __future__ import annotations

import ctypes
import zlib
from collections.abc import Callable


def _lzo(page: bytes) -> bytes:
    library = ctypes.CDLL("liblzo2.so.2")
    work = ctypes.create_string_buffer(1 << 17)  # LZO1X_1_MEM_COMPRESS on 64-bit machines
    out = ctypes.create_string_buffer(len(page) + len(page) // 16 + 67)
    size = ctypes.c_size_t(0)
    assert library.lzo1x_1_compress(page, ctypes.c_size_t(len(page)), out, ctypes.byref(size), work) == 0
    return out.raw[: size.value]


def _snappy(page: bytes) -> bytes:
    library = ctypes.CDLL("libsnappy.so.1")
    library.snappy_max_compressed_length.restype = ctypes.c_size_t
    size = ctypes.c_size_t(library.snappy_max_compressed_length(ctypes.c_size_t(len(page))))
    out = ctypes.create_string_buffer(size.value)
    assert library.snappy_compress(page, ctypes.c_size_t(len(page)), out, ctypes.byref(size)) == 0
    return out.raw[: size.value]


def _zstd(page: bytes) -> bytes:
    library = ctypes.CDLL("libzstd.so.1")
    library.ZSTD_compress.restype = ctypes.c_size_t
    out = ctypes.create_string_buffer(2 * len(page) + 512)
    size = library.ZSTD_compress(out, ctypes.c_size_t(len(out)), page, ctypes.c_size_t(len(page)), 1)
    assert 0 < size <= len(out)
    return out.raw[:size]


# The name, the flag of struct page_desc, and what makes a page smaller.
METHODS: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "raw": (0, lambda page: page),
    "zlib": (0x1, lambda page: zlib.compress(page, 1)),
    "lzo": (0x2, _lzo),
    "snappy": (0x4, _snappy),
    "zstd": (0x20, _zstd),
}


def compress(page: bytes, method: str) -> tuple[bytes, int]:
    """What to store of a page, and the flag that says how; a page that does not get smaller is stored as it is."""
    flag, smaller = METHODS[method]
    stored = smaller(page)
    return (stored, flag) if len(stored) < len(page) else (page, 0)

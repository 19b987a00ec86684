"""Pages that are stored by zlib: by libdeflate where the machine has it, which takes half the time, else by zlib."""

from __future__ import annotations

import ctypes
import zlib
from typing import Protocol

_LIBDEFLATE = "libdeflate.so.0"


class Inflater(Protocol):
    """Makes pages of what is stored of them; raises ValueError where that is no page."""

    def take(self, data: bytes) -> None:
        """Have the stored pages taken out of these bytes from now on."""

    def put(self, offset: int, size: int, out: bytearray, at: int, page_size: int) -> None:
        """Put the page that is stored in `size` bytes at `offset` into `out`, from `at` on."""


def inflater() -> Inflater:
    """The fastest that this machine has."""
    try:
        return _ByLibdeflate()
    except (OSError, AttributeError, MemoryError):
        return _ByZlib()


class _ByZlib:
    def __init__(self) -> None:
        self._data = memoryview(b"")

    def take(self, data: bytes) -> None:
        self._data = memoryview(data)

    def put(self, offset: int, size: int, out: bytearray, at: int, page_size: int) -> None:
        try:
            page = zlib.decompress(self._data[offset : offset + size], zlib.MAX_WBITS, page_size)
        except zlib.error as error:
            raise ValueError(str(error)) from None
        if len(page) != page_size:
            raise ValueError(f"a page of {len(page)} bytes")
        out[at : at + page_size] = page


class _ByLibdeflate:
    """Raises OSError, AttributeError, MemoryError where it cannot be had."""

    def __init__(self) -> None:
        library = ctypes.CDLL(_LIBDEFLATE)
        make, self._decompress = library.libdeflate_alloc_decompressor, library.libdeflate_zlib_decompress
        make.argtypes, make.restype = (), ctypes.c_void_p
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self._decompress.argtypes, self._decompress.restype = (
            (pointer, pointer, size, pointer, size, pointer),
            ctypes.c_int,
        )
        self._own = make()  # it goes with the process
        if not self._own:
            raise MemoryError
        self._data, self._data_at = b"", 0

    def take(self, data: bytes) -> None:
        self._data = data  # kept, as its address is
        self._data_at = ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0

    def put(self, offset: int, size: int, out: bytearray, at: int, page_size: int) -> None:
        if not (0 <= offset <= len(self._data) - size and 0 <= at <= len(out) - page_size):
            raise ValueError("outside of what there is")
        to = ctypes.addressof(ctypes.c_char.from_buffer(out, at))
        # Without a place for the size it wants to fill all of it.
        if self._decompress(self._own, self._data_at + offset, size, to, page_size, None):
            raise ValueError("no page stored by zlib")

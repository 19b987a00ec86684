"""Pages that are stored by zlib: by libdeflate where the machine has it, which takes half the time, else by zlib."""

from __future__ import annotations

import ctypes
import zlib
from typing import Protocol

_LIBDEFLATE = "libdeflate.so.0"


class Inflater(Protocol):
    """Makes pages of what is stored of them."""

    def take(self, data: bytes) -> None:
        """Have the stored pages taken out of these bytes from now on."""

    def begin(self, pages: bytearray, page_size: int) -> None:
        """Have pages of so many bytes put there from now on; its size must stay."""

    def put(self, offset: int, size: int, to: int) -> None:
        """Put the page that is stored in `size` bytes at `offset` among the others, from `to` on.

        Raises ValueError where that is no page.
        """


def inflater() -> Inflater:
    """The fastest that this machine has."""
    try:
        return ByLibdeflate()
    except (OSError, AttributeError, MemoryError):
        return ByZlib()


class ByZlib:
    """Python's own."""

    def __init__(self) -> None:
        self._data = memoryview(b"")
        self._pages, self._page_size = bytearray(), 0

    def take(self, data: bytes) -> None:
        self._data = memoryview(data)

    def begin(self, pages: bytearray, page_size: int) -> None:
        self._pages, self._page_size = pages, page_size

    def put(self, offset: int, size: int, to: int) -> None:
        try:
            page = zlib.decompress(self._data[offset : offset + size], zlib.MAX_WBITS, self._page_size)
        except zlib.error as error:
            raise ValueError(str(error)) from None
        if len(page) != self._page_size:
            raise ValueError(f"a page of {len(page)} bytes")
        self._pages[to : to + self._page_size] = page


class ByLibdeflate:
    """Raises OSError, AttributeError, MemoryError where it cannot be had."""

    def __init__(self) -> None:
        library = ctypes.CDLL(_LIBDEFLATE)
        make, self._decompress = library.libdeflate_alloc_decompressor, library.libdeflate_zlib_decompress
        make.argtypes, make.restype = (), ctypes.c_void_p
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self._decompress.argtypes = pointer, pointer, size, pointer, size, pointer
        self._decompress.restype = ctypes.c_int
        self._own = make()  # it goes with the process
        if not self._own:
            raise MemoryError
        self._data, self._data_at = b"", 0
        self._pages, self._pages_at, self._page_size = bytearray(), 0, 0

    def take(self, data: bytes) -> None:
        self._data = data  # kept, as its address is
        self._data_at = ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0

    def begin(self, pages: bytearray, page_size: int) -> None:
        self._pages, self._page_size = pages, page_size
        self._pages_at = ctypes.addressof(ctypes.c_char.from_buffer(pages))

    def put(self, offset: int, size: int, to: int) -> None:
        page_size = self._page_size
        if offset < 0 or offset + size > len(self._data) or to < 0 or to + page_size > len(self._pages):
            raise ValueError("outside of what there is")
        # Without a place for the size it wants to fill all of the page.
        if self._decompress(self._own, self._data_at + offset, size, self._pages_at + to, page_size, None):
            raise ValueError("no page stored by zlib")

"""zstd in GDB's Python: from its standard library where that has it (3.14), else from the libzstd of the system."""

from __future__ import annotations

import ctypes
import importlib
from typing import Any

from gdb_kdump.errors import DumpError

_LIBRARY = "libzstd.so.1"


class _Buffer(ctypes.Structure):
    """zstd.h: ZSTD_inBuffer, and ZSTD_outBuffer, which has the same members."""

    _fields_ = (("place", ctypes.c_void_p), ("size", ctypes.c_size_t), ("position", ctypes.c_size_t))


class _Stream:
    """A ZSTD_DStream that is given data piece by piece, like lzma.LZMADecompressor: one frame after another."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        library.ZSTD_createDStream.restype = ctypes.c_void_p
        library.ZSTD_freeDStream.argtypes = (ctypes.c_void_p,)
        library.ZSTD_decompressStream.argtypes = (ctypes.c_void_p, ctypes.POINTER(_Buffer), ctypes.POINTER(_Buffer))
        library.ZSTD_decompressStream.restype = library.ZSTD_DStreamOutSize.restype = ctypes.c_size_t
        library.ZSTD_isError.argtypes = library.ZSTD_getErrorName.argtypes = (ctypes.c_size_t,)
        library.ZSTD_getErrorName.restype = ctypes.c_char_p
        self._stream = library.ZSTD_createDStream()
        self._room = ctypes.create_string_buffer(library.ZSTD_DStreamOutSize())
        self.eof = False

    def decompress(self, data: bytes) -> bytes:
        """What comes out of these bytes; raises ValueError."""
        given = ctypes.create_string_buffer(data, len(data))
        source = _Buffer(ctypes.cast(given, ctypes.c_void_p), len(data), 0)
        parts = []
        while True:
            target = _Buffer(ctypes.cast(self._room, ctypes.c_void_p), len(self._room), 0)
            left = self._library.ZSTD_decompressStream(self._stream, ctypes.byref(target), ctypes.byref(source))
            if self._library.ZSTD_isError(left):
                raise ValueError(self._library.ZSTD_getErrorName(left).decode())
            parts.append(self._room.raw[: target.position])
            self.eof = left == 0
            if source.position == len(data) and (self.eof or target.position < len(self._room)):
                return b"".join(parts)

    def __del__(self) -> None:
        self._library.ZSTD_freeDStream(self._stream)


class _Standard:
    """The same by Python's own module, whose errors are those of no other."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._stream = module.ZstdDecompressor()

    @property
    def eof(self) -> bool:
        return bool(self._stream.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._stream.unused_data)

    def decompress(self, data: bytes) -> bytes:
        try:
            return bytes(self._stream.decompress(data))
        except self._module.ZstdError as error:
            raise ValueError(str(error)) from error


def decompressor() -> Any:
    """An object with decompress(data) and eof, as those of lzma and bz2; raises DumpError where there is no zstd."""
    try:
        return _Standard(importlib.import_module("compression.zstd"))
    except ImportError:  # before Python 3.14
        pass
    try:
        return _Stream(ctypes.CDLL(_LIBRARY))
    except OSError as error:
        raise DumpError(
            f"it is compressed by zstd, and there is no {_LIBRARY}: install libzstd1 (Debian) or libzstd (RHEL, SUSE)"
        ) from error

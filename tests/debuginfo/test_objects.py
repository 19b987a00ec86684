"""C objects as JSON, in any GDB."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

SOURCE = """
struct flexible { int count; char data[]; };
struct row { short a; unsigned char b[3]; };
struct table { struct flexible *some[2]; struct row rows[2]; long grid[2][2]; } table;
"""


def test_arrays(in_gdb: Callable[..., Any], compile_types: Callable[..., Path]) -> None:
    """GDB 16 cannot take an element of `some` out of bytes."""

    def table() -> Any:
        import struct

        import gdb

        from gdb_kdump.debuginfo.objects import Object, to_json

        kind = gdb.lookup_type("struct table")
        data = struct.pack("<QQh4Bh4B4x4q", 0x10, 0x20, -1, 1, 2, 3, 0, -2, 4, 5, 6, 0, 1, 2, 3, 4)
        return to_json(Object(kind, 0, data, ()))

    assert in_gdb(table, elf=compile_types(SOURCE)) == {
        "some": ["0x0000000000000010", "0x0000000000000020"],
        "rows": [{"a": -1, "b": [1, 2, 3]}, {"a": -2, "b": [4, 5, 6]}],
        "grid": [[1, 2], [3, 4]],
    }

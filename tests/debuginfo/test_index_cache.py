"""GDB's index of a vmlinux is used for that vmlinux only: GDB 13.1 aborts on one of other DWARF."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

BUILD_ID = "0123456789abcdef0123456789abcdef01234567"


def prepare_and_print(vmlinux: str, name: str) -> str:
    """What GDB prints of a variable when it has read a vmlinux with our index."""
    from pathlib import Path

    import gdb

    from gdb_kdump.debuginfo import index_cache
    from gdb_kdump.debuginfo.elf import ElfFile

    cache = index_cache.prepare(ElfFile(Path(vmlinux)), lambda seconds: None)
    gdb.execute(f"set index-cache directory {cache}")
    gdb.execute("set index-cache enabled on")
    gdb.execute(f"symbol-file {vmlinux}")
    return str(gdb.execute(f"ptype {name}", to_string=True))


def test_another_vmlinux_of_the_same_build_id(
    in_gdb: Callable[..., Any], compile_types: Callable[..., Path], tmp_path: Path
) -> None:
    env = {"XDG_CACHE_HOME": str(tmp_path)}
    flag = f"-Wl,--build-id=0x{BUILD_ID}"
    first = compile_types("struct one { int member; } one;", flag)
    second = compile_types(
        "struct other { struct { long a, b; } inner; } other; int more(int a, int b) { return a * b + other.inner.a; }",
        flag,
    )
    assert "int member" in in_gdb(prepare_and_print, str(first), "one", env=env)
    folder = tmp_path / "gdb-kdump" / "index"
    index = next(path for path in folder.iterdir() if path.name.startswith(BUILD_ID) and path.suffix != ".crc32")
    before = index.read_bytes()
    assert "long a" in in_gdb(prepare_and_print, str(second), "other", env=env)
    assert index.read_bytes() != before


def test_another_gdbs_index_is_made_anew(
    in_gdb: Callable[..., Any], compile_types: Callable[..., Path], tmp_path: Path
) -> None:
    env = {"XDG_CACHE_HOME": str(tmp_path)}
    program = str(compile_types("struct one { int member; } one;", f"-Wl,--build-id=0x{BUILD_ID}"))
    folder = tmp_path / "gdb-kdump" / "index"
    index, maker = folder / f"{BUILD_ID}.gdb-index", folder / f"gdb-of-{BUILD_ID}"
    for made_anew in (True, False, True):
        before = index.stat().st_mtime_ns if index.exists() else 0
        assert "int member" in in_gdb(prepare_and_print, program, "one", env=env)
        assert (index.stat().st_mtime_ns != before) == made_anew
        if not made_anew:
            maker.write_text("another\n")


def test_an_index_that_another_gdb_is_writing_is_left_alone(
    in_gdb: Callable[..., Any], compile_types: Callable[..., Path], tmp_path: Path
) -> None:
    env = {"XDG_CACHE_HOME": str(tmp_path)}
    program = str(compile_types("struct one { int member; } one;", f"-Wl,--build-id=0x{BUILD_ID}"))
    assert "int member" in in_gdb(prepare_and_print, program, "one", env=env)
    index = tmp_path / "gdb-kdump" / "index" / f"{BUILD_ID}.gdb-index"
    index.with_name(f"{index.name}-EKJlUG").symlink_to(tmp_path / "gone")  # GDB renames it when it is whole
    before = index.stat().st_mtime_ns
    assert "int member" in in_gdb(prepare_and_print, program, "one", env=env)
    assert index.stat().st_mtime_ns == before

"""The dump through libkdumpfile: the only file that imports kdumpfile, and that knows its releases and their habits."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

import kdumpfile  # type: ignore[import-untyped]

from gdb_kdump.errors import DumpError, Why
from gdb_kdump.paging import IMAGE_MAP, IMAGE_SIZE, PageTables
from gdb_kdump.preflight import Examined
from gdb_kdump.wire import Hole, Run

_PAGE = 4096
_MOST_FOUND = 1 << 16
_TOP = 1 << 64
_CACHED_PAGES = 64  # libkdumpfile looks through all of them for every page: its own 1024 make a page cost 5 µs, not 2
_GDB_NAMES = {"rflags": "eflags"}
_TOP_TABLES = ("init_top_pgt", "init_level4_pgt", "swapper_pg_dir")

if hasattr(kdumpfile, "Context"):  # pykdumpfile, the bindings since libkdumpfile 0.5.4
    _KVADDR, _MACHPHYSADDR = kdumpfile.KVADDR, kdumpfile.MACHPHYSADDR
    _KdumpfileError = kdumpfile.KdumpfileError
    _NoData = kdumpfile.NoDataError
    _NotTranslated = kdumpfile.AddressTranslationError
    _EndOfFile = kdumpfile.EOFError
    _Damaged = kdumpfile.CorruptError
    _NotImplemented = kdumpfile.NotImplementedError

    def _open(path: str) -> Any:
        file = kdumpfile.Context()
        file.attr["file.mmap_policy"] = 0
        file.open(path)
        return file

    def _blob(value: Any) -> bytes:
        return value.get()  # type: ignore[no-any-return]

else:  # the bindings in libkdumpfile's own tree: Debian 12's python3-libkdumpfile
    from kdumpfile import exceptions

    _KVADDR, _MACHPHYSADDR = kdumpfile.KDUMP_KVADDR, kdumpfile.KDUMP_MACHPHYSADDR
    _KdumpfileError = exceptions.KDumpBaseException
    _NoData = exceptions.NoDataException
    _NotTranslated = exceptions.AddressTranslationException
    _EndOfFile = exceptions.EOFException
    _Damaged = exceptions.CorruptException
    _NotImplemented = exceptions.NotImplementedException

    def _open(path: str) -> Any:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            file = kdumpfile.kdumpfile(file=f"/proc/self/fd/{descriptor}")  # it takes no path that is not UTF-8
        finally:
            os.close(descriptor)
        file.attr["file.mmap_policy"] = 0  # here it can be said only when the headers were mapped already
        return file

    def _blob(value: Any) -> bytes:
        return bytes(value)


class Dump:
    """An open dump of an x86_64 Linux kernel."""

    def __init__(self, examined: Examined) -> None:
        """Open it; raises DumpError when libkdumpfile cannot."""
        self._path = examined.path
        self._examined = examined
        self._absent = examined.absent
        self._found: dict[int, int | Why] = {}  # by page: what _present() said of it
        try:
            # With mmap a file that is too short means SIGBUS; without, an error.
            self._file = _open(examined.path)
        except (_KdumpfileError, OSError) as error:
            raise self._cannot("opened", error) from None
        arch = self._text("arch.name")
        if arch != "x86_64":
            machine = arch or "an unknown machine"
            raise DumpError(f"{self._path} is a dump of {machine}: only x86_64 dumps can be opened")
        self._file.attr["cache.size"] = _CACHED_PAGES
        # 0.5.1's get_addrxlat_ctx() would break every later read, so its translation cannot be watched from here.
        self._tables = self._page_tables() if examined.must_check else None
        if self._tables is not None:
            return  # and libkdumpfile's translation never begins: it would hold pages of a cache that we renew
        try:
            self._file.attr["addrxlat.ostype"] = "linux"
        except _KdumpfileError as error:
            raise self._cannot("read through the kernel's page tables", error) from None

    def info(self) -> dict[str, Any]:
        """What the dump is, ready for JSON.

        format, arch, release, nodename, page_size, max_pfn, phys_base, cpus (how many), registers (by CPU: those known,
        by GDB's names), pids (by CPU), vmcoreinfo (its raw text, or None), files [{path, size}], preflight (a Report).
        """
        cpus = self._number("cpu.number") or 0
        return {
            "format": self._text("file.description") or self._text("file.format") or "unknown",
            "arch": self._text("arch.name"),
            "release": self._text("linux.uts.release"),
            "nodename": self._text("linux.uts.nodename"),
            "page_size": self._number("arch.page_size"),
            "max_pfn": self._number("max_pfn"),
            "phys_base": self._number("linux.phys_base"),
            "cpus": cpus,
            "registers": [self._registers(cpu) for cpu in range(cpus)],
            "pids": [self._number(f"cpu.{cpu}.pid") for cpu in range(cpus)],
            "vmcoreinfo": self._vmcoreinfo(),
            "files": [{"path": self._path, "size": self._examined.size}],
            "preflight": asdict(self._examined.report),
        }

    def read(self, addr: int, size: int) -> list[Run]:
        """The bytes and holes at kernel virtual address `addr`, in order, `size` bytes in all."""
        if not size:
            return []
        if self._tables is None:
            try:
                return [bytes(self._file.read(_KVADDR, addr, size))]
            except _KdumpfileError:
                pass  # somewhere in it is a hole
        runs: list[Run] = []
        at, end = addr, addr + size
        while at < end:
            length = min(_PAGE - at % _PAGE, end - at)
            if at >= _TOP:
                _append(runs, Hole(length, Why.UNMAPPED))
            elif self._tables is None:
                run = self._read_in_page(_KVADDR, at, length)
                _append(runs, Hole(length, run) if isinstance(run, Why) else run)
            else:
                physical = self._present(self._tables, at)
                if isinstance(physical, Why):
                    _append(runs, Hole(length, physical))
                else:
                    while at + length < end and self._present(self._tables, at + length) == physical + length:
                        length += min(_PAGE, end - at - length)
                    self._read_present(runs, physical, length)
            at += length
        return runs

    def set_direct_map(self, base: int) -> None:
        """Say where the kernel maps all physical memory: page_offset_base, a u64 in the kernel's image.

        Where a truncated dump has lost page tables, this still finds the pages that it has.
        """
        if self._tables is not None:
            self._tables.linear.append((base, (self._number("max_pfn") or 0) * _PAGE, 0))
            self._found.clear()

    def _present(self, tables: PageTables, addr: int) -> int | Why:
        """The physical address of a virtual one, or why the file has no data for it."""
        page = addr & -_PAGE
        found = self._found.get(page)
        if found is None:
            if len(self._found) >= _MOST_FOUND:
                self._found.clear()
            physical = tables.physical(page)
            found = physical if isinstance(physical, Why) else self._absent(physical) or physical
            self._found[page] = found
        return found if isinstance(found, Why) else found + addr - page

    def _read_present(self, runs: list[Run], physical: int, size: int) -> None:
        """Append what is at a physical address that the file should have."""
        try:
            _append(runs, bytes(self._file.read(_MACHPHYSADDR, physical, size)))
            return
        except _KdumpfileError:
            pass  # one of its pages is damaged
        at, end = physical, physical + size
        while at < end:
            length = min(_PAGE - at % _PAGE, end - at)
            run = self._read_in_page(_MACHPHYSADDR, at, length)
            _append(runs, Hole(length, run) if isinstance(run, Why) else run)
            at += length
        self._renew_cache()

    def _renew_cache(self) -> None:
        """Have libkdumpfile begin with an empty cache: a failed read has left it a hole to fall into; see preflight."""
        size = self._number("cache.size")
        if size is not None:
            self._file.attr["cache.size"] = size ^ 1  # it does nothing about the number that it has already

    def _read_physical(self, physical: int, size: int) -> bytes | Why:
        return self._absent(physical) or self._read_in_page(_MACHPHYSADDR, physical, size)

    def _read_in_page(self, space: int, addr: int, size: int) -> bytes | Why:
        try:
            return bytes(self._file.read(space, addr, size))  # 0.5.1 gives a bytearray
        except _NoData:
            return Why.FILTERED
        except _NotTranslated:
            return Why.UNMAPPED
        except _EndOfFile:
            return Why.TRUNCATED
        except _Damaged:
            return Why.CORRUPT
        except _NotImplemented as error:
            raise DumpError(f"{self._path} needs what this libkdumpfile was built without: {error}") from None
        except _KdumpfileError:
            return Why.UNKNOWN

    def _page_tables(self) -> PageTables | None:
        """Our own walk, or None when VMCOREINFO does not say where the tables are and every page is in the file."""
        symbols = (self._number(f"linux.vmcoreinfo.SYMBOL.{name}") for name in _TOP_TABLES)
        top = next((symbol for symbol in symbols if symbol), None)
        image_base = self._number("linux.phys_base")
        # phys_base may be negative, as an unsigned number: the image was loaded below where it was linked for.
        root = None if top is None or image_base is None else (top - IMAGE_MAP + image_base) % _TOP
        if root is None:
            root = self._number("cpu.0.reg.cr3")  # QEMU's dump-guest-memory notes it
        if root is None:
            if self._examined.report.sentence:
                raise self._cannot("read", KeyError("it has no VMCOREINFO"))
            return None
        levels = 5 if self._number("linux.vmcoreinfo.NUMBER.pgtable_l5_enabled") else 4
        encryption = self._number("linux.vmcoreinfo.NUMBER.sme_mask") or 0

        def read_page(physical: int) -> bytes | Why:
            return self._read_physical(physical, _PAGE)

        tables = PageTables(root & -_PAGE, levels, read_page, encryption)
        if image_base is not None:
            tables.linear.append((IMAGE_MAP, IMAGE_SIZE, image_base))
        return tables

    def _attribute(self, name: str) -> Any:
        try:
            return self._file.attr[name]
        except (KeyError, UnicodeDecodeError, _KdumpfileError):  # a damaged header has what text it has
            return None

    def _text(self, name: str) -> str | None:
        value = self._attribute(name)
        return value if isinstance(value, str) else None

    def _number(self, name: str) -> int | None:
        value = self._attribute(name)
        return value if isinstance(value, int) else None

    def _vmcoreinfo(self) -> str | None:
        raw = self._attribute("linux.vmcoreinfo.raw")
        return None if raw is None else _blob(raw).decode(errors="backslashreplace")

    def _registers(self, cpu: int) -> dict[str, int]:
        registers = self._attribute(f"cpu.{cpu}.reg")
        if registers is None:
            return {}
        return {_GDB_NAMES.get(name, name): registers[name] for name in registers}

    def _cannot(self, what: str, error: Exception) -> DumpError:
        if "Unknown file format" in str(error):
            return DumpError(f"{self._path} is no kernel dump that libkdumpfile knows: name the vmcore itself")
        damage = self._examined.report.sentence
        because = damage if damage else f"libkdumpfile says: {error}"
        return DumpError(f"{self._path} cannot be {what}: {because}")


def _append(runs: list[Run], run: Run) -> None:
    """Add `run`, joined with the last one when both are bytes or both are holes of a kind."""
    last = runs[-1] if runs else None
    if isinstance(last, bytes) and isinstance(run, bytes):
        runs[-1] = last + run
    elif isinstance(last, Hole) and isinstance(run, Hole) and last.why is run.why:
        runs[-1] = Hole(last.size + run.size, run.why)
    else:
        runs.append(run)

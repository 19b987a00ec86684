"""An open dump: its memory by physical and by virtual address, and what it says of itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gdb_kdump.arch.architecture import NAMES, Architecture, Located, Translation, by_elf_machine, by_name
from gdb_kdump.dump.library import KVADDR, File, KdumpfileError, NotImplementedHere, open_files
from gdb_kdump.dump.preflight import Examined
from gdb_kdump.errors import DumpError, Why
from gdb_kdump.formats.kdump_header import other_machine
from gdb_kdump.formats.memory_image import MemoryImage
from gdb_kdump.formats.notes import cpu_notes
from gdb_kdump.formats.vmcoreinfo import parse_vmcoreinfo
from gdb_kdump.records.dump_info import DumpInfo, NamedFile
from gdb_kdump.records.runs import Hole, Run, append

_MOST_FOUND = 1 << 16
_MOST_TRIED = 1 << 16
_TOP = 1 << 64


class Dump:
    """An open dump of a Linux kernel."""

    def __init__(self, examined: Examined) -> None:
        """Open it; raises DumpError when libkdumpfile cannot."""
        self._path = examined.path
        self._examined = examined
        self._elf = examined.segments if examined.segments and examined.segments.by_address else None
        self._pages: dict[int, int | Why] = {}  # by page: what _present() said of it
        self._is_plain = len(examined.kdumps) == 1 and not examined.gaps
        # ELF segments without physical addresses, /proc/kcore's, libkdumpfile reads by virtual ones; others it need not
        # see: it dies of damaged headers.
        self._by_library = examined.segments is not None and self._elf is None
        try:
            self._files = [] if self._elf else open_files(examined)
        except (KdumpfileError, OSError) as error:
            raise self._cannot("opened", error) from None
        # QEMU's kdump files name a machine, but no kernel, and libkdumpfile takes neither then.
        name = self._text("arch.name") or next((kdump.header.machine for kdump in examined.kdumps), "")
        arch = by_elf_machine(examined.segments.machine) if examined.segments else by_name(name)
        if arch is None:
            raise other_machine(examined.files[0], name or "an unknown machine", NAMES)
        self.arch: Architecture = arch
        self._page_size = arch.page_size
        raw = examined.vmcoreinfo
        self._vmcoreinfo = None if raw is None else raw.decode(errors="backslashreplace")
        self._tables: Translation | None = None
        if not self._by_library:
            self._tables = self._known_tables(parse_vmcoreinfo(self._vmcoreinfo or ""))
            return  # and libkdumpfile's translation never begins: it would hold pages of a cache that we renew
        try:
            self._files[0].library.attr["addrxlat.ostype"] = "linux"
        except KdumpfileError as error:
            raise self._cannot("read through the kernel's page tables", error) from None

    @property
    def bitmap_bytes(self) -> int:
        """The size of the page bitmaps, of which each process that opens the files has a copy."""
        return self._examined.bitmap_bytes

    def info(self) -> DumpInfo:
        """What the dump says of itself."""
        known = self.arch.registers
        cpus = cpu_notes(self._examined.notes, known.note, known.qemu, known.virtualbox)
        release = self._text("linux.uts.release") or parse_vmcoreinfo(self._vmcoreinfo or "").get("OSRELEASE")
        return DumpInfo(
            machine=self.arch.name,
            format=self._format(),
            release=release,
            max_pfn=self._most_pfn(),
            cpus=len(cpus),
            registers=[note.registers for note in cpus],
            pids=[note.pid for note in cpus],
            numbers=[note.number for note in cpus],
            vmcoreinfo=self._vmcoreinfo,
            translates=self._by_library or self._tables is not None,
            files=[NamedFile(file.path, file.file_size) for file in self._examined.files],
            report=self._examined.report,
        )

    def read(self, addr: int, size: int) -> list[Run]:
        """The bytes and holes at kernel virtual address `addr`, in order, `size` bytes in all."""
        runs: list[Run] = []
        position, end = addr, addr + size
        while position < end:
            length = min(self._page_size - position % self._page_size, end - position)
            if position >= _TOP:
                append(runs, Hole(length, Why.UNMAPPED))
            elif self._by_library:
                append(runs, self._files[0].read(KVADDR, position, length))
            else:
                physical, length = self._extent(position, end - position)
                if isinstance(physical, Why):
                    append(runs, Hole(length, physical))
                else:
                    self._read_present(runs, physical, length)
            position += length
        return runs

    def reopen(self, keep: int) -> None:
        """Take files of this process's own, which is going to read all of them: after a fork nothing may be shared.

        A window has `keep` bytes.  Raises DumpError.
        """
        if self._elf:
            return
        try:
            self._files = open_files(self._examined, keep)
            for file in self._files:
                file.read_in_order()
            if self._by_library:
                self._files[0].library.attr["addrxlat.ostype"] = "linux"
        except (KdumpfileError, OSError) as error:
            raise self._cannot("opened", error) from None

    def read_physical(self, physical: int, size: int) -> list[Run]:
        """The bytes and holes at a physical address, in order, `size` bytes in all."""
        if self._elf:
            return self._elf.read(physical, size)
        if self._by_library:
            raise DumpError(f"{self._path} does not say where in physical memory its pages are")
        runs: list[Run] = []
        while size:
            length, why = self._stretch(physical, size)
            if why is None:
                self._read_present(runs, physical, length)
            else:
                append(runs, Hole(length, why))
            physical += length
            size -= length
        return runs

    def hole(self, physical: int, size: int) -> Hole | None:
        """The hole at a physical address, up to `size` bytes of it, or None where the dump should have something."""
        if self._elf:
            return self._elf.hole(physical, size)
        length, why = self._stretch(physical, size)
        return None if why is None else Hole(length, why)

    def _stretch(self, physical: int, size: int) -> tuple[int, Why | None]:
        """Why no file has data for a physical address, or None, and for how many of the `size` bytes that is true."""
        for start, end in self._examined.gaps:
            if start * self._page_size <= physical < end * self._page_size:
                return min(size, end * self._page_size - physical), Why.TRUNCATED
        file = self._file_of(physical)
        if physical >= file.end:
            return size, Why.FILTERED
        return file.stretch(physical, min(size, file.end - physical))

    def mapped(self, start: int, end: int) -> list[tuple[int, int, int | Why]]:
        """What the kernel's page tables map of its half of the addresses, from `start` to before `end`.

        Each piece with its address, bytes, and the physical address, or why the table that would tell that is missing.
        """
        if self._tables is None:
            raise DumpError(f"{self._path} does not say where the kernel's page tables are")
        pieces: list[tuple[int, int, int | Why]] = []
        for addr, size, physical in self._tables.mapped(start, end):
            if pieces and isinstance(physical, int) and _follows(pieces[-1], addr, physical):
                pieces[-1] = pieces[-1][0], pieces[-1][1] + size, pieces[-1][2]
            else:
                pieces.append((addr, size, physical))
        return pieces

    def overwritten(self) -> str | None:
        """What is to be said when a file has been written to since it was opened, as far as reading has shown it."""
        for file in self._examined.files:
            if file.overwritten:
                return (
                    f"{file.path} has been written to since it was opened, and what is shown may be its old bytes or "
                    "its new ones: run `target kdump` again, after whatever copies it has ended"
                )
        return None

    def set_direct_map(self, base: int) -> None:
        """Say where the kernel maps all physical memory: the address of physical address 0.

        Where a truncated dump has lost page tables, this still finds the pages that it has.
        """
        if self._tables is not None:
            self._tables.linear.append((base, self._max_pfn() * self._page_size, 0))
            self._pages.clear()

    def look_for_direct_map(self) -> bool:
        """The same where the dump has lost that variable; whether the pages that are left tell it."""
        base = self.arch.find_direct_map(self._some_pages())
        if base is None:
            return False
        self.set_direct_map(base)
        return True

    def _some_pages(self) -> Iterator[tuple[int, bytes]]:
        """Pages from all over physical memory, as far as the dump has them: their addresses and contents."""
        end = self._max_pfn() * self._page_size
        for physical in range(0, end, max(self._page_size, end // _MOST_TRIED & -self._page_size)):
            page = self._read_physical(physical, self._page_size)
            if isinstance(page, bytes):
                yield physical, page

    def use_vmcoreinfo(self, text: str) -> bool:
        """Translate by a VMCOREINFO that the dump does not have; whether it says enough for that."""
        self._tables = self._known_tables(parse_vmcoreinfo(text))
        self._pages.clear()
        return self._tables is not None

    def find_kernel(self, banner: bytes, symbols: Mapping[str, int], kaslr_offset: int | None) -> int:
        """Look for the kernel in physical memory, to translate by its page tables; its KASLR offset.

        `kaslr_offset` is what the user knows of it, or None. Raises DumpError when it is not there.
        """
        kernels = self._located(banner, symbols)
        offsets = " and ".join(f"{one.kaslr_offset:#x}" for one in kernels)
        if kaslr_offset is not None:
            right = [one for one in kernels if one.kaslr_offset == kaslr_offset]
            if kernels and not right:
                raise DumpError(f"{self._path} has its kernel at the KASLR offset {offsets}, not at {kaslr_offset:#x}")
            kernels = right
        if len(kernels) > 1:
            raise DumpError(f"{self._path} has several kernels of this vmlinux: choose one with --kaslr, of {offsets}")
        if not kernels:
            raise DumpError(self._no_kernel())
        self._tables = kernels[0].tables
        self._pages.clear()
        return kernels[0].kaslr_offset

    def _located(self, banner: bytes, symbols: Mapping[str, int]) -> Sequence[Located]:
        """The kernels of a vmlinux; where the memory may lie in several ways, it lies then as one of them counts it."""
        image = self._elf
        if not isinstance(image, MemoryImage) or len(image.layouts) == 1:
            memory = image.held() if image else [(0, self._max_pfn() * self._page_size)]
            return self.arch.locate(banner, symbols, self._read_physical, memory)
        first: Sequence[Located] = ()
        for layout in image.layouts:
            image.use(layout)
            kernels = self.arch.locate(banner, symbols, self._read_physical, image.held())
            if any(self._counted(kernel, symbols) == image.max_pfn for kernel in kernels):
                return kernels
            first = first or kernels
        if not first:
            return ()
        raise DumpError(
            f"{self._path} has the kernel, but not as much memory as that counts, nor with one of the holes that "
            "machines usually have: name the addresses between which there is none, "
            "target kdump --hole 0xc0000000-0x100000000 FILE VMLINUX"
        )

    def _counted(self, kernel: Located, symbols: Mapping[str, int]) -> int | None:
        """The kernel's max_pfn, one more than the highest page frame's number; mm/memory.c."""
        linked = symbols.get("max_pfn")
        physical = None if linked is None else kernel.tables.physical(linked + kernel.kaslr_offset)
        data = self._read_physical(physical, 8) if isinstance(physical, int) else None
        return int.from_bytes(data, "little") if isinstance(data, bytes) else None

    def _no_kernel(self) -> str:
        if isinstance(self._elf, MemoryImage):
            return (
                f"{self._path} is no kernel dump of a known form, and as memory ({self._elf.description}) it has not "
                "the kernel of this vmlinux: name the vmcore itself, or the vmlinux of the kernel that crashed"
            )
        missing = self._examined.report.sentence
        reason = f" ({missing})" if missing else ""
        return (
            f"{self._path} has no VMCOREINFO that says where the kernel is, and this vmlinux was not found in its "
            f"memory{reason}: name the vmlinux of the kernel that crashed, or its VMCOREINFO with --vmcoreinfo FILE"
        )

    def _extent(self, addr: int, size: int) -> tuple[int | Why, int]:
        """What `_present` says of a virtual address, and of how many of the `size` bytes from there on."""
        if self._tables is None:
            raise DumpError(f"{self._path} does not say where the kernel's page tables are")
        physical = self._tables.physical(addr)
        if self._is_plain and isinstance(physical, int):
            length = self._files[0].surely_has(physical, min(size, self._tables.in_one_piece(addr)))
            if length:
                return physical, length
        physical = self._present(self._tables, addr)
        length = min(self._page_size - addr % self._page_size, size)
        if isinstance(physical, int):
            while length < size and self._present(self._tables, addr + length) == physical + length:
                length += min(self._page_size, size - length)
        return physical, length

    def _present(self, tables: Translation, addr: int) -> int | Why:
        """The physical address of a virtual one, or why the dump has no data for it."""
        page = addr & -self._page_size
        answer = self._pages.get(page)
        if answer is None:
            if len(self._pages) >= _MOST_FOUND:
                self._pages.clear()
            physical = tables.physical(page)
            answer = physical if isinstance(physical, Why) else self._absent(physical) or physical
            self._pages[page] = answer
        return answer if isinstance(answer, Why) else answer + addr - page

    def _absent(self, physical: int) -> Why | None:
        """Why no file has data for a physical address, or None; an ELF dump's segments say it when they are read."""
        if self._elf:
            return None
        for start, end in self._examined.gaps:
            if start * self._page_size <= physical < end * self._page_size:
                return Why.TRUNCATED
        return self._file_of(physical).absent(physical)

    def _read_present(self, runs: list[Run], physical: int, size: int) -> None:
        """Append what is at a physical address that the dump should have."""
        if self._elf:
            for run in self._elf.read(physical, size):
                append(runs, run)
            return
        while size:
            file = self._file_of(physical)
            length = min(size, file.end - physical)
            file.read_physical(runs, physical, length)
            physical += length
            size -= length

    def _read_physical(self, physical: int, size: int) -> bytes | Why:
        """What is at a physical address, within one page, in one piece, or why it is not."""
        absent = self._absent(physical)
        if absent:
            return absent
        runs: list[Run] = []
        self._read_present(runs, physical, size)
        hole = next((run for run in runs if isinstance(run, Hole)), None)
        return hole.why if hole else b"".join(run for run in runs if isinstance(run, bytes))

    def _file_of(self, physical: int) -> File:
        """The file that is for a physical address; the last, when none is."""
        for file in self._files:
            if physical < file.end:
                return file
        return self._files[-1]

    def _known_tables(self, vmcoreinfo: dict[str, str]) -> Translation | None:
        """Our own walk, or None where VMCOREINFO does not say where the tables are."""
        return self.arch.page_tables(
            vmcoreinfo, self._image_base, lambda physical: self._read_physical(physical, self._page_size)
        )

    def _image_base(self) -> int | None:
        """Where the kernel's image is, as makedumpfile has noted it, or a segment says."""
        segments = self._examined.segments
        return self.arch.image_base(segments.mapped) if segments else self._number("linux.phys_base")

    def _format(self) -> str:
        segments = self._examined.segments
        name = self._text("file.description") or (segments.description if segments else "unknown")
        files = self._examined.files
        parts = f"split into {len(files)} files" if len(files) > 1 else ""
        return ", ".join(word for word in (name, parts, *sorted({file.form for file in files})) if word)

    def _most_pfn(self) -> int:
        """The same, as high as it may be while it is not known where the memory lies."""
        if not isinstance(self._elf, MemoryImage):
            return self._max_pfn()
        return self._elf.most_pfn

    def _max_pfn(self) -> int:
        if self._elf:
            return self._elf.max_pfn
        return self._examined.max_pfn or self._number("max_pfn") or 0

    def _attribute(self, name: str) -> Any:
        if not self._files:
            return None
        try:
            return self._files[0].library.attr[name]
        except (KeyError, UnicodeDecodeError, KdumpfileError):  # a damaged header has what text it has
            return None

    def _text(self, name: str) -> str | None:
        value = self._attribute(name)
        return value if isinstance(value, str) else None

    def _number(self, name: str) -> int | None:
        value = self._attribute(name)
        return value if isinstance(value, int) else None

    def _cannot(self, what: str, error: Exception) -> DumpError:
        if isinstance(error, NotImplementedHere) and not self._examined.kdumps:  # of a kdump header: that it is damaged
            return DumpError(
                f"{self._path} cannot be {what}: this libkdumpfile does not know how, but the dump need not be "
                f"damaged: {error}"
            )
        damage = self._examined.report.sentence
        because = damage if damage else f"libkdumpfile says: {error}"
        return DumpError(f"{self._path} cannot be {what}: {because}")


def _follows(piece: tuple[int, int, int | Why], addr: int, physical: int) -> bool:
    """Whether an address and its physical one are those right after a mapped piece."""
    start, size, where = piece
    return isinstance(where, int) and (start + size, where + size) == (addr, physical)

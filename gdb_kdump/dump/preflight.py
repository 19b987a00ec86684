"""What a dump's own headers say about it, before any library trusts them.

libkdumpfile 0.5.1 reads a page that lies past the end of the file as zeros, or dies; so the page descriptors of a
kdump-compressed file, or the program headers of an ELF core, are compared with what the file has first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gdb_kdump.arch.architecture import NAMES, PAGE_SIZES, UNSAID
from gdb_kdump.errors import DumpError
from gdb_kdump.formats.elf_core import ElfCore
from gdb_kdump.formats.flattened import DumpFile, open_dump_file
from gdb_kdump.formats.kdump import Kdump
from gdb_kdump.formats.memory_image import MemoryImage, lime, raw
from gdb_kdump.formats.notes import is_of_xen, vmcoreinfo
from gdb_kdump.formats.program_core import find_program
from gdb_kdump.formats.segments import Segments
from gdb_kdump.formats.signatures import ELF, KDUMP, LIME
from gdb_kdump.formats.strangers import stranger
from gdb_kdump.records.dump_info import Report


@dataclass(frozen=True)
class Examined:
    """A dump, in one file or in several, that may be opened."""

    files: Sequence[DumpFile]
    report: Report
    kdumps: Sequence[Kdump] = ()
    """The files of a kdump-compressed dump, by the memory that they are for."""
    segments: Segments | None = None
    """The memory of a dump in one file that is not kdump-compressed."""
    max_pfn: int | None = None
    gaps: Sequence[tuple[int, int]] = field(default=())
    """The page frames of files of the set that are missing: from, to before."""
    notes: bytes = b""
    vmcoreinfo: bytes | None = None

    @property
    def path(self) -> str:
        """The first file's name, which stands for the dump."""
        return self.files[0].path

    @property
    def bitmap_bytes(self) -> int:
        """The size of the page bitmaps: what the library's memory grows with."""
        return sum(kdump.header.bitmap_bytes for kdump in self.kdumps)

    @property
    def window_bytes(self) -> int:
        """The size of the largest window (window.py): that of its dump, though with next to nothing in it."""
        shown = [kdump.file for kdump in self.kdumps if kdump.header.hidden_blobs or kdump.file.form]
        return max((file.size for file in shown), default=0)


_HEAD_BYTES = 4096


@dataclass(frozen=True)
class RawMemory:
    """A file of no known form may be memory as it is; `hole` is where there is none, as far as the user knows it."""

    hole: tuple[int, int] | None = None


def examine(
    paths: Sequence[str], alive: Callable[[], None] = lambda: None, memory: RawMemory | None = None
) -> Examined:
    """Look at the headers of a dump's files; raises DumpError when they are no dump, or cut off before their pages.

    `alive` is called now and then while that takes long; `memory` says that a file of no known form may be some.
    """
    files = [open_dump_file(path, alive) for path in paths]
    heads = [file.read(0, _HEAD_BYTES) for file in files]
    for file, head in zip(files, heads):
        if not head.startswith((*KDUMP, ELF, LIME)):
            _refuse(file, head, memory is not None and len(files) == 1)
        program = find_program(file)
        if program is not None:
            raise DumpError(
                f"{file.path} is the core file of a program ({program or 'of unknown name'}), not the dump of a "
                f"kernel: `target core {file.path}` opens it"
            )
    if all(head.startswith(KDUMP) for head in heads):
        return _examine_kdump([Kdump(file, NAMES) for file in files])
    if len(files) > 1:
        stranger = next(file for file, head in zip(files, heads) if not head.startswith(KDUMP))
        raise DumpError(f"{stranger.path} is not one of the files that `makedumpfile --split` writes: name it alone")
    if heads[0].startswith(ELF):
        return _examine_elf(ElfCore(files[0], PAGE_SIZES, NAMES))
    return _examine_segments(_memory_image(files[0], heads[0], alive, memory))


def _memory_image(file: DumpFile, head: bytes, alive: Callable[[], None], memory: RawMemory | None) -> MemoryImage:
    """Memory that says nothing of itself; its machine is not in it."""
    if head.startswith(LIME):
        return lime(file, UNSAID.page_size, UNSAID.elf_machine, alive)
    hole = memory.hole if memory else None
    return raw(file, UNSAID.page_size, UNSAID.elf_machine, UNSAID.memory_holes, hole)


def _refuse(file: DumpFile, head: bytes, may_be_memory: bool) -> None:
    """Raise DumpError: the file is none that can be read here; return where it may be memory as it is."""
    if not head and file.form:
        raise DumpError(f"{file.path} is a flattened dump that ends before its first byte: copy it again")
    if not head:
        raise DumpError(f"{file.path} is empty: the dump was never written, look at the capture kernel's log")
    sentence = stranger(file.read)
    if sentence:
        raise DumpError(f"{file.path} {sentence}")
    if b"\0" not in head and all(byte >= 0x20 or byte in b"\t\n\r\f\x1b" for byte in head):
        raise DumpError(f"{file.path} is a text file, not a dump: name the vmcore itself")
    if file.form:
        raise DumpError(f"{file.path} is a flattened file, but what it holds is no dump: copy it again")
    if not may_be_memory:
        raise DumpError(
            f"{file.path} is no kernel dump of a known form: name the vmcore itself; of a machine's memory as it is "
            "(QEMU's pmemsave, a .vmem, a snapshot of Firecracker) name the vmlinux, too"
        )


def _refuse_xen(file: DumpFile, notes: bytes) -> None:
    if is_of_xen(notes):
        raise DumpError(
            f"{file.path} is a dump of a Xen host, of which dom0 is only a part: use crash, which knows Xen"
        )


def _examine_kdump(kdumps: list[Kdump]) -> Examined:
    kdumps.sort(key=lambda kdump: kdump.first)
    first = kdumps[0]
    _refuse_xen(first.file, first.header.notes)
    if len(kdumps) > 1:
        _refuse_strangers(kdumps)
    gaps = _gaps(kdumps)
    return Examined(
        files=[kdump.file for kdump in kdumps],
        report=_report_kdumps(kdumps, gaps),
        kdumps=kdumps,
        max_pfn=first.header.max_pfn,
        gaps=gaps,
        notes=first.header.notes,
        vmcoreinfo=first.header.vmcoreinfo,
    )


def _report_kdumps(kdumps: list[Kdump], gaps: list[tuple[int, int]]) -> Report:
    """What a set of files lacks: pages of its own, and those of files that were not named, for the frames in `gaps`."""
    losses = [kdump.lost() for kdump in kdumps]
    absent = sum(kdumps[0].dumped_between(start, end) for start, end in gaps)
    pages = sum(kdump.pages for kdump in kdumps) + absent
    pages_lost, bytes_lost = sum(lost.pages for lost in losses), sum(lost.bytes for lost in losses)
    incomplete, exact = any(kdump.header.incomplete for kdump in kdumps), all(lost.exact for lost in losses)
    size = _in_bytes(bytes_lost, any(lost.at_least for lost in losses))
    sentences = [
        _parts_sentence(kdumps, gaps, absent, pages),
        _sentence(pages_lost, pages, size, exact, incomplete),
    ]
    return Report(
        pages=pages,
        pages_missing=pages_lost + absent,
        bytes_missing=bytes_lost,
        fraction_missing=(pages_lost + absent) / pages if pages else 0.0,
        exact=exact,
        incomplete=incomplete,
        sentence="; ".join(sentence for sentence in sentences if sentence),
        remedy=_remedy(bool(gaps), incomplete, pages_lost),
    )


def _refuse_strangers(kdumps: list[Kdump]) -> None:
    first = kdumps[0]
    for before, kdump in zip(kdumps, kdumps[1:]):
        if not kdump.header.split or not first.header.split:
            alone = kdump if not kdump.header.split else first
            raise DumpError(f"{alone.file.path} is a whole dump, not one of a split set: name it alone")
        if not kdump.header.is_of_one_dump(first.header):
            raise DumpError(f"{kdump.file.path} and {first.file.path} are of different dumps: name the files of one")
        if kdump.first < before.end:
            raise DumpError(f"{kdump.file.path} and {before.file.path} hold the same memory: name each file once")


def _gaps(kdumps: list[Kdump]) -> list[tuple[int, int]]:
    """The page frames that no file of the set is for."""
    gaps, covered = [], 0
    for kdump in kdumps:
        if kdump.first > covered:
            gaps.append((covered, kdump.first))
        covered = kdump.end
    if covered < kdumps[0].header.max_pfn:
        gaps.append((covered, kdumps[0].header.max_pfn))
    return gaps


def _parts_sentence(kdumps: list[Kdump], gaps: list[tuple[int, int]], absent: int, pages: int) -> str:
    if not gaps:
        return ""
    block = kdumps[0].block
    missing = []
    for start, end in gaps:
        before = next((kdump.file.path for kdump in kdumps if kdump.end == start), None)
        after = next((kdump.file.path for kdump in kdumps if kdump.first == end), None)
        memory = f"physical memory {start * block:#x} to {end * block:#x}"
        neighbours = [f"after {before}"] * bool(before) + [f"before {after}"] * bool(after)
        missing.append(f"the one {' and '.join(neighbours)} ({memory})")
    share = f", {_share(absent, pages)}" if absent else ""
    return (
        f"the dump is split and not all of its files were named: missing is {' and '.join(missing)}, "
        f"{absent:,} of {pages:,} pages{share}"
    )


def _sentence(missing: int, pages: int, size: str, exact: bool, incomplete: bool) -> str:
    if not missing and not incomplete:
        return ""
    begin = "makedumpfile ran out of space (or reached its limit, -L): " if incomplete else "the dump is truncated: "
    if not missing:
        return begin + "the dump is incomplete"
    about = "" if exact else "about "
    return f"{begin}{about}{missing:,} of {pages:,} pages are missing, {_share(missing, pages)}{size}"


def _remedy(split: bool, incomplete: bool, missing: int) -> str:
    if split:
        return "name all of its files: target kdump FILE FILE..."
    if incomplete:
        return "give the next dump more space, or a higher dump level (makedumpfile -d)"
    return "copy it again from where it was made" if missing else ""


def _share(missing: int, pages: int) -> str:
    percent = 100 * missing / pages
    return f"{percent:.1f} %" if percent >= 0.1 else "less than 0.1 %"


def _in_bytes(bytes_missing: int, at_least: bool = False) -> str:
    return f" ({'at least ' if at_least else ''}{bytes_missing:,} bytes)" if bytes_missing else ""


def _examine_elf(elf: ElfCore) -> Examined:
    _refuse_xen(elf.file, elf.notes)
    return _examine_segments(elf)


def _examine_segments(elf: Segments) -> Examined:
    pages, lost = elf.pages, elf.pages_lost
    sentence = _sentence(lost, pages, _in_bytes(elf.bytes_missing), True, elf.incomplete)
    if elf.incomplete:
        sentence += f", and all memory from {elf.max_pfn * elf.page_size:#x} on"
    report = Report(
        pages=pages,
        pages_missing=lost,
        bytes_missing=elf.bytes_missing,
        fraction_missing=lost / pages if pages else 0.0,
        exact=True,
        incomplete=elf.incomplete,
        sentence=sentence,
        remedy=_remedy(False, elf.incomplete, lost),
    )
    return Examined(
        files=[elf.file],
        report=report,
        segments=elf,
        max_pfn=elf.max_pfn,
        notes=elf.notes,
        vmcoreinfo=vmcoreinfo(elf.notes),
    )

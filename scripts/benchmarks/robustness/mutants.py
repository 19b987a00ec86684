"""Mutants of dump files: seeded damage to headers, bitmaps, page descriptors, notes and VMCOREINFO."""

import random
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

PAGE = 4096
_ELF_PHDR = struct.Struct("<IIQQQQQQ")
_LIME = struct.Struct("<IIQQ8s")
_PT_NOTE = 4

Patch = tuple[int, bytes]
Region = tuple[int, int]


@dataclass(frozen=True)
class Layout:
    """Where in a dump file what stands: name to (offset, size in bytes)."""

    regions: dict[str, Region]


def layout_of(data: bytes) -> Layout:
    """The regions of a kdump-compressed file, an ELF core, a LiME or a flattened file."""
    regions: dict[str, Region] = {}
    if data.startswith(b"\x7fELF"):
        (count,) = struct.unpack_from("<H", data, 56)
        regions = {"ELF header": (0, 64), "program headers": (64, 56 * count)}
        for number in range(count):
            kind, _, offset, _, _, size, _, _ = _ELF_PHDR.unpack_from(data, 64 + 56 * number)
            if kind == _PT_NOTE:
                regions["notes"] = (offset, size)
    elif data.startswith(b"KDUMP   "):
        _, block, sub_blocks, bitmap_blocks, _ = struct.unpack_from("<IiiII", data, 424)
        bitmaps = (1 + sub_blocks) * block
        descriptors = bitmaps + bitmap_blocks * block
        (first_page,) = struct.unpack_from("<Q", data, descriptors)
        regions = {
            "header": (0, 464), "sub header": (block, 104), "notes": (block + 104, sub_blocks * block - 104),
            "bitmaps": (bitmaps, bitmap_blocks * block), "descriptors": (descriptors, first_page - descriptors),
            "pages": (first_page, len(data) - first_page),
        }  # fmt: skip
    elif data.startswith(b"EMiL"):
        at = 0
        while at < len(data):
            regions[f"range at {at}"] = (at, _LIME.size)
            _, _, first, last, _ = _LIME.unpack_from(data, at)
            at += _LIME.size + last + 1 - first
    else:
        regions = {"flattened header": (0, 512), "flattened records": (PAGE, min(len(data) - PAGE, 64 * PAGE))}
    text = data.find(b"OSRELEASE=")
    if text > 0:
        end = data.find(b"\0", text)
        regions["VMCOREINFO"] = (text, end - text)
    return Layout({name: (at, size) for name, (at, size) in regions.items() if size > 0})


def mutant(source: random.Random, data: bytes, layout: Layout) -> tuple[str, list[Patch]]:
    """The region that is damaged, and the new bytes with their offsets."""
    name = source.choice(sorted(layout.regions))
    at, size = layout.regions[name]
    ways = _TEXT_WAYS if name == "VMCOREINFO" else _WAYS
    patches = []
    for _ in range(source.choice((1, 1, 1, 2, 4))):
        for offset, new in source.choice(ways)(source, data, at, size):
            if 0 <= offset < len(data):
                patches.append((offset, new[: len(data) - offset]))
    return name, patches


def _numbers(size: int) -> tuple[int, ...]:
    top = 1 << 8 * size
    return (0, 1, 2, top - 1, top // 2, top // 2 - 1, top // 16, 255, PAGE, PAGE + 1, 1 << 20)


def _field(source: random.Random, data: bytes, at: int, size: int) -> Iterator[Patch]:
    """A number of 1 to 8 bytes becomes one that nobody expects."""
    width = source.choice((1, 2, 4, 4, 8, 8))
    offset = at + source.randrange(max(size // width, 1)) * width
    old = int.from_bytes(data[offset : offset + width], "little")
    new = source.choice(
        (*_numbers(width), source.getrandbits(8 * width), old + 1, old - 1, old * 2, old << 8, len(data))
    )
    yield offset, (new & (1 << 8 * width) - 1).to_bytes(width, "little")


def _bit(source: random.Random, data: bytes, at: int, size: int) -> Iterator[Patch]:
    offset = at + source.randrange(size)
    yield offset, bytes((data[offset] ^ 1 << source.randrange(8),))


def _noise(source: random.Random, data: bytes, at: int, size: int) -> Iterator[Patch]:
    offset = at + source.randrange(size)
    yield offset, source.randbytes(min(source.choice((1, 3, 16, 64, 512, PAGE)), at + size - offset))


def _fill(source: random.Random, data: bytes, at: int, size: int) -> Iterator[Patch]:
    offset = at + source.randrange(size)
    yield offset, bytes((source.choice((0, 0xFF)),)) * min(source.choice((4, 24, 64, PAGE)), at + size - offset)


def _copy(source: random.Random, data: bytes, at: int, size: int) -> Iterator[Patch]:
    """Bytes of the same region, from somewhere else in it."""
    length = min(source.choice((4, 8, 24, 56)), size)
    start = at + source.randrange(size - length + 1)
    yield at + source.randrange(size - length + 1), data[start : start + length]


def _digits(source: random.Random, data: bytes, at: int, size: int) -> Iterator[Patch]:
    """A value of a line becomes another one of the same length."""
    lines = list(re.finditer(rb"=([^\n]+)", data[at : at + size]))
    line = source.choice(lines)
    alphabet = source.choice((b"0", b"f", b"9", b"0123456789abcdef", b"-", b"x", b"\xff", b"%s", b"\x1b[2J", b" "))
    yield at + line.start(1), bytes(source.choice(alphabet) for _ in line[1])


def _line(source: random.Random, data: bytes, at: int, size: int) -> Iterator[Patch]:
    """A line goes, or its end or its = does."""
    line = source.choice(list(re.finditer(rb"[^\n]+\n", data[at : at + size])))
    start, end = at + line.start(), at + line.end()
    way = source.randrange(3)
    if way == 0:
        yield start, b"#" * (end - start - 1)
    elif way == 1:
        yield end - 1, b"_"
    else:
        yield start + line[0].find(b"="), b"\n"


Way = Callable[[random.Random, bytes, int, int], Iterator[Patch]]
_WAYS: tuple[Way, ...] = (_field, _field, _field, _bit, _noise, _fill, _copy)
_TEXT_WAYS: tuple[Way, ...] = (_digits, _digits, _line, _noise, _bit)

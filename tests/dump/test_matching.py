"""What a search looks for in bytes: the same as looking at every word, or at every byte, by itself."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

import pytest

from gdb_kdump.dump.matching import matcher
from gdb_kdump.records.patterns import Texts, Words, pattern_from_json, pattern_to_json

SIZES = (2, 4, 8)


def memory(seed: int, size: int = 1 << 14) -> bytearray:
    """Bytes of which many are alike, as memory's are: zeros, ones, pointers near each other, and noise."""
    chance = random.Random(seed)
    words = [0, 1, (1 << 64) - 1, *(0xFFFF888012345000 + chance.randrange(0x3000) for _ in range(200))]
    words += [chance.getrandbits(64) for _ in range(50)]
    return bytearray(b"".join(chance.choice(words).to_bytes(8, "little") for _ in range(size // 8)))


def one_by_one(data: bytes, words: Words) -> list[int]:
    size = words.size
    values = [int.from_bytes(data[at : at + size], "little") for at in range(0, len(data) - size + 1, size)]
    return [
        index * words.size
        for index, value in enumerate(values)
        if any(first <= value & ~words.ignored <= last for first, last in words.ranges)
    ]


def ranges_of(size: int, seed: int) -> list[Sequence[tuple[int, int]]]:
    chance, most = random.Random(seed), (1 << 8 * size) - 1
    near = [0xFFFF888012345000 + chance.randrange(0x3000) & most for _ in range(8)]
    pairs = [sorted((chance.choice(near), chance.choice(near))) for _ in range(4)]
    return [
        [(0, 0)], [(1, 1)], [(most, most)], [(near[0], near[0])], [(0, most)], [(0, 0xFF)], [(0x80, most >> 1)],
        *([(low, high)] for low, high in pairs), [(near[1] & ~0xFF, near[1] | 0xFF)], [(near[2] & ~0xFF, near[2])],
        [(value, value) for value in near], [(value, value) for value in near[:3]],
        [(0, 0), (1, 1), (near[0], near[3]) if near[0] <= near[3] else (near[3], near[0])],
        [*((value, value) for value in near), (0, 5), (most - 5, most)],
    ]  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", range(3))
def test_words(size: int, seed: int) -> None:
    data, found = bytes(memory(seed)), 0
    for ranges in ranges_of(size, seed):
        words = Words(size, tuple(ranges))
        expected = one_by_one(data, words)
        assert list(matcher(words).find(data)) == expected, ranges
        assert list(matcher(words).find(data[:-3])) == [at for at in expected if at + size <= len(data) - 3], ranges
        found += len(expected)
    assert found > 1000


@pytest.mark.parametrize("ignored", [0x1, 0xFF, 0xFFF, 0xFF00, 0xF0F, 0xFFFF << 48, (1 << 63) - 1])
def test_bits_that_do_not_count(ignored: int) -> None:
    data = bytes(memory(7))
    for first, last in [(0xFFFF888012345678, 0xFFFF888012345678), (0, 0), (0xFFFF888012345000, 0xFFFF888012346FFF)]:
        words = Words(8, ((first & ~ignored, last & ~ignored),), ignored)
        expected = one_by_one(data, words)
        assert list(matcher(words).find(data)) == expected
    many = Words(8, tuple((0xFFFF888012345000 + 8 * n & ~ignored,) * 2 for n in range(20)), ignored)
    assert list(matcher(many).find(data)) == one_by_one(data, many)


def test_a_word_counts_where_it_is_aligned_only() -> None:
    word = 0x1122334455667788
    data = b"\0" * 3 + word.to_bytes(8, "little") + b"\0" * 5 + word.to_bytes(8, "little")
    assert list(matcher(Words(8, ((word, word),))).find(data)) == [16]


def everywhere(data: bytes, wanted: str) -> list[int]:
    return [match.start() for match in re.finditer(f"(?={wanted})".encode("latin-1"), data, re.DOTALL)]


def test_texts_overlap_and_may_be_cut_by_what_was_seen() -> None:
    data = b"aaaa.abc.aabb" * 3
    texts = Texts(((b"aa", b"\xff\xff"), (b"abc", b"\xff\xff\xff")))
    found = list(matcher(texts).find(data))
    assert found == sorted({*everywhere(data, "aa"), *everywhere(data, "abc")})
    # Of a piece whose first bytes were seen before, what ends after these.
    for seen in range(4):
        expected = {*(at for at in everywhere(data, "aa") if at + 2 > seen)}
        expected |= {at for at in everywhere(data, "abc") if at + 3 > seen}
        assert list(matcher(texts).find(data, seen)) == sorted(expected)


@pytest.mark.parametrize(
    "text, counts, wanted",
    [
        (b"\x6b\x00\x6b", b"\xff\x00\xff", "k.k"),
        (b"\x60\x61", b"\xf0\xff", "[\x60-\x6f]a"),
        (b"\x00\n]", b"\x00\xff\xff", ".\n]"),
        (b"^-\\", b"\xff\xff\xff", "\\^-\\\\"),
        (b"\x01", b"\x01", "[" + "".join(f"\\x{byte:02x}" for byte in range(1, 256, 2)) + "]"),
    ],
)
def test_bits_of_texts_that_do_not_count(text: bytes, counts: bytes, wanted: str) -> None:
    data = random.Random(3).randbytes(1 << 12) + b"kxk \x65a \xff\n] ^-\\"
    expected = everywhere(data, wanted)
    assert expected and list(matcher(Texts(((text, counts),))).find(data)) == expected


def test_patterns_go_through_a_message() -> None:
    for pattern in (Words(4, ((1, 2), (7, 7)), 0xF0), Texts(((b"a\xff", b"\xff\x0f"),))):
        assert pattern_from_json(pattern_to_json(pattern)) == pattern

"""Attribution: payload that runs on across end is told from copies, poison, and bytes that say nothing."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from gdb_kdump.records.skb import FragList, SharedInfo, Skb, SkbFacts, SkbMembers
from gdb_kdump.rules import judge_skb
from gdb_kdump.rules.overrun import attribute, ip_header
from gdb_kdump.rules.patterns import find_continuation, find_copy

HEAD = 0xFFFF881161AA4800
SIZE = 0x6C0
SHINFO = SharedInfo(
    addr=HEAD + SIZE,
    nr_frags=0,
    dataref=1,
    frag_list=0,
    gso_size=0,
    gso_segs=0,
    gso_type=0,
    tx_flags=0,
    destructor_arg=0,
    flags=0,
    is_zerocopy=False,
    frags=(),
    chain=FragList((), 0),
)
FACTS = SkbFacts(size=232, shinfo_size=320, unset_header=0xFFFF, max_frags=17)
# next to destructor, and the headers, which nothing here asks for
MEMBERS = SkbMembers(0, 0, 0, 0, 0, HEAD, HEAD, 0, SIZE, 2304, 1, 0, 0, 0, 0, 0, 0)
# The reference case's record, with a counter where it has one.
RECORD = bytes.fromhex("5805a400009021ca74122b5f0062084b005a580004030240c853eda8e8067301")


def records(period: int, count: int, seed: int = 1) -> bytes:
    """Records with constants, a counter, and two columns of noise."""
    source = random.Random(seed)
    constant = bytes(source.randrange(1, 256) for _ in range(period))
    return b"".join(
        bytes([source.randrange(256), number & 0xFF, source.randrange(256)]) + constant[3:] for number in range(count)
    )


def skb(payload: bytes, behind: bytes, nr_frags: int = 200, written: int | None = None) -> Skb:
    """An sk_buff whose buffer ends in `payload` and whose shared info begins with `behind`."""
    buffer = payload.rjust(SIZE, b"\0") + behind.ljust(320, b"\0")
    return Skb(
        addr=0xFFFF8810DD32F280,
        members=MEMBERS,
        facts=FACTS,
        tail=HEAD,
        end=HEAD + SIZE,
        headers=(),
        shinfo=replace(SHINFO, nr_frags=nr_frags, written=written),
        buffer=lambda: buffer,
    )


@pytest.mark.parametrize("period", [8, 12, 24, 32, 47, 64, 188, 300])
@pytest.mark.parametrize("length", [40, 80, 127])
def test_records_that_run_on(period: int, length: int) -> None:
    text = records(period, 2000 // period + 2)
    payload, behind = text[:1500], text[1500 : 1500 + length]
    found = attribute(skb(payload, behind))
    assert found is not None and found.kind == "payload"
    assert found.first == HEAD + SIZE
    assert found.period == period
    # Noise at the end of what was written cannot be told from what was there before.
    assert length - 2 <= found.length <= length


def test_the_reference_case() -> None:
    records_of_case = b"".join(RECORD[:13] + bytes([0x62 + n & 0xFF]) + RECORD[14:] for n in range(60))
    found = attribute(skb(records_of_case[:1500], records_of_case[1500:1580]))
    assert found is not None
    assert (found.kind, found.first, found.period, found.length) == ("payload", HEAD + SIZE, 32, 80)
    assert "32 bytes" in found.source


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes_prove_nothing(seed: int) -> None:
    source = random.Random(seed)
    assert attribute(skb(source.randbytes(1500), source.randbytes(320))) is None


@pytest.mark.parametrize("filler", [0, 0xAA])
def test_untouched_memory_proves_nothing(filler: int) -> None:
    assert find_continuation(bytes([filler]) * 1500, bytes([filler]) * 320) is None


def test_a_copy_of_the_payload() -> None:
    source = random.Random(7)
    payload = source.randbytes(1500)
    found = attribute(skb(payload, source.randbytes(16) + payload[100:180] + source.randbytes(64)))
    assert found is not None and found.kind == "copy"
    assert (found.first, found.length) == (HEAD + SIZE + 16, 80)


def test_poison() -> None:
    found = attribute(skb(random.Random(3).randbytes(1500), b"\x6b" * 64))
    assert found is not None and (found.kind, found.length) == ("poison", 64)


def test_a_sound_shared_info_is_not_looked_into() -> None:
    text = records(32, 80)
    judged = judge_skb(skb(text[:1500], text[1500:1580], nr_frags=0))
    assert "shinfo.overrun" not in [finding.rule for finding in judged]
    judged = judge_skb(skb(text[:1500], text[1500:1580]))
    assert "shinfo.overrun" in [finding.rule for finding in judged]


def test_the_longest_copy_wins() -> None:
    found = find_copy(b"-" * 10 + b"0123456789abcdefXY", b"..0123456789abcZ..0123456789abcdef..")
    assert found is not None and (found.at, found.source, found.length) == (10, 18, 16)
    assert find_copy(b"\0" * 100, b"\0" * 100) is None


def test_what_was_left_there_is_no_copy() -> None:
    """Without init_on_alloc, what the buffer held before is behind the last fragment, too."""
    text = random.Random(1).randbytes(200)
    sound = b"\0\0\3\0" + b"\0" * 28 + b"\1\0\0\0" + b"\0" * 60
    before, shinfo = b"before" + text, sound + text[100:180]
    for written, at in ((len(sound), None), (len(sound) + 11, None), (len(sound) + 12, len(sound)), (None, len(sound))):
        found = attribute(skb(before, shinfo, written=written))
        if at is None:
            assert found is None
        else:
            assert found is not None and (found.kind, found.first, found.length) == ("copy", HEAD + SIZE + at, 80)


@pytest.mark.parametrize("period", [150, 250, 300])  # 1500 bytes end with one
def test_what_was_left_there_goes_on_with_no_records(period: int) -> None:
    """An earlier buffer's records may lie behind what a new shared info gets: they say nothing of its beginning."""
    source = random.Random(period)
    constant = source.randbytes(period - 60)
    text = b"".join(source.randbytes(60) + constant for _ in range(2000 // period))
    start = b"\0\0\3\0" + b"\0" * 28 + b"\1\0\0\0"
    shinfo = start + text[1500 + len(start) : 1800]
    assert attribute(skb(text[:1500], shinfo)) is not None
    assert attribute(skb(text[:1500], shinfo, written=len(start))) is None


def test_records_that_run_on_begin_at_the_end_of_the_buffer() -> None:
    text = records(32, 80)
    found = attribute(skb(text[:1500], text[1500:1580], written=36))
    assert found is not None and (found.kind, found.first, found.length) == ("payload", HEAD + SIZE, 80)


def test_an_ip_header_in_the_buffer() -> None:
    header = bytes.fromhex("4500003c1c4640004006b1e6ac100a63ac100a0c")
    assert ip_header(b"\0" * 14 + header + b"\0" * 60, 0).startswith("an IPv4 header at offset 14 (172.16.10.99 to")
    assert ip_header(b"\0" * 14 + header[:-1] + b"\0" * 61, 0) == ""

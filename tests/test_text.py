"""Words for the screen: nothing from a dump may command a terminal."""

from __future__ import annotations

import pytest

from gdb_kdump.text import escape, hex16, is_kernel_address


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"kworker/0:1", "kworker/0:1"),
        ("Größe 3 µs", "Größe 3 µs"),
        (b"\x1b[31mred", r"\x1b[31mred"),
        (b"two\nlines\ttab\rreturn", r"two\nlines\ttab\rreturn"),
        (b"bell\x07 del\x7f", r"bell\x07 del\x7f"),
        (b"bad \xff\xfe utf-8", r"bad \xff\xfe utf-8"),
        ("\u202eright to left", r"\u202eright to left"),
        ("c1 \x9b31m", r"c1 \x9b31m"),
        ("line\u2028separator", r"line\u2028separator"),
        ("no-break\xa0space", r"no-break\xa0space"),
        ("", ""),
    ],
)
def test_escape(raw: bytes | str, shown: str) -> None:
    assert escape(raw) == shown


def test_whatever_is_escaped_stays_printable() -> None:
    everything = "".join(chr(code) for code in range(0x3000)) + "\ue000\U000e0001\U0010ffff"
    assert all(char == " " or char.isprintable() for char in escape(everything))


def test_hex16_has_16_digits() -> None:
    assert hex16(0xFF) == "0x00000000000000ff"
    assert hex16((1 << 64) - 1) == "0xffffffffffffffff"


@pytest.mark.parametrize(
    ("addr", "expected"),
    [
        (0xFFFF888003A41200, True),
        (0xFF11000003A41200, True),  # the direct map of 5-level paging
        (0xFFFFFFFF81000000, True),
        (0, False),
        (0x00007FFDB4B8AFF0, False),
        (0x4002030400585A00, False),
        (0xFFFFFFFFFFFFFFF2, False),  # an error pointer: -EFAULT
    ],
)
def test_is_kernel_address(addr: int, expected: bool) -> None:
    assert is_kernel_address(addr) is expected

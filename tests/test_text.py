"""Words for the screen: nothing from a dump may command a terminal."""

from __future__ import annotations

import pytest

from gdb_kdump.text import escape, hex16, is_kernel_address, is_plain_name


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
        (b"c1 \xc2\x9b31m, raw \x9b31m", r"c1 \x9b31m, raw \x9b31m"),
        (b"\x1b]52;c;aWQ=\x07 \x1b]8;;http://x\x1b\\", r"\x1b]52;c;aWQ=\x07 \x1b]8;;http://x\x1b" "\\"),
        ("zero\u200bwidth\ufeff \u2066isolate\u2069", r"zero\u200bwidth\ufeff \u2066isolate\u2069"),
        ("filler\u3164 selector\ufe0f tag\U000e0041", r"filler\u3164 selector\ufe0f tag\U000e0041"),
        (b"`id` $(id) ; shell id %s%n", "`id` $(id) ; shell id %s%n"),
        ("", ""),
    ],
)
def test_escape(raw: bytes | str, shown: str) -> None:
    assert escape(raw) == shown


def test_whatever_is_escaped_stays_printable() -> None:
    everything = "".join(chr(code) for code in range(0x3000)) + "\ue000\U000e0001\U0010ffff"
    assert all(char == " " or char.isprintable() for char in escape(everything))


@pytest.mark.parametrize("name", ["6.1.0-56-cloud-amd64", "5.14.0-70.el9.x86_64", "6.8.0+1~rc1", "lab_divide.cold"])
def test_plain_names(name: str) -> None:
    assert is_plain_name(name)


@pytest.mark.parametrize("name", ["", "..", "../x", "/etc", "a/b", "-s", "a b", "a\n", "a;b", "\x1b[m", "é", "$(id)"])
def test_names_that_are_none(name: str) -> None:
    assert not is_plain_name(name)


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

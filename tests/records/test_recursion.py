"""Recursion is found wherever it is, of one function or of several, and two frames alike are none."""

from __future__ import annotations

import pytest

from gdb_kdump.records.recursion import Recursion, find_recursions


@pytest.mark.parametrize(
    ("frames", "found"),
    [
        ("", []),
        ("abcd", []),
        ("abbc", []),
        ("abababcd", [Recursion(0, 2, 3)]),
        ("xaaaay", [Recursion(1, 1, 4)]),
        ("xabcabcabcabyyyz", [Recursion(1, 3, 3), Recursion(12, 1, 3)]),
        ("aab" * 40, [Recursion(0, 3, 40)]),
    ],
)
def test_recursions(frames: str, found: list[Recursion]) -> None:
    assert find_recursions(frames) == found

"""How walks end, and what Ctrl-C does to the commands that run: one after the other, and one within the other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gdb_kdump import walks
from gdb_kdump.errors import Unreadable, Why
from gdb_kdump.walks import Gaps, StoppableCommand, walk


def test_ctrl_c_stops_a_command_within_another_and_both_and_no_later_one() -> None:
    with StoppableCommand() as outer:
        with StoppableCommand() as inner:
            assert walks.interrupt() == "stopped by Ctrl-C" and inner.is_interrupted
        assert outer.is_interrupted and walks.is_interrupted()
        with StoppableCommand() as later:
            assert later.is_interrupted
    assert not walks.is_interrupted()
    with StoppableCommand() as following:
        assert not following.is_interrupted
    with pytest.raises(KeyboardInterrupt):
        walks.interrupt()


def test_a_walk_ends_at_a_hole_and_at_ctrl_c_and_says_where() -> None:
    def nodes() -> Iterator[int]:
        yield from (0x1000, 0x2000)
        raise Unreadable(0x3000, Why.FILTERED)

    gaps, taken = Gaps(), []
    with gaps.about("the table") as broken, walk("the list", broken) as steps:
        for node in steps(nodes()):
            taken.append(node)
    assert taken == [0x1000, 0x2000]
    assert list(gaps) == [
        "the table: cannot read 0x0000000000003000: the page was left out of the dump (FILTERED)"
        " (last good: 0x0000000000002000)"
    ]
    gaps = Gaps()
    with StoppableCommand(), walk("the list", gaps) as steps:
        for _ in steps(range(0x1000, 0x9000, 0x1000)):
            walks.interrupt()
    assert list(gaps) == ["the list: stopped by Ctrl-C after 1 (last good: 0x0000000000001000)"]


def test_of_too_many_gaps_the_first_are_told() -> None:
    gaps = Gaps()
    with gaps.about("the table") as broken:
        broken.note(*map(str, range(12)), "0")
    assert list(gaps) == [*(f"the table: {number}" for number in range(10)), "the table: and 2 more of this kind"]

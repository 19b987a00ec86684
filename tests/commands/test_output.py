"""How long output is made: in portions that are seen to be one table, or one JSON document."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tabulate import tabulate

ROWS = 2500  # more than two portions


@pytest.mark.parametrize("count", [1, ROWS])
def test_portions_make_one_table(in_gdb: Callable[..., Any], count: int) -> None:
    """The lines that tabulate makes of all rows at once, of which some are empty, and some wide at the end only."""
    rows = [["", str(n), "", "-" * (n % 7), f"{n:x}" * (1 + n // 2400), ""] for n in range(count)]
    headers = ["", "LEFT", "EMPTY", "RIGHT", "WIDE", "LAST"]
    align = ["left", "left", "left", "right", "left", "left"]
    whole = tabulate(rows, headers, tablefmt="plain", disable_numparse=True, colalign=align)
    assert in_gdb(lines_of_table, headers, count) == [line.rstrip() for line in whole.splitlines()]


def lines_of_table(headers: list[str], count: int) -> list[str]:
    from gdb_kdump.commands.show.tables import table

    rows = (["", n, None, "-" * (n % 7), f"{n:x}" * (1 + n // 2400), ""] for n in range(count))
    return list(table(headers, rows, right=("RIGHT",)))


def test_pieces_make_one_document(in_gdb: Callable[..., Any]) -> None:
    long = [{"number": number, "text": f'"{number}"'} for number in range(1000)]
    deep = {"a": {"b": [{"c": {"d": [{"e": long}]}}]}}
    walk = {"queues": [{"skbs": long}, {"skbs": []}]}
    documents: list[Any] = [{}, [], None, {"empty": [], "none": {}}, long, deep, walk]
    assert in_gdb(texts_of, documents) == [json.dumps(document) for document in documents]


def texts_of(documents: list[Any]) -> list[str]:
    from gdb_kdump.commands.show.jsontext import json_pieces

    return ["".join(json_pieces(document)) for document in documents]


def test_after_ctrl_c_what_there_is_time_for_is_shown(in_gdb: Callable[..., Any]) -> None:
    found = in_gdb(cut_short)
    assert 0 < found["rows"] < 10_000_000 and found["header"].split() == ["NUMBER"]
    assert found["last"].split() == [str(found["rows"] - 1)]
    assert found["numbers"] == list(range(1000))
    assert found["seconds"] < 5


def cut_short() -> dict[str, Any]:
    import json
    import time
    from itertools import count

    from gdb_kdump import walks
    from gdb_kdump.commands.show.jsontext import json_pieces
    from gdb_kdump.commands.show.tables import table

    with walks.StoppableCommand() as running:
        walks.interrupt()
        started = time.monotonic()
        header, *lines = table(("NUMBER",), ([number] for number in count()), right=("NUMBER",))
        running.restart_the_clock()
        numbers = list(walks.shown(count()))
        running.restart_the_clock()
        numbers = json.loads("".join(json_pieces({"numbers": numbers})))["numbers"]
    return {"header": header, "rows": len(lines), "last": lines[-1], "numbers": numbers[:1000],
            "seconds": time.monotonic() - started}  # fmt: skip

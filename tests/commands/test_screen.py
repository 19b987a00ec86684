"""What a terminal shows, read back from its screen: of 80, 110 and 200 columns, with colours and without."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_gdb_fixtures import Gdb, LabDump, Terminal, launcher_environment

ROWS = ("CAUSE", "CULPRIT", "KERNEL", "FAULT", "OBJECT", "EVIDENCE", "NEXT")
PROMPT = r"^\(gdb\)$"


def open_on(tmp_path: Path, dump: LabDump, columns: int, lines: int, **changes: str | None) -> Terminal:
    """A terminal on which gdb-kdump opens a dump."""
    env = launcher_environment(tmp_path, {"TERM": "xterm-256color", "COLUMNS": None, "NO_COLOR": None, **changes})
    return Terminal([sys.executable, "-m", "gdb_kdump", str(dump.vmcore)], columns, lines, env)


def kept(lines: list[str]) -> str:
    return " ".join(" ".join(lines).split())


@pytest.mark.parametrize(
    ("name", "columns", "height"),
    [("6.1-reference", 80, 24), ("6.12-reference", 80, 24), ("6.12-reference", 110, 50), ("6.1-reference", 200, 60)],
)
def test_the_first_screen(
    tmp_path: Path, lab_dump: Callable[[str], LabDump], name: str, columns: int, height: int
) -> None:
    dump = lab_dump(name)
    fault = dump.truth["fault"]
    with open_on(tmp_path, dump, columns, height) as terminal:
        terminal.wait_for(rf"{PROMPT}|--Type <RET>")
        lines = terminal.lines
    assert lines[-1] == "(gdb)" and len(lines) <= 24, "\n".join(lines)
    labels = [line[:8].strip() for line in lines if re.match(r"(?=.{8}: ) *[A-Z]+: ", line)]
    assert labels == list(ROWS)
    first = next(n for n, line in enumerate(lines) if line.lstrip().startswith("CAUSE: "))
    paragraph = kept(lines[:first])
    assert paragraph.startswith(dump.truth["panic"]) and "fell in skb_release_data. The shared info of " in paragraph
    assert paragraph.endswith(f"{fault['damaged_bytes']} bytes from {fault['first_damaged']} on.")
    rest = kept(lines[first:])
    assert f"KERNEL: {dump.truth['panic']} FAULT: skb_release_data+0x" in rest
    assert "CAUSE: overrun-self (certain)" in rest and f"OBJECT: sk_buff {fault['skb']} (skb of skb_release" in rest
    drawn = [line for line in lines if re.search(r"\bend(?:[+-]0x\w+)?:  (?:[0-9a-f]{2} ){16}", line)]
    assert len(drawn) == 1 + fault["damaged_bytes"] // 16 and " end:  58 05 a4 00 " in drawn[1]
    assert (f"{fault['first_damaged']}      end:" in drawn[1]) == (columns >= 110)
    following = lines[next(n for n, line in enumerate(lines) if " NEXT: " in line) : -1]
    assert [line.split()[-2:][0] for line in following][:1] == ["frame"] and f"shinfo {fault['skb']}" in following[1]
    assert len(following) == 3


@pytest.fixture
def terminal(tmp_path: Path, lab_dump: Callable[[str], LabDump]) -> Iterator[Terminal]:
    """A terminal of 80 columns, with the first screen of the reference case on it."""
    with open_on(tmp_path, lab_dump("6.1-reference"), 80, 300) as opened:
        opened.wait_for(PROMPT)
        yield opened


def ask(terminal: Terminal, command: str) -> list[str]:
    """The lines that a command shows."""
    before = len(terminal.lines)
    terminal.type(f"{command}\n")
    terminal.wait_for(rf"\(gdb\) {re.escape(command)}\n(.*\n)*\(gdb\)$")
    return terminal.lines[before:-1]


def test_its_next_command_selects_the_frame_at_the_fault(terminal: Terminal) -> None:
    (frame,) = (found[0] for line in terminal.lines if (found := re.search(r"frame \d+", line)))
    assert "skb_release_data (skb=" in " ".join(ask(terminal, frame))
    assert re.search(r"\$1 = \(struct sk_buff \*\) 0xffff", " ".join(ask(terminal, "print skb")))
    # For another thread's user it is two commands.
    ask(terminal, "thread 1")
    thread, again, *_ = json_commands(terminal)
    assert re.fullmatch(r"thread \d+", thread) and again == frame


def clear(terminal: Terminal) -> None:
    terminal.type("shell clear\n")
    terminal.wait_for(r"\A\(gdb\)\Z")


def json_commands(terminal: Terminal) -> list[str]:
    """The commands after kbt in ktriage's document, which is one line that a terminal breaks."""
    text = "".join(line.ljust(80) for line in ask(terminal, "ktriage --json"))
    return re.findall(r'"([^"]+)"', text[text.index('"commands": [') + 13 :])[1:]


def test_tables_fit_the_terminal(terminal: Terminal) -> None:
    whole = ask(terminal, "ktriage -v")
    rows = [line for line in whole if line.startswith("corrupt ")]
    rules = [line.split()[1] for line in rows]
    assert len(set(rules)) == len(rules) >= 5 and "shinfo.gso" in rules, whole
    gso = whole.index(rows[rules.index("shinfo.gso")])
    assert rows[rules.index("shinfo.gso")].endswith("gso_type,gso_segs")
    assert whole[gso + 1].startswith("    bits 0x") and "found gso_size 36864" in kept(whole[gso + 1 : gso + 3])
    assert max(map(len, whole[gso:])) < 80
    header, *socks = ask(terminal, "klock")
    assert "LAST RAN" in " ".join([header, *socks]) and max(map(len, socks)) < 80


def styles(terminal: Terminal, pattern: str) -> set[tuple[str, bool]]:
    """Colour and weight of what a pattern matches on the screen."""
    found = set()
    for number, line in enumerate(terminal.lines):
        for match in re.finditer(pattern, line):
            cells = terminal.cells(number)[match.start() : match.end()]
            found |= {(cell.fg, cell.bold) for cell in cells if cell.data != " "}
    return found


def test_words_are_in_gdbs_own_styles(terminal: Terminal) -> None:
    assert styles(terminal, "CAUSE: ") == {("default", True)}  # `show style title`: bold
    assert styles(terminal, r"(?<= end:  )58 05 a4 00") == {("red", False)}  # `show style highlight`
    assert styles(terminal, r"(?<=end-0x10:  )00 5a 58 00") == {("default", False)}
    ask(terminal, "set style title foreground cyan")
    ask(terminal, "set style title intensity normal")
    ask(terminal, "set style highlight background yellow")
    clear(terminal)
    ask(terminal, "ktriage")
    assert ("cyan", False) in styles(terminal, "CAUSE: ")
    ask(terminal, "set style enabled off")
    clear(terminal)
    ask(terminal, "ktriage")
    assert styles(terminal, "CAUSE: |58 05 a4 00") == {("default", False)}


@pytest.mark.parametrize("changes", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=["NO_COLOR", "dumb"])
def test_no_colours_where_none_are_wanted(
    tmp_path: Path, lab_dump: Callable[[str], LabDump], changes: dict[str, str]
) -> None:
    with open_on(tmp_path, lab_dump("6.1-reference"), 80, 24, **changes) as terminal:
        terminal.wait_for(rf"{PROMPT}|--Type <RET>")
        assert styles(terminal, "CAUSE: |58 05 a4 00") == {("default", False)}


def test_on_a_pipe_nothing_is_wrapped_or_coloured(gdb_run: Gdb, lab_dump: Callable[[str], LabDump]) -> None:
    dump = lab_dump("6.1-reference")
    run = gdb_run("set width 60", "ktriage", vmcore=dump.vmcore, env={"TERM": "xterm-256color"}).succeeded()
    lines = run.stdout.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(dump.truth["panic"]))
    assert lines[start].endswith("fell in skb_release_data.") and lines[start + 1].startswith("The shared info of ")
    assert lines[start + 2] == "   CAUSE: overrun-self (certain)" and "\033" not in run.stdout


def test_members_in_few_words(in_gdb: Callable[..., Any]) -> None:
    def said(lists: list[list[str]]) -> list[str]:
        from gdb_kdump.commands.show.findings import members_text

        return [members_text(members) for members in lists]

    frags = [f"frags[{n}]" for n in range(1, 17)]
    lists = [frags, [*frags[:2], frags[5], "nr_frags"], ["gso_type", "gso_type", "gso_segs"], ["frags[3]"], ["end"]]
    assert in_gdb(said, lists) == [
        "frags[1..16]", "frags[1..2],frags[6],nr_frags", "gso_type,gso_segs", "frags[3]", "end",
    ]  # fmt: skip


def test_cells_are_wrapped_and_rows_are_not(in_gdb: Callable[..., Any]) -> None:
    def fitted(rows: list[list[str]], limit: int) -> list[list[str]]:
        from gdb_kdump.commands.show.fitting import in_cells, narrower

        columns = list(zip(*rows))
        widths = [max(map(len, column)) + 2 for column in columns]
        made = in_cells(columns, narrower([columns], widths, limit))
        return [list(row) for row in zip(*made)]

    rows = [["ADDR", "WORDS", "N"], ["0xffff888000000000", "what does not fit one line of it", "1"], ["0x1", "", "2"]]
    assert in_gdb(fitted, rows, 40) == [
        ["ADDR", "WORDS", "N"],
        ["0xffff888000000000", "what does not fit", "1"],
        ["", "one line of it", ""],
        ["0x1", "", "2"],
    ]
    # An address is never broken, nor a word, whatever the terminal has.
    assert in_gdb(fitted, rows, 10)[1] == ["0xffff888000000000", "what does", "1"]

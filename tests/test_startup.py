"""A GDB that will not do is told apart by what it lacks, in one sentence; nothing is registered then."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_gdb_fixtures import Gdb

INIT = Path(__file__).resolve().parents[1] / "gdb_kdump" / "init.py"


@pytest.mark.parametrize(
    ("lacking", "sentence"),
    [
        ("import sys; sys.version_info = (3, 8, 10, 'final', 0)", r"Python 3.8 .* 3.9"),
        ("import gdb; del gdb.with_parameter", r"has no gdb.with_parameter: .* GDB 12"),
        ("import gdb; del gdb.with_parameter, gdb.TargetConnection", r"gdb.with_parameter and no gdb.TargetConnection"),
        ("import sys; sys.modules['elftools'] = None", r"apt install python3-pyelftools"),
        ("import sys; sys.modules['tabulate'] = None", r"apt install python3-tabulate"),
    ],
)
def test_one_sentence(gdb_run: Gdb, lacking: str, sentence: str) -> None:
    run = gdb_run(f"python {lacking}", f"source {INIT}", "help kbt", plugin=False)
    first, *rest = run.errors
    assert first.startswith("gdb-kdump: ")
    assert re.search(sentence, first), first
    assert len(rest) == 1 and "kbt" in rest[0], run.errors


def test_another_error_is_still_shown(gdb_run: Gdb) -> None:
    run = gdb_run(
        "python import elftools.elf.elffile; del elftools.elf.elffile.ELFFile", f"source {INIT}", plugin=False
    )
    assert "ImportError" in run.output and "ELFFile" in run.output


def test_any_python_can_read_why_it_will_not_do() -> None:
    """No Python before 3.6 knows these, and 2.7 not the annotations either."""
    new = (ast.AnnAssign, ast.JoinedStr, ast.NamedExpr, ast.AsyncFunctionDef, ast.Match)
    tree = ast.parse(INIT.read_text(), feature_version=(3, 4))
    assert not [node for node in ast.walk(tree) if isinstance(node, new)]
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert functions
    for node in functions:
        arguments = [*node.args.args, *node.args.kwonlyargs]
        assert node.returns is None and not any(argument.annotation for argument in arguments)


def test_completion_is_asked_for_without_a_word_first(in_gdb: Callable[..., Any]) -> None:
    """For the characters that break words; only newer GDBs show an exception there."""

    def complete() -> list[Any]:
        from gdb_kdump.commands.kbt import Kbt

        command = Kbt()
        return [command.complete("--js", None), command.complete("--js", "js")]

    first, words = in_gdb(complete)
    assert isinstance(first, list)
    assert words == ["json"]

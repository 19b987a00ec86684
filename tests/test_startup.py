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


WAYS = {  # the arguments of gdb that source it; {folder} has outer.py that sources it, a link to it, and a .gdbinit
    "by its path": ("-nx", "-ex", "source {init}"),
    "twice": ("-nx", "-ex", "source {init}", "-ex", "source {init}"),
    "nested": ("-nx", "-ex", "source {folder}/outer.py"),
    "nested twice": ("-nx", "-ex", "source {folder}/outer.py", "-ex", "source {folder}/outer.py"),
    "nested, then by its path": ("-nx", "-ex", "source {folder}/outer.py", "-ex", "source {init}"),
    "nested in a file of commands": ("-nx", "-x", "{folder}/outer.gdb"),
    "from python": ("-nx", "-ex", "python import gdb; gdb.execute('source {init}')"),
    "by a link": ("-nx", "-ex", "source {folder}/link.py"),
    "by a link, nested": ("-nx", "-ex", "source {folder}/around.py"),
    "by its folder": ("-nx", "-ex", "cd {folder}/package", "-ex", "source init.py"),
    "by a folder that is a link": ("-nx", "-ex", "source {folder}/package/init.py"),
    "relative to the folder": ("-nx", "-ex", "source package/init.py", "-ex", "cd /"),
    "relative to the home folder": ("-nx", "-ex", "cd /", "-ex", "source ~/package/init.py"),
    "by the source path": ("-nx", "-ex", "directory {folder}/package", "-ex", "source init.py"),
    "by the source path, -s": ("-nx", "-ex", "directory {folder}/package", "-ex", "source -s init.py"),
    ".gdbinit": (),
    "-x": ("-nx", "-x", "{init}"),
    "-ix": ("-nx", "-ix", "{init}"),
    "-ix, nested": ("-nx", "-ix", "{folder}/outer.py"),
    "-iex": ("-nx", "-iex", "source {init}"),
    "-iex, nested": ("-nx", "-iex", "source {folder}/outer.py"),
}


@pytest.mark.parametrize("way", WAYS)
def test_any_way_to_source_it_registers_the_commands(gdb_run: Gdb, tmp_path: Path, way: str) -> None:
    files = {
        "outer.py": f"import gdb\ngdb.execute('source {INIT}')\n",
        "around.py": f"import gdb\ngdb.execute('source {tmp_path}/link.py')\n",
        "outer.gdb": f"source {tmp_path}/outer.py\n",
        ".gdbinit": f"source {INIT}\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "link.py").symlink_to(INIT)
    (tmp_path / "package").symlink_to(INIT.parent)
    arguments = [word.format(init=INIT, folder=tmp_path) for word in WAYS[way]]
    where = "python import gdb_kdump; print('@', gdb_kdump.__file__)"
    run = gdb_run(where, "kinfo", plugin=False, arguments=arguments, env={"HOME": str(tmp_path)})
    assert f"@ {INIT.parent}/__init__.py\n" in run.stdout, run.output
    assert all("no dump is open" in line for line in run.errors) and run.errors, run.output


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

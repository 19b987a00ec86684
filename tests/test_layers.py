"""Who may import whom, who may touch gdb and who may print: read from the sources with `ast`."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gdb_kdump.channel.spawn import interpreters

ROOT = Path(__file__).resolve().parents[1]

# What each folder may import besides itself; a file beside the folders is spoken of by its name.  Innermost first:
# everybody may import what stands in BASE.
BASE = {
    "gdb_kdump", "gdb_kdump.errors", "gdb_kdump.installing", "gdb_kdump.text", "gdb_kdump.walks", "gdb_kdump.records",
}  # fmt: skip
READERS = {"arch", "layout", "memory", "session"}
MAY_IMPORT = {
    "records": set(),
    "formats": set(),
    "layout": {"formats"},
    "arch": {"formats"},
    "rules": set(),
    "channel": set(),
    "dump": {"formats", "arch", "channel"},
    "memory": {"formats", "channel", "layout"},
    "debuginfo": {"formats", "layout", "arch", "memory"},
    "session": {"formats", "layout", "arch", "channel", "memory", "debuginfo"},
    "kernel": {"formats", *READERS, "debuginfo"},
    "target": {"formats", *READERS, "channel", "debuginfo", "kernel"},
    "diagnosis": {*READERS, "debuginfo", "kernel", "rules", "target"},
    "commands": {"formats", *READERS, "channel", "debuginfo", "kernel", "rules", "target", "diagnosis"},
    "api": {*READERS, "debuginfo", "kernel"},
    "startup": {"commands"},
    "init": {"startup"},
    # Outside of GDB: the one half of it is a program of its own, and the other one is a module of the commands.
    "launcher": {"formats", "channel"},
    "__main__": {"launcher"},
}

# What is not in the standard library, and who may import it.
FOREIGN = {
    "elftools": {"gdb_kdump.debuginfo"},
    "kdumpfile": {"gdb_kdump.dump"},
    "tabulate": {"gdb_kdump.commands.show"},
    "jinja2": {"gdb_kdump.commands.export"},
    "typing_extensions": {"gdb_kdump.records"},  # mypy alone imports it
    "gdb": {
        "gdb_kdump.debuginfo",
        "gdb_kdump.api",
        "gdb_kdump.init",
        "gdb_kdump.startup",
        "gdb_kdump.kernel",
        "gdb_kdump.target",
        "gdb_kdump.diagnosis",
        "gdb_kdump.commands",
    },
}

# What the dump server, and with it the machine that has the dump, needs of ours: folders, and of arch/ the half about
# bytes.
CHILD = {"records", "formats", "dump", "errors", "text", "channel.wire"}
ABOUT_BYTES = {"architecture", "readers", "registers", "state"} | {
    f"x86_64.{name}" for name in ("machine", "paging", "locate", "direct_map", "registers", "states")
}

# Where each top-level package of the plugin is in the checkout.
SOURCES = {"gdb_kdump": ROOT / "gdb_kdump", "gdb_kdump.commands": ROOT / "commands"}


def modules() -> Iterator[tuple[str, Path]]:
    for package, folder in SOURCES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            yield ".".join([package, *(part for part in parts if part != "__init__")]), path


NAMES = dict(modules())


def ring(module: str) -> str:
    """The folder that a module stands in, or the name of a module that stands beside the folders."""
    return "base" if module in BASE else module.split(".")[1]


def imported(tree: ast.AST) -> Iterator[str]:
    """The modules that a source imports, wherever in it: a name taken from a package counts when it is a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, "import by full names"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            submodules = [name for name in names if name in NAMES]
            yield from submodules
            if len(submodules) < len(names):
                yield node.module


def within(module: str, packages: set[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def parse(module: str) -> ast.Module:
    return ast.parse(NAMES[module].read_text())


def called(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def test_every_source_is_found() -> None:
    found = {path for folder in ("gdb_kdump", "commands") for path in (ROOT / folder).rglob("*.py")}
    assert found == set(NAMES.values())


def points_inwards(module: str, name: str) -> bool:
    """Whether `module` may import the module `name` of ours."""
    is_base = name == "gdb_kdump" or within(name, BASE - {"gdb_kdump"})
    return is_base or ring(name) in {ring(module), *MAY_IMPORT.get(ring(module), set())}


@pytest.mark.parametrize("module", NAMES)
def test_imports_point_inwards(module: str) -> None:
    for name in imported(parse(module)):
        top = name.partition(".")[0]
        if top == "gdb_kdump":
            assert name in NAMES, f"{module} imports {name}, which is nowhere"
            assert points_inwards(module, name), f"{module} imports {name}"
        elif top not in sys.stdlib_module_names:
            assert within(module, FOREIGN.get(top, set())), f"{module} imports {top}"


def test_the_child_needs_little_of_ours() -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import gdb_kdump.dump.server, gdb_kdump.dump.dump; "
        "print(*(name for name in sys.modules if name.startswith('gdb_kdump.')))"
    )
    python = next(interpreters())
    run = subprocess.run([python, "-I", "-c", script, str(ROOT)], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split()) & {name for name, path in NAMES.items() if path.name != "__init__.py"}
    assert "gdb_kdump.dump.library" in loaded
    allowed = {f"gdb_kdump.{name}" for name in CHILD} | {f"gdb_kdump.arch.{name}" for name in ABOUT_BYTES}
    strangers = {name for name in loaded if not within(name, allowed)}
    assert not strangers, f"the dump server imports {strangers}"


@pytest.mark.parametrize("module", NAMES)
def test_only_commands_speak(module: str) -> None:
    calls = set(called(parse(module)))
    assert "print" not in calls, f"{module} prints; commands call gdb.write, nobody else says anything"
    if ring(module) not in ("commands", "init", "startup", "launcher"):
        speaks = calls & {"gdb.write", "gdb.flush", "sys.stdout.write", "sys.stderr.write"}
        assert not speaks, f"{module} calls {speaks}"


@pytest.mark.parametrize("module", NAMES)
def test_no_error_is_swallowed_unseen(module: str) -> None:
    """`except Exception` hides bugs; what catches BaseException must raise it again."""
    for node in ast.walk(parse(module)):
        if not isinstance(node, ast.ExceptHandler):
            continue
        kind = ast.unparse(node.type) if node.type is not None else ""
        assert kind not in ("", "Exception"), f"{module}:{node.lineno}: except {kind}"
        if kind == "BaseException":
            assert isinstance(node.body[-1], ast.Raise), f"{module}:{node.lineno}: BaseException does not go on"


def test_only_the_command_base_turns_errors_into_words() -> None:
    """gdb.GdbError prints without a traceback: only those that GDB itself calls may raise it."""
    raising = {module for module in NAMES if "gdb.GdbError" in called(parse(module))}
    assert raising <= {
        f"gdb_kdump.commands.{name}" for name in ("base", "target", "functions", "refusals", "settings")
    } | {"gdb_kdump.init", "gdb_kdump.startup"}


def test_no_old_member_name_outside_the_layout() -> None:
    """A member that has an older name is spoken of by its logical name everywhere else."""
    from gdb_kdump.layout.table import MEMBERS

    names = {name.rpartition(".")[2] for name in MEMBERS}
    old = {path for paths in MEMBERS.values() for path in paths[1:] if "." in path or path.startswith("bv_")} - names
    for module in (name for name in NAMES if ring(name) != "layout"):
        strings = {node.value for node in ast.walk(parse(module)) if isinstance(node, ast.Constant)}
        assert not strings & old, f"{module} names {strings & old}: use the logical name"

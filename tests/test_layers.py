"""Who may import whom, who may touch gdb and who may print: read from the sources with `ast`."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# A ring may import itself and the rings named here; every module of the plugin stands in exactly one.
MAY_IMPORT = {
    "pure": {"pure"},
    "server": {"pure", "server"},
    "access": {"pure", "access"},
    "kernel": {"pure", "access", "kernel"},
    "commands": {"pure", "access", "kernel", "commands"},
    "init": {"init", "commands"},
}

# Folders name their ring; modules of gdb_kdump itself are listed.
FOLDERS = {"gdb_kdump.kernel": "kernel", "gdb_kdump.rules": "pure", "gdb_kdump.commands": "commands"}
MODULES = {
    "gdb_kdump": "pure",
    "gdb_kdump.cfi": "pure",
    "gdb_kdump.directmap": "pure",
    "gdb_kdump.dumpfile": "pure",
    "gdb_kdump.elfcore": "pure",
    "gdb_kdump.errors": "pure",
    "gdb_kdump.kdumpformat": "pure",
    "gdb_kdump.layout": "pure",
    "gdb_kdump.limits": "pure",
    "gdb_kdump.locate": "pure",
    "gdb_kdump.members": "pure",
    "gdb_kdump.notes": "pure",
    "gdb_kdump.paging": "pure",
    "gdb_kdump.pcapng": "pure",
    "gdb_kdump.preflight": "pure",
    "gdb_kdump.rsp": "pure",
    "gdb_kdump.symbolfile": "pure",
    "gdb_kdump.text": "pure",
    "gdb_kdump.unpacker": "pure",
    "gdb_kdump.vmcoreinfo": "pure",
    "gdb_kdump.window": "pure",
    "gdb_kdump.wire": "pure",
    "gdb_kdump.dump": "server",
    "gdb_kdump.bulk": "pure",
    "gdb_kdump.server": "server",
    "gdb_kdump.channel": "access",
    "gdb_kdump.debuginfo": "access",
    "gdb_kdump.elf": "access",
    "gdb_kdump.banner": "access",
    "gdb_kdump.endframe": "access",
    "gdb_kdump.indexcache": "access",
    "gdb_kdump.memory": "access",
    "gdb_kdump.objects": "access",
    "gdb_kdump.permissions": "access",
    "gdb_kdump.session": "access",
    "gdb_kdump.vmlinux": "access",
    "gdb_kdump.init": "init",
    "gdb_kdump.startup": "init",
}

# What is not in the standard library, and who may import it.
FOREIGN = {
    "elftools": {"gdb_kdump.elf"},
    "kdumpfile": {"gdb_kdump.dump"},
    "tabulate": {"gdb_kdump.commands.tables"},
    "gdb": {
        "gdb_kdump.debuginfo",
        "gdb_kdump.endframe",
        "gdb_kdump.objects",
        "gdb_kdump.permissions",
        "gdb_kdump.session",
        "gdb_kdump.init",
        "gdb_kdump.startup",
        "gdb_kdump.kernel.*",
        "gdb_kdump.commands.*",
    },
}

# Where each folder of the package is in the checkout.
SOURCES = {
    "gdb_kdump": ROOT / "gdb_kdump",
    "gdb_kdump.kernel": ROOT / "gdb_kdump" / "kernel",
    "gdb_kdump.rules": ROOT / "gdb_kdump" / "rules",
    "gdb_kdump.commands": ROOT / "commands",
}


def modules() -> Iterator[tuple[str, Path]]:
    for package, folder in SOURCES.items():
        for path in sorted(folder.glob("*.py")):
            yield package if path.stem == "__init__" else f"{package}.{path.stem}", path


NAMES = dict(modules())


def ring(module: str) -> str:
    package = module if module in FOLDERS else module.rpartition(".")[0]
    found = MODULES.get(module) or FOLDERS.get(package)
    assert found is not None, f"{module} stands in no ring: add it to MODULES in {__file__}"
    return found


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


def may_import(module: str, foreign: str) -> bool:
    package = module.rpartition(".")[0]
    allowed = FOREIGN.get(foreign, set())
    return module in allowed or f"{package}.*" in allowed or f"{module}.*" in allowed


def parse(module: str) -> ast.Module:
    return ast.parse(NAMES[module].read_text())


def called(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def test_every_source_is_in_a_known_folder() -> None:
    known = set(NAMES.values())
    found = {path for folder in ("gdb_kdump", "commands") for path in (ROOT / folder).rglob("*.py")}
    assert found == known


def test_the_table_names_only_what_exists() -> None:
    assert set(MODULES) <= set(NAMES)


@pytest.mark.parametrize("module", NAMES)
def test_imports_point_inwards(module: str) -> None:
    here = ring(module)
    for name in imported(parse(module)):
        top = name.partition(".")[0]
        if top == "gdb_kdump":
            assert name in NAMES, f"{module} imports {name}, which is nowhere"
            assert ring(name) in MAY_IMPORT[here], f"{module} ({here}) imports {name} ({ring(name)})"
        elif top not in sys.stdlib_module_names:
            assert may_import(module, top), f"{module} imports {top}"


@pytest.mark.parametrize("module", NAMES)
def test_only_commands_speak(module: str) -> None:
    calls = set(called(parse(module)))
    assert "print" not in calls, f"{module} prints; commands call gdb.write, nobody else says anything"
    if ring(module) not in ("commands", "init"):
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
    from gdb_kdump.layout import MEMBERS

    names = {name.rpartition(".")[2] for name in MEMBERS}
    old = {path for paths in MEMBERS.values() for path in paths[1:] if "." in path or path.startswith("bv_")} - names
    for module in set(NAMES) - {"gdb_kdump.layout"}:
        strings = {node.value for node in ast.walk(parse(module)) if isinstance(node, ast.Constant)}
        assert not strings & old, f"{module} names {strings & old}: use the logical name of layout.py"

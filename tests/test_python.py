"""Python 3.9 runs the product: vermin (scripts/test) knows what each Python brought, but no class by its name."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [path for folder in ("gdb_kdump", "commands") for path in sorted((ROOT / folder).rglob("*.py"))]
BUILTIN = {name for name, value in vars(builtins).items() if isinstance(value, type)}


def evaluated(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below one that Python runs: annotations are left out, which `from __future__` keeps as text."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield child
                yield from evaluated(child)


def is_type(node: ast.AST, classes: set[str]) -> bool:
    if isinstance(node, ast.Subscript):
        return is_type(node.value, classes)
    if isinstance(node, ast.Constant):
        return node.value is None
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return name in classes


def unions(tree: ast.Module, classes: set[str]) -> list[int]:
    """The lines where `|` joins types."""
    return [
        node.lineno
        for node in evaluated(tree)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr)
        if is_type(node.left, classes) or is_type(node.right, classes)
    ]


def test_no_union_is_evaluated() -> None:
    """`X | Y` of types is Python 3.10's."""
    trees = {path: ast.parse(path.read_text(), feature_version=(3, 9)) for path in SOURCES}
    classes = BUILTIN | {
        node.name for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
    }
    assert len(trees) > 100
    assert {
        str(path.relative_to(ROOT)): found for path, tree in trees.items() if (found := unions(tree, classes))
    } == {}


def test_annotations_are_kept_as_text() -> None:
    assert [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if "\ndef " in (text := path.read_text()) and path.name != "init.py" and "import annotations\n" not in text
    ] == []


def test_unions_are_found() -> None:
    tree = ast.parse(
        "A = bytes | Why\n"
        "B = tuple[int, int | None]\n"
        "isinstance(x, dict | list)\n"
        "flags = Flag | other\n"
        "def f(a: int | None, *b: int | str, **c: C | int) -> int | None: a: int | None = 1 | 2\n"
        "cast(list[int] | None, x)\n"
    )
    assert unions(tree, {*BUILTIN, "Why"}) == [1, 2, 3, 6]

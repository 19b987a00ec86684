"""The pages that are made of what the code says of itself: GDB's help of commands, the docstrings of rules and causes.

MkDocs runs this (hooks in mkdocs.yml) as it builds the site.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
RULES, CAUSES = ROOT / "gdb_kdump/rules", ROOT / "gdb_kdump/diagnosis/causes"
MARK = "@@ "
RULE = re.compile(r"(skb|head|shinfo|queue|sock|slab)\.[a-z_]+")


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages to those that were written."""
    for name, page in (("commands.md", commands()), ("rules.md", rules()), ("causes.md", causes())):
        files.append(File.generated(config, name, content="\n".join(page)))
    files.append(File.generated(config, "security.md", content=(ROOT / "SECURITY.md").read_text()))
    return files


def commands() -> Iterator[str]:
    """A section for every command, with GDB's help of it."""
    yield "# Commands\n"
    yield "What `help COMMAND` says in GDB. An address is an expression as GDB takes it, or bare hex digits."
    for name, text in help_of(names()):
        yield f"\n## {name}\n\n```text\n{text.strip()}\n```"


def names() -> list[str]:
    """The commands, as their files name them."""
    found = []
    for path in sorted((ROOT / "commands").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and node.col_offset == 4:
                target = node.targets[0]
                if isinstance(target, ast.Name) and target.id == "name" and isinstance(node.value.value, str):
                    found.append(node.value.value)
    return sorted(["target kdump", "set kdump max-elements", "set kdump payload", *found])


def help_of(commands: list[str]) -> Iterator[tuple[str, str]]:
    """What GDB's help says of some commands."""
    lines = [f"source {ROOT}/gdb_kdump/init.py"]
    for name in commands:
        lines += [f"echo {MARK}{name}\\n", f"help {name}"]
    arguments = [word for line in lines for word in ("-ex", line)]
    done = subprocess.run(["gdb", "-nx", "-batch", *arguments], capture_output=True, text=True, check=True)
    for part in done.stdout.split(MARK)[1:]:
        name, _, text = part.partition("\n")
        yield name, text


def rules() -> Iterator[str]:
    """A section for every rule, with what its function says of it."""
    yield "# Rules\n"
    yield "What `skbcheck` and `ktriage` hold memory against: sk_buffs, queues, sockets, free lists."
    told: dict[str, list[str]] = {}
    for path in sorted(RULES.glob("*.py")):
        functions = {node.name: node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
        for name, function in functions.items():
            text = ast.get_docstring(function)
            if text and not name.startswith("_"):
                for rule in sorted(rule_ids(function, functions)):
                    told.setdefault(rule, []).append(text)
    for rule, texts in sorted(told.items()):
        yield f"\n## {rule}\n"
        yield "\n\n".join(prose(text) for text in dict.fromkeys(texts))


def rule_ids(function: ast.FunctionDef, functions: Mapping[str, ast.FunctionDef]) -> set[str]:
    """The ids of the findings that a function makes, itself or by what it calls in its file."""
    found: set[str] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and RULE.fullmatch(node.value):
            found.add(node.value)
        elif isinstance(node, ast.Name) and node.id.startswith("_") and node.id in functions:
            rest = {name: other for name, other in functions.items() if name != node.id}
            found |= rule_ids(functions[node.id], rest)
    return found


def causes() -> Iterator[str]:
    """A section for every kind of cause, with what its file says of it."""
    yield "# Causes\n"
    yield "What `ktriage` can say of why a kernel went down, the key `cause.kind` of its JSON."
    yield "A cause is named only where it explains what the CPU or the kernel tripped over; where none does, none is."
    for path in sorted(CAUSES.glob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text())) or ""
        head, colon, rest = text.partition(": ")
        if colon and re.fullmatch(r"[a-z-]+(, [a-z-]+)*( of [a-z ]+)?", head):
            yield f"\n## {head}\n"
            yield prose(rest[0].upper() + rest[1:])


def prose(text: str) -> str:
    """A docstring as Markdown: what looks like markup in it is none."""
    return re.sub(r"([*_<>|\[\]])", r"\\\1", text)

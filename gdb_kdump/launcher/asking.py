"""What the launcher says, and what it asks: on stderr, since stdout is for documents."""

from __future__ import annotations

import sys

from gdb_kdump.text import escape


def say(sentence: str) -> None:
    """A line on stderr."""
    sys.stderr.write(f"gdb-kdump: {escape(sentence)}\n")
    sys.stderr.flush()


def can_ask() -> bool:
    """Whether somebody is there who could answer."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask(question: str) -> bool:
    """Whether the answer to a question is yes; end of input is no."""
    sys.stderr.write(f"{escape(question)} [y/N] ")
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        sys.stderr.write("\n")
    return answer.strip().lower() in ("y", "yes")


def megabytes(size: int) -> str:
    """A number of bytes for people."""
    return f"{size / 1e6:,.0f} MB" if size >= 10_000_000 else f"{size / 1e6:.1f} MB"

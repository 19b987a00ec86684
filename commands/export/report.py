"""The report of a panic as one HTML file that needs no network and no script."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import gdb_kdump
from gdb_kdump.commands.export.drawing import WIDTH, buffer_drawing
from gdb_kdump.errors import UsageError
from gdb_kdump.text import escape, hex16

_LOG_LINES = 80  # the last ones
_SHOWN = ("ktriage", "kinfo", "kbt", "shinfo", "skbwalk", "knet", "kmod", "klog")
_HERE = Path(__file__).parent
NEEDS_JINJA = (
    "the HTML file needs Jinja2 in GDB's Python, which has none: apt install python3-jinja2 "
    "(dnf, zypper: the same name), or pip install jinja2 for that Python"
)


def report_html(documents: Mapping[str, Any]) -> str:
    """The page of the documents that commands print with --json, by the commands' names; raises UsageError."""
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError:
        raise UsageError(NEEDS_JINJA) from None
    environment = Environment(
        autoescape=True,
        finalize=_visible,
        loader=FileSystemLoader(_HERE),
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"hex": hex16, "date": _date}
    shown = {name: documents.get(name, {}) for name in _SHOWN}
    nodename = shown["kinfo"]["nodename"] or ""
    style = (_HERE / "report.css").read_text(encoding="utf-8")
    return environment.get_template("report.html.jinja").render(
        shown,
        drawing=_drawing(shown),
        log=shown["klog"].get("records", [])[-_LOG_LINES:],
        machine=nodename if nodename not in ("", "(none)") else "unnamed machine",
        refusals={name: document["error"] for name, document in shown.items() if "error" in document},
        style=style,
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        suspects=[hook for hook in shown["knet"].get("hooks", ()) if hook["module"]],
        version=gdb_kdump.__version__,
        width=WIDTH,
    )


def _visible(value: object) -> object:
    """Text of a dump with what hides in it made visible; what marks it up is Jinja's to escape."""
    # Jinja's own Markup is a str as well, and has nothing of a dump in it.
    return escape(value) if type(value) is str else value


def _date(seconds: float | None) -> str:
    return "unknown" if seconds is None else f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%d %H:%M:%S} UTC"


def _drawing(documents: Mapping[str, Any]) -> Any:
    shinfo = documents["shinfo"]
    return buffer_drawing(shinfo, documents["ktriage"]["overrun"]) if "head" in shinfo else None

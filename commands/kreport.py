"""kreport: what the other commands say of a panic, in a file that travels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gdb

from gdb_kdump.commands.arguments import Arguments, Option
from gdb_kdump.commands.base import Command
from gdb_kdump.commands.export.files import named, new_file
from gdb_kdump.commands.export.report import report_html
from gdb_kdump.commands.show.findings import note_verdict
from gdb_kdump.errors import KdumpError, UsageError
from gdb_kdump.session import Session
from gdb_kdump.walks import Gaps

# What may be a packet's bytes as a whole: without `kdump payload` it stays out of the files.
_OF_PAYLOAD = ("fields",)


@dataclass(frozen=True)
class Report:
    """The files that were written, the answer, and the verdict."""

    files: tuple[Path, ...]
    summary: str
    verdict: str


class Kreport(Command[Report]):
    name = "kreport"
    operands = "FILE"
    completer = gdb.COMPLETE_FILENAME
    summary = """Write the story of the panic to an HTML file, and the JSON documents behind it to one beside it.
FILE is new, and ends in .html. The page needs no network and no script; it has what ktriage, kbt, shinfo, skbwalk,
knet --hooks, kinfo, kmod and klog say. With set kdump payload off the members of the
shared info, which may be a packet's bytes, stay out; what findings and the log quote of them does not."""

    options = (Option("-j", "write the JSON file alone, which needs no Jinja2"),)

    def read(self, session: Session, arguments: Arguments, gaps: Gaps) -> Report:
        if not arguments.operands:
            raise UsageError("name a file: kreport FILE.html")
        page = named(" ".join(arguments.operands))
        if page.suffix != ".html":
            raise UsageError(f"{page.name} does not end in .html: kreport FILE.html")
        documents = collect(bool(gdb.parameter("kdump payload")))
        data = page.with_suffix(".json")
        texts = {} if arguments.has("-j") else {page: report_html(documents)}
        texts[data] = json.dumps(documents, ensure_ascii=True) + "\n"
        written: list[Path] = []
        try:
            for file, text in texts.items():
                with new_file(file) as stream:
                    stream.write(text.encode("utf-8", "backslashreplace"))
                written.append(file)
        except KdumpError:
            for file in written:
                file.unlink()
            raise
        triage = documents["ktriage"]
        return Report(tuple(written), triage["summary"], triage["verdict"])

    def note(self, result: Report) -> None:
        note_verdict(result.verdict)

    def text(self, result: Report) -> Iterator[str]:
        yield from (f"wrote {file}" for file in result.files)
        yield f"{result.verdict}: {result.summary}"

    def json(self, result: Report) -> Any:
        return {
            "files": [str(file) for file in result.files],
            "summary": result.summary,
            "verdict": result.verdict,
        }


def collect(with_payload: bool) -> dict[str, Any]:
    """The documents by the names of their commands; of one that refuses only "error" with its sentence.

    Raises KdumpError where ktriage or kinfo, about which the others are, refuse.
    """
    run = Command.registered
    documents = {"ktriage": run["ktriage"].document(), "kinfo": run["kinfo"].document()}
    triage = documents["ktriage"]
    lines = {"kbt": "", "knet": "--hooks", "kmod": "", "klog": ""}
    lines |= {name: triage[key] for name, key in (("shinfo", "skb"), ("skbwalk", "sock")) if triage[key]}
    for name, line in lines.items():
        try:
            documents[name] = run[name].document(line)
        except KdumpError as error:
            documents[name] = {"error": f"{name}: {error}"}
    if not with_payload:
        for key in _OF_PAYLOAD:
            documents.get("shinfo", {}).pop(key, None)
    return documents

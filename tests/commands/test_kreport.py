"""kreport: a page that a browser shows without network or script, with what the other commands say and nothing else."""

from __future__ import annotations

import html.parser
import json
import re
import shutil
import stat
import subprocess
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from patched_dump import PatchedDump
from pytest_gdb_fixtures import KERNELS, Gdb, LabDump

from gdb_kdump.text import escape

VOID = {"meta", "br", "rect", "link", "img"}
HOSTILE = b"<b>&\"'\x1b[1m</b>"  # 15 characters are a task's name


class Page(html.parser.HTMLParser):
    """What a page consists of: its tags, all well nested, its attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def written(gdb_run: Gdb, vmcore: Path, folder: Path, *before: str) -> tuple[Page, dict[str, Any], Path]:
    file = folder / "report.html"
    gdb_run(*before, f"kreport {file}", vmcore=vmcore).succeeded()
    return Page(file.read_text()), json.loads(file.with_suffix(".json").read_text()), file


@pytest.mark.parametrize("name", [f"{KERNELS[-1]}-reference"])
def test_it_has_what_the_commands_say(
    gdb_run: Gdb, lab_dump: Callable[[str], LabDump], tmp_path: Path, name: str
) -> None:
    dump = lab_dump(name)
    page, documents, file = written(gdb_run, dump.vmcore, tmp_path)
    triage, fault = documents["ktriage"], dump.truth["fault"]
    run = gdb_run("ktriage --json", f"shinfo {fault['skb']} --json", "kbt --json", "klog --json", vmcore=dump.vmcore)
    assert [documents[name] for name in ("ktriage", "shinfo", "kbt", "klog")] == run.succeeded().documents
    for path in (file, file.with_suffix(".json")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    shown = " ".join(page.text.split())
    assert triage["summary"] in shown and f"overwritten: {triage['overrun']['length']} bytes" in shown
    facts = [fact[key] for fact in triage["cause"]["evidence"] for key in ("text", "command")]
    findings = [finding["message"] for finding in triage["findings"]]
    functions = [frame["function"] for frame in documents["kbt"]["tasks"][0]["frames"]]
    for words in (*facts, *findings, *functions, *triage["commands"], documents["kinfo"]["build_id"]):
        assert " ".join(escape(words).split()) in shown, words
    last = documents["klog"]["records"][-1]["text"]
    assert " ".join(escape(last).split()) in shown


@pytest.mark.parametrize("name", [f"{KERNELS[0]}-reference"])
def test_it_needs_no_network_and_no_script(
    gdb_run: Gdb, lab_dump: Callable[[str], LabDump], tmp_path: Path, name: str
) -> None:
    page, _, file = written(gdb_run, lab_dump(name).vmcore, tmp_path)
    assert not {"script", "link", "img", "iframe", "object", "embed", "form"} & set(page.tags)
    for attribute, value in page.attributes:
        assert not attribute.startswith("on") and attribute not in ("src", "style"), (attribute, value)
        assert attribute != "href" or value.startswith("#")
        assert attribute != "http-equiv" or value == "Content-Security-Policy"
    targets = {value for attribute, value in page.attributes if attribute == "id"}
    assert {value[1:] for attribute, value in page.attributes if attribute == "href"} <= targets
    assert "url(" not in file.read_text() and "@import" not in file.read_text()


def test_hostile_names_are_text(gdb_run: Gdb, lab_dump: Callable[[str], LabDump], tmp_path: Path) -> None:
    dump = lab_dump(f"{KERNELS[0]}-reference")
    show = gdb_run(f"print/x (unsigned long)$task({dump.truth['panic_task']['pid']})->comm", vmcore=dump.vmcore)
    patched = PatchedDump(dump.vmcore, tmp_path / "vmcore")
    patched.write(int(re.findall(r"\$1 = (0x[0-9a-f]+)", show.stdout)[0], 16), HOSTILE + b"\0")
    page, documents, file = written(gdb_run, patched.path, tmp_path)
    assert documents["ktriage"]["panic"]["comm"] == HOSTILE.decode()
    assert "b" not in page.tags and "\x1b" not in file.read_text() + file.with_suffix(".json").read_text()
    assert escape(HOSTILE) in page.text and "&lt;b&gt;&amp;" in file.read_text()


def test_without_payload_there_is_none(gdb_run: Gdb, lab_dump: Callable[[str], LabDump], tmp_path: Path) -> None:
    dump = lab_dump(f"{KERNELS[0]}-reference")
    _, documents, _ = written(gdb_run, dump.vmcore, tmp_path, "set kdump payload off")
    assert documents["shinfo"]["findings"] and "fields" not in documents["shinfo"]


@pytest.mark.parametrize("scenario", ["healthy", "old-makedumpfile"])
def test_other_dumps_have_reports_too(
    gdb_run: Gdb, lab_dump: Callable[[str], LabDump], tmp_path: Path, scenario: str
) -> None:
    dump = lab_dump(f"{KERNELS[1]}-{scenario}")
    page, documents, _ = written(gdb_run, dump.vmcore, tmp_path)
    assert documents["ktriage"]["summary"] in " ".join(page.text.split())
    assert ("overwritten" in page.text) == (documents["ktriage"]["overrun"] is not None)


def test_refusals_leave_nothing_behind(gdb_run: Gdb, lab_dump: Callable[[str], LabDump], tmp_path: Path) -> None:
    dump = lab_dump(f"{KERNELS[0]}-healthy")
    there = tmp_path / "there.json"
    there.write_text("mine")
    (tmp_path / "jinja2.py").write_text("raise ImportError")
    refusals = {
        "kreport": "name a file",
        f"kreport {tmp_path}/x.htm": "does not end in .html",
        f"kreport -j {tmp_path}/no/x.html": "cannot write",
        f"kreport -j {tmp_path}/there.html": "is not overwritten",
        f"kreport {tmp_path}/x.html": "python3-jinja2",
    }
    for line, words in refusals.items():
        run = gdb_run(f"python sys.path.insert(0, {str(tmp_path)!r})", line, vmcore=dump.vmcore)
        assert run.status == 1 and len(run.errors) == 1 and words in run.errors[0], run.output
    # Of two files that cannot both be written there is none.
    run = gdb_run(f"kreport {tmp_path}/there.html", vmcore=dump.vmcore)
    assert run.status == 1 and "is not overwritten" in run.stderr
    assert there.read_text() == "mine"
    assert not [file.name for file in tmp_path.iterdir() if file.suffix in (".html", ".htm")]
    run = gdb_run(
        f"python sys.path.insert(0, {str(tmp_path)!r})", f"kreport -j {tmp_path}/data.html --json", vmcore=dump.vmcore
    )
    assert run.succeeded().json()["files"] == [str(tmp_path / "data.json")]


@pytest.mark.skipif(not shutil.which("chromium"), reason="there is no Chromium")
def test_a_browser_shows_it_to_everyone(gdb_run: Gdb, lab_dump: Callable[[str], LabDump], tmp_path: Path) -> None:
    """In a real Chromium its own policy refuses nothing of it, and axe-core finds nothing that keeps one out."""
    _, _, file = written(gdb_run, lab_dump(f"{KERNELS[0]}-reference").vmcore, tmp_path)
    for width in (390, 1280):
        looked_at(file, tmp_path, width)


def looked_at(file: Path, tmp_path: Path, width: int) -> None:
    picture = tmp_path / "report.png"
    said = chromium(tmp_path, width, f"--screenshot={picture}", file.as_uri()).stderr
    assert "Content Security Policy" not in said and "CONSOLE" not in said
    assert picture.read_bytes()[:4] == b"\x89PNG" and picture.stat().st_size > 20_000

    axe = resources.files("axe_core_python").joinpath("axe.min.js").read_text()
    violations = "found.violations.map(wrong => [wrong.id, wrong.nodes[0].html])"
    run = f"axe.run().then(found => {{ document.title = JSON.stringify({violations}) }})"
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", file.read_text())
    judged = tmp_path / "judged.html"
    judged.write_text(text.replace("</body>", f"<script>{axe}</script><script>{run}</script></body>"))
    shown = chromium(tmp_path, width, "--virtual-time-budget=20000", "--dump-dom", judged.as_uri()).stdout
    title = html.unescape(re.findall(r"<title>(.*?)</title>", shown, re.DOTALL)[0])
    assert json.loads(title) == []


def chromium(home: Path, width: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0",
            f"--user-data-dir={home / 'profile'}", f"--window-size={width},2000", *arguments,
        ],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip

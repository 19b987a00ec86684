"""The documentation's site: it builds without a warning, its links lead somewhere, and nothing is left out of it."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]


class Links(HTMLParser):
    """The ids of a page, and where its links and pictures lead."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.ids.add(value)
            elif name in ("href", "src") and value:
                self.links.append(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", "docs/mkdocs.yml"]
    done = subprocess.run([*command, "--site-dir", str(folder)], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_link_leads_somewhere(site: Path) -> None:
    pages = {page: Links(page.read_text()) for page in site.rglob("*.html") if page.name != "404.html"}
    assert len(pages) >= 7
    for page, links in pages.items():
        for link in links.links:
            parts = urlsplit(link)
            if parts.scheme:
                assert parts.scheme == "https", link
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            assert target.exists(), (page.name, link)
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].ids, (page.name, link)


def test_every_command_rule_and_cause_has_its_section(site: Path) -> None:
    shown = {name: (site / f"{name}.html").read_text() for name in ("commands", "rules", "causes")}
    texts = [path.read_text() for path in (ROOT / "commands").glob("*.py")]
    commands = set(re.findall(r'^    name = "(\w+)"$', "\n".join(texts), re.MULTILINE))
    assert len(commands) > 15
    for name in commands:
        assert re.search(rf"<h2[^>]*>{name}<", shown["commands"]) and f"Usage: {name}" in shown["commands"], name
    text = "".join(path.read_text() for path in (ROOT / "gdb_kdump/rules").glob("*.py"))
    rules = set(re.findall(r'"((?:skb|head|shinfo|queue|sock|slab)\.[a-z_]+)"', text))
    assert len(rules) > 15
    for rule in rules:
        assert re.search(rf"<h2[^>]*>{re.escape(rule)}<", shown["rules"]), rule
    files_of_causes = (ROOT / "gdb_kdump/diagnosis/causes").glob("*.py")
    kinds = [re.match(r'"""([a-z, -]+): ', path.read_text()) for path in files_of_causes]
    told = [kind[1] for kind in kinds if kind is not None]
    assert len(told) > 10
    for kind in told:
        assert re.search(rf"<h2[^>]*>{kind}<", shown["causes"]), kind

"""A vmlinux that is nowhere here comes from debuginfod, a real one on loopback, when the user says so."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fixtures import bare
from pytest_gdb_fixtures import Run, Terminal, launcher_environment, run_launcher

from gdb_kdump.launcher import debuginfod


@dataclass
class Served:
    """A dump whose vmlinux only the server has; `log` is what the server says that it was asked."""

    vmcore: Path
    build_id: str
    size: int
    url: str
    log: Path

    def asked(self) -> int:
        return len(re.findall(rf"GET /buildid/{self.build_id}", self.log.read_text()))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    made = tmp_path_factory.mktemp("made")
    case = bare.make(made, named=(*bare.NAMED, "BUILD-ID"))
    files, dump = tmp_path_factory.mktemp("files"), tmp_path_factory.mktemp("dump")
    size = case.vmlinux.stat().st_size
    notes = subprocess.run(["readelf", "-n", case.vmlinux], capture_output=True, text=True, check=True).stdout
    (build_id,) = re.findall(r"Build ID: ([0-9a-f]+)", notes)
    case.vmlinux.rename(files / "kernel.of.another.name")
    vmcore = case.vmcore.rename(dump / "vmcore")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url, log = f"http://127.0.0.1:{port}", made / "log"
    with log.open("w") as output:
        server = subprocess.Popen(
            ["debuginfod", "-v", "-F", "-d", ":memory:", "-p", str(port), str(files)],
            stdout=output, stderr=subprocess.STDOUT, env={"HOME": str(made), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        try:
            _wait_until_served(f"{url}/buildid/{build_id}/debuginfo", server)
            yield Served(vmcore, build_id, size, url, log)
        finally:
            server.terminate()
            server.wait()


def _wait_until_served(address: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(address, timeout=10).close()
            return
        except (urllib.error.URLError, ConnectionError):
            assert server.poll() is None and time.monotonic() < deadline, "debuginfod does not serve the vmlinux"
            time.sleep(0.1)


def launch(tmp_path: Path, served: Served, *words: str, urls: str | None = None) -> Run:
    env = {"DEBUGINFOD_URLS": served.url if urls is None else urls, "KDUMP_VMLINUX_PATH": "",
           "DEBUGINFOD_CACHE_PATH": str(tmp_path / "cache")}  # fmt: skip
    return run_launcher(tmp_path, *words, "--run", "kps", "--json", str(served.vmcore), env=env)


def test_nothing_is_asked_of_a_server_unless_the_user_says_so(tmp_path: Path, served: Served) -> None:
    before = served.asked()
    run = launch(tmp_path, served)
    assert run.status == 1 and run.stdout == "" and served.asked() == before
    (sentence,) = run.errors
    assert "no vmlinux with debug information found for kernel 2.6.32-bare" in sentence
    assert sentence.endswith(f"; or --debuginfod fetches it from {served.url}")


def test_without_a_server_it_says_how_to_name_one(tmp_path: Path, served: Served) -> None:
    (sentence,) = launch(tmp_path, served, "--debuginfod", urls="").errors
    assert sentence.endswith("; or name a debuginfod server, which is then asked for it: export DEBUGINFOD_URLS=URL")


def test_it_is_fetched_once_and_then_kept(tmp_path: Path, served: Served) -> None:
    before = served.asked()
    run = launch(tmp_path, served, "--debuginfod")
    assert [task["pid"] for task in run.json()["tasks"]] and run.status == 0, run.output
    size = f"{served.size / 1e6:.1f} MB"
    assert run.errors[0] == f"gdb-kdump: fetching the vmlinux of 2.6.32-bare from {served.url} ({size})"
    assert served.asked() == before + 2  # for the size, of which no more is read, and by debuginfod-find
    again = launch(tmp_path, served)
    assert again.json() == run.json() and "fetching" not in again.stderr and served.asked() == before + 2


def test_a_server_that_has_not_got_it(tmp_path: Path, served: Served) -> None:
    with socket.socket() as closed:  # bound, and not listening
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        (sentence,) = launch(tmp_path, served, "--debuginfod", urls=url).errors
    assert sentence.endswith(f"; no debuginfod server has it: {url}")
    assert debuginfod.find_offer("00" * 20, [served.url]) is None
    assert debuginfod.find_offer(served.build_id, [url, served.url]) == debuginfod.Offer(served.url, served.size)


@pytest.mark.parametrize("answer", ["n", "y"])
def test_on_a_terminal_it_is_a_question(tmp_path: Path, served: Served, answer: str) -> None:
    changes = {"DEBUGINFOD_URLS": served.url, "KDUMP_VMLINUX_PATH": "", "TERM": "xterm",
               "DEBUGINFOD_CACHE_PATH": str(tmp_path / "cache")}  # fmt: skip
    command = [sys.executable, "-m", "gdb_kdump", "--run", "kinfo --json", str(served.vmcore)]
    with Terminal(command, 400, 40, launcher_environment(tmp_path, changes)) as terminal:
        size = f"{served.size / 1e6:.1f} MB"
        terminal.wait_for(rf"^No vmlinux of 2.6.32-bare is here; {served.url} has it \({size}\). Fetch it\? \[y/N\]")
        terminal.type(f"{answer}\n")
        status = terminal.end()
        shown = "\n".join(terminal.lines)
    if answer == "y":
        assert status == 0 and '"build_id": ' in shown and list((tmp_path / "cache").iterdir())
    else:
        assert status == 1 and "gdb-kdump: no vmlinux with debug information found" in shown
        assert '"build_id": ' not in shown and not (tmp_path / "cache").exists()

"""Files that somebody has laid beside a dump, or where it says that one should look: none is executed or believed."""

from __future__ import annotations

import http.server
import os
import shutil
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_gdb_fixtures import Gdb, LabDump
from pytest_gdb_fixtures.nobody import as_nobody

from gdb_kdump.debuginfo import index_cache, tree
from gdb_kdump.debuginfo.elf import ElfFile
from gdb_kdump.debuginfo.vmlinux import Wanted, _candidates

USER_CACHE = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
PYTHON_MODULES = ("json", "struct", "kdumpfile", "tabulate", "elftools", "gdb_kdump", "ctypes", "sitecustomize")


@pytest.fixture(scope="module")
def dump(lab_dump: Callable[[str], LabDump]) -> LabDump:
    return lab_dump("6.1-divide")


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """What every planted script makes when it is executed."""
    return tmp_path / "executed"


@pytest.fixture
def planted(tmp_path: Path, dump: LabDump, marker: Path) -> Path:
    """A folder with a dump and scripts of every name that GDB, Python or a shell might take for its own."""
    folder = tmp_path / "planted"
    folder.mkdir()
    (folder / "vmcore").symlink_to(dump.vmcore)
    python = f"open({str(marker)!r}, 'a').write(__file__ + '\\n' if '__file__' in globals() else 'inlined\\n')\n"
    for name in ("vmcore-gdb.py", "vmlinux-gdb.py", "gdbinit.py", *(f"{module}.py" for module in PYTHON_MODULES)):
        (folder / name).write_text(python)
    for name in (".gdbinit", "gdbinit", ".gdbearlyinit", "vmcore-gdb.gdb", "vmlinux-gdb.gdb", "kdump_lab.ko-gdb.gdb"):
        (folder / name).write_text(f"shell touch {marker}\n")
    for name in ("gdb", "python3", "sh", "cc", "makedumpfile"):
        (folder / name).write_text(f"#!/bin/sh\ntouch {marker}\n")
        (folder / name).chmod(0o755)
    plant_module(dump, folder, python)
    return folder


def plant_module(dump: LabDump, folder: Path, python: str) -> None:
    """The dump's own module, with a script for GDB in it."""
    script = folder / "script"
    script.write_bytes(b"\4inlined\n" + python.encode() + b"\0")
    module = dump.vmcore.parent / dump.truth["module_file"]
    add = ["--add-section", f".debug_gdb_scripts={script}", "--set-section-flags", ".debug_gdb_scripts=readonly,debug"]
    subprocess.run(["objcopy", *add, module, folder / "kdump_lab.ko"], check=True)
    script.unlink()


def test_what_is_planted_would_work(gdb_run: Gdb, planted: Path, marker: Path) -> None:
    """The control: who trusts that folder gets its scripts executed, so that the next tests can fail."""
    gdb_run(f"file {planted / 'kdump_lab.ko'}", plugin=False, arguments=("-nx", "-iex", "set auto-load safe-path /"))
    assert marker.exists()


def test_nothing_beside_the_dump_is_executed(gdb_run: Gdb, planted: Path, marker: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    run = gdb_run(
        "kmod -s", "kbt", "ktriage", "list", "info functions lab_divide", "kmod --json",
        vmcore=planted / "vmcore", cwd=planted, arguments=(),
        env={"HOME": str(home), "XDG_CACHE_HOME": USER_CACHE},
    )  # fmt: skip
    assert "Traceback" not in run.output, run.output
    assert run.json()["modules"][0]["file"] == str(planted / "kdump_lab.ko"), "the planted module is the right one"
    assert not marker.exists(), marker.read_text()


def test_scripts_beside_a_vmlinux_are_declined(gdb_run: Gdb, planted: Path, marker: Path, dump: LabDump) -> None:
    shutil.copyfile(dump.vmlinux, planted / "vmlinux")
    run = gdb_run("kbt", "kinfo --json", vmcore=planted / "vmcore", cwd=planted)
    assert run.json()["vmlinux"] == str(planted / "vmlinux")
    assert not marker.exists(), marker.read_text()
    gdb_run(vmcore=planted / "vmcore", arguments=("-nx", "-iex", "set auto-load safe-path /"))
    assert marker.exists(), "the control: a user who trusts the folder"


def test_wrong_files_do_not_hide_the_right_ones(gdb_run: Gdb, dump: LabDump, tmp_path: Path) -> None:
    """A damaged vmlinux, a fifo that nobody writes to, a module that is none: the search goes on."""
    (tmp_path / "vmcore").symlink_to(dump.vmcore)
    data = bytearray((dump.vmcore.parent / dump.truth["module_file"]).read_bytes())
    (tmp_path / "kdump_lab.ko").write_bytes(data[: len(data) // 2])
    data[0x28:0x30] = b"\xff" * 8
    (tmp_path / "vmlinux").write_bytes(data)
    os.mkfifo(tmp_path / f"vmlinux-{dump.truth['kernel']}")
    os.mkfifo(tmp_path / "kdump_lab.ko.debug")
    folder = (dump.vmcore.parent / dump.truth["module_file"]).parent
    env = {"KDUMP_VMLINUX_PATH": f"{tmp_path}:{folder}"}
    run = gdb_run("kmod -s --json", "kinfo --json", vmcore=tmp_path / "vmcore", env=env).succeeded()
    assert run.documents[0]["modules"][0]["file"] == str(folder / "kdump_lab.ko")
    assert run.json()["vmlinux"] == str(dump.vmlinux)


@pytest.mark.parametrize("evil", ["/etc", "../../tmp/x", "..", "", "a/b", "x\n", "-rf", ";id", "\x1b[m"])
def test_a_dump_does_not_say_where_to_look(evil: str) -> None:
    vmcore = Path("/var/crash/vmcore")
    roots = tree.roots(vmcore, [Path("/usr/lib/debug")])
    usual = set(_candidates(Wanted(vmcore, None, None, roots), None))
    assert set(_candidates(Wanted(vmcore, evil, evil, roots), None)) <= usual
    assert [path for root in roots for path in tree.module_folders(root, evil)] == []


def test_a_release_that_is_a_path_is_not_followed(gdb_run: Gdb, dump: LabDump) -> None:
    """VMCOREINFO's OSRELEASE names a folder that has the module: without the dump's word nobody would look there."""
    release = dump.truth["kernel"]
    folder = Path(f"/tmp/{os.getpid():0{len(release) - 5}}")
    folder.mkdir()
    try:
        shutil.copy(dump.vmcore.parent / dump.truth["module_file"], folder)
        vmcore = folder / "dump" / "vmcore"
        vmcore.parent.mkdir()
        data = dump.vmcore.read_bytes()
        vmcore.write_bytes(data.replace(f"OSRELEASE={release}".encode(), f"OSRELEASE={folder}".encode()))
        run = gdb_run("kmod -s --json", "kinfo --json", vmcore=vmcore, vmlinux=dump.vmlinux).succeeded()
        assert run.json()["release"] == str(folder)
        assert run.documents[0]["modules"][0]["file"] is None
    finally:
        shutil.rmtree(folder)


class _Counter(http.server.BaseHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_error(404)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def debuginfod() -> Iterator[tuple[str, list[str]]]:
    """A debuginfod server that has nothing: its address, and what it was asked for."""
    asked: list[str] = []
    handler = type("Handler", (_Counter,), {"asked": asked})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()


def test_debuginfod_is_asked_only_when_the_user_says_so(
    gdb_run: Gdb, dump: LabDump, debuginfod: tuple[str, list[str]], tmp_path: Path
) -> None:
    url, asked = debuginfod
    env = {"DEBUGINFOD_URLS": url, "DEBUGINFOD_CACHE_PATH": str(tmp_path / "debuginfod")}
    run = gdb_run("kmod -s", "kbt", "ktriage", "frame function lab_ioctl", "list", vmcore=dump.vmcore, env=env)
    assert run.status == 0 and asked == []
    gdb_run("set debuginfod enabled on", "file /bin/true", plugin=False, env=env)
    assert asked, "the control: it could have been asked"


def test_an_index_cache_that_is_a_link_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compile_types: Callable[..., Path]
) -> None:
    vmlinux = ElfFile(compile_types("int one;", f"-Wl,--build-id=0x{'ab' * 20}"))
    victim, cache = tmp_path / "victim", tmp_path / "cache"
    (victim / "index").mkdir(parents=True)
    cache.mkdir()
    (victim / "index" / ("ab" * 20 + ".gdb-index")).write_text("precious")
    (cache / "gdb-kdump").symlink_to(victim)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    assert index_cache.prepare(vmlinux, refuse) is None
    assert [path.name for path in (victim / "index").iterdir()] == ["ab" * 20 + ".gdb-index"]
    (cache / "gdb-kdump").unlink()
    (cache / "gdb-kdump").mkdir()
    (cache / "gdb-kdump" / "index").symlink_to(victim / "index")
    assert index_cache.prepare(vmlinux, refuse) is None
    assert [path.name for path in (victim / "index").iterdir()] == ["ab" * 20 + ".gdb-index"]


def refuse(_: float) -> None:
    raise AssertionError("an index is being made")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
def test_an_index_cache_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compile_types: Callable[..., Path]
) -> None:
    vmlinux = ElfFile(compile_types("int one;", f"-Wl,--build-id=0x{'ab' * 20}"))
    (tmp_path / "gdb-kdump" / "index").mkdir(parents=True)
    os.chown(tmp_path / "gdb-kdump" / "index", 65534, 65534)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert index_cache.prepare(vmlinux, refuse) is None


def test_what_others_could_put_into_the_index_cache_goes(
    in_gdb: Callable[..., Any], compile_types: Callable[..., Path], tmp_path: Path
) -> None:
    def prepare(vmlinux: str) -> str:
        from pathlib import Path

        from gdb_kdump.debuginfo import index_cache
        from gdb_kdump.debuginfo.elf import ElfFile

        return str(index_cache.prepare(ElfFile(Path(vmlinux)), lambda seconds: None))

    program = compile_types("struct thing { int member; } thing;", "-Wl,--build-id")
    elf = ElfFile(program)
    index = tmp_path / "gdb-kdump" / "index"
    index.mkdir(parents=True)
    index.chmod(0o777)
    planted = index / f"{elf.build_id}.gdb-index"
    planted.write_text("planted")
    # Its checksum is right: only the folder's mode tells that somebody else may have written both.
    index_cache._seal(index, str(elf.build_id), index_cache._described(elf))
    found = in_gdb(prepare, str(program), env={"XDG_CACHE_HOME": str(tmp_path)})
    assert found == str(index)
    assert stat.S_IMODE(index.stat().st_mode) == 0o700
    assert planted.read_bytes() != b"planted"


def test_a_vmcore_of_nobody(gdb_run: Gdb, dump: LabDump, tmp_path: Path) -> None:
    """What is opened without root's rights leaves nothing behind with anybody else's."""
    options = as_nobody(tmp_path)
    if not options:
        pytest.skip("this runs without root's rights already")
    public = tmp_path / "public"
    shutil.copy(dump.vmcore, public)
    public.chmod(0o644)
    options["env"]["XDG_CACHE_HOME"] = str(tmp_path / "none")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    options["env"]["KDUMP_VMLINUX_PATH"] = f"{closed}:{closed}/below"  # passed over
    run = gdb_run("kinfo --json", vmcore=public, **options).succeeded()
    assert run.json()["release"] == dump.truth["kernel"]

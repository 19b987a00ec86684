"""The server as a process: how it starts, how it ends, and what its client says then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import kdumpfile_writer as writer
import pytest
from pytest_gdb_fixtures.process import GDB

from gdb_kdump.channel.client import Server
from gdb_kdump.channel.wire import MAX_READ, pack_runs, unpack_runs
from gdb_kdump.errors import DumpError
from gdb_kdump.records.runs import Hole
from gdb_kdump.records.threads import Thread

ROOT = Path(__file__).resolve().parents[2]
DATA = writer.DIRECT_MAP + 0x100000
FIRST = writer.text_page(0x100)


@pytest.fixture(scope="module")
def dump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dump") / "vmcore"
    writer.write_kdump(path, writer.small_kernel())
    return path


@pytest.fixture
def server(dump: Path) -> Iterator[Server]:
    with Server.start(str(dump)) as server:
        yield server


@pytest.fixture(autouse=True)
def leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test here must leave the temporary directory as empty as it found it."""
    private = tmp_path / "private"
    private.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(private))
    yield
    assert list(private.iterdir()) == []


def test_a_full_disk_leaves_memory_for_the_socket(dump: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/proc/nowhere")  # where no folder can be made
    before = set(Path("/dev/shm").iterdir())
    with Server.start(str(dump)) as server:
        assert server.info().format
        # What another test's gdb puts there goes again; ours would stay as long as the server.
        deadline = time.monotonic() + 5
        while (new := set(Path("/dev/shm").iterdir()) - before) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not new


def test_a_long_path_of_the_temporary_folder(dump: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path of a socket has room for 107 bytes."""
    folder = tmp_path / ("t" * 120)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with Server.start(str(dump)) as server:
        assert server.info().format
        assert list(folder.iterdir()) == []


def pid_of(server: Server) -> int:
    return server._process.pid


def ends(pid: int, seconds: float = 5.0) -> bool:
    """Whether process `pid` ends in time; a zombie has ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return True
        if state in "ZX":
            return True
        time.sleep(0.01)
    return False


def test_runs_survive_the_wire() -> None:
    from gdb_kdump.errors import Why

    runs: list[bytes | Hole] = [b"abc", Hole(4096, Why.FILTERED), b"d" * 5000, Hole(1, Why.TRUNCATED)]
    runs.append(Hole(7, Why.UNKNOWN))
    assert unpack_runs(pack_runs(runs)) == runs
    assert unpack_runs(pack_runs([])) == []


def test_reading(server: Server) -> None:
    assert server.read(DATA, 16) == [FIRST[:16]]
    (whole,) = server.read(DATA, MAX_READ)
    assert whole == b"".join(writer.text_page(0x100 + index) for index in range(16))
    assert server.read(DATA, 0) == []
    for addr, size in ((DATA, MAX_READ + 1), (-1, 1), ((1 << 64) - 1, 2)):
        with pytest.raises(ValueError, match="cannot be asked for"):
            server.read(addr, size)


def test_closing_twice_leaves_no_process(dump: Path) -> None:
    server = Server.start(str(dump))
    pid = pid_of(server)
    server.close()
    server.close()
    assert not server.alive and not Path(f"/proc/{pid}").exists()
    with pytest.raises(DumpError, match="was closed"):
        server.read(DATA, 1)


def test_a_killed_server_says_so_and_keeps_saying_so(server: Server) -> None:
    os.kill(pid_of(server), signal.SIGSEGV)
    with pytest.raises(DumpError, match=r"died \(SIGSEGV\) while reading 0xffff888000100000: .*damaged.*run `target"):
        server.read(DATA, 1)
    assert not server.alive
    with pytest.raises(DumpError, match="SIGSEGV"):
        server.check()


def test_a_killed_server_is_noticed_by_check(server: Server) -> None:
    server.check()
    os.kill(pid_of(server), signal.SIGKILL)
    assert ends(pid_of(server))
    with pytest.raises(DumpError, match="SIGKILL.*want of memory"):
        server.check()


def test_a_server_that_hangs_is_given_up(dump: Path) -> None:
    with Server.start(str(dump), read_timeout=0.3) as server:
        os.kill(pid_of(server), signal.SIGSTOP)
        with pytest.raises(DumpError, match="did not answer for 0.3 s while reading"):
            server.read(DATA, 1)
        assert not server.alive
        assert ends(pid_of(server))


def test_opening_is_bounded(dump: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sleeper = tmp_path / "python"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(0o755)
    monkeypatch.setenv("KDUMP_PYTHON", str(sleeper))
    with pytest.raises(DumpError, match="did not answer for 0.3 s while opening"):
        Server.start(str(dump), open_timeout=0.3)


def test_ctrl_c_during_a_read_leaves_the_channel_in_step(server: Server) -> None:
    os.kill(pid_of(server), signal.SIGSTOP)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        server.read(DATA, 8)
    os.kill(pid_of(server), signal.SIGCONT)
    assert server.read(DATA + 8, 8) == [FIRST[8:16]], "and not the answer to the request before"


def test_the_terminals_ctrl_c_is_not_the_servers(server: Server) -> None:
    assert os.getsid(pid_of(server)) == pid_of(server)


def test_the_server_cannot_dump_core_or_grow_without_bound(server: Server) -> None:
    limits = Path(f"/proc/{pid_of(server)}/limits").read_text()
    soft = {line[:26].strip(): line[26:].split()[0] for line in limits.splitlines()}
    assert soft["Max core file size"] == "0"
    assert int(soft["Max address space"]) < 5 << 30


def test_the_server_inherits_nothing_else(dump: Path, tmp_path: Path) -> None:
    secret = os.open(tmp_path / "secret", os.O_CREAT | os.O_RDWR)
    os.set_inheritable(secret, True)
    try:
        with Server.start(str(dump)) as server:
            links = {os.readlink(link) for link in Path(f"/proc/{pid_of(server)}/fd").iterdir()}
    finally:
        os.close(secret)
    assert not any("secret" in link for link in links)
    assert str(dump) in links


@pytest.mark.parametrize("connected", [False, True])
def test_the_server_ends_with_its_parent(dump: Path, connected: bool) -> None:
    script = textwrap.dedent(
        f"""
        import os, socket, sys, time
        sys.path.insert(0, {str(ROOT)!r})
        from gdb_kdump.channel.client import Server
        server = Server.start({str(dump)!r})
        if {connected}:
            gdb = socket.socket(socket.AF_UNIX)
            gdb.connect(server.socket_path)
        os.write(1, b"%d\\n" % server._process.pid)
        time.sleep(60)
        """
    )
    environment = {**os.environ, "TMPDIR": str(tempfile.tempdir)}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        parent.kill()
    assert ends(pid)


def test_an_interpreter_without_the_library(dump: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = tmp_path / "python"
    bare.write_text('#!/bin/sh\nexec /usr/bin/python3 -S "$@"\n')  # without site there is no dist-packages
    bare.chmod(0o755)
    monkeypatch.setenv("KDUMP_PYTHON", str(bare))
    with pytest.raises(DumpError, match="apt install python3-libkdumpfile.*No module named 'kdumpfile'"):
        Server.start(str(dump))
    monkeypatch.setenv("KDUMP_PYTHON", str(tmp_path / "absent"))
    with pytest.raises(DumpError, match="apt install python3-libkdumpfile.*absent"):
        Server.start(str(dump))


def test_the_last_words_of_a_server_that_fails(dump: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho first >&2\necho 'the reason' >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("KDUMP_PYTHON", str(broken))
    with pytest.raises(DumpError, match=r"failed \(exit status 3\) while opening .* \(the reason\)"):
        Server.start(str(dump))


def test_threads_are_replaced_as_a_whole(server: Server) -> None:
    many = [Thread(number, f"name {number}", number % 8, {"rip": number, "rsp": 1 << 63}) for number in range(1, 5001)]
    server.set_threads(many, 77)
    server.set_threads(many[:3], 2)
    with pytest.raises(DumpError, match="must have a thread"):
        server.set_threads([], 1)
    assert server.read(DATA, 8) == [FIRST[:8]]


GDB_SCRIPT = """
import gdb, sys, os
sys.path.insert(0, {root!r})
from gdb_kdump.channel.client import Server
from gdb_kdump.records.threads import Thread
server = Server.start({dump!r})
server.set_threads([Thread(5, "one<&>\\x1b[m", 0, dict(rip=0x1234, rsp={data})), Thread(6, "", None, dict())], 5)
gdb.execute("set osabi none")
gdb.execute("set architecture i386:x86-64")
gdb.execute("target remote " + server.socket_path)
server.drop_socket()
for command in {commands!r}:
    try:
        text = gdb.execute(command, to_string=True)
    except gdb.error as error:
        text = "error: " + str(error)
    gdb.write(command + " -> " + text.strip() + "\\n")
"""


def run_gdb(dump: Path, tmp_path: Path, commands: list[str]) -> dict[str, str]:
    """What a stock GDB, connected to a server for `dump`, answers to each command."""
    script = tmp_path / "script.py"
    script.write_text(GDB_SCRIPT.format(root=str(ROOT), dump=str(dump), data=DATA, commands=commands))
    environment = {**os.environ, "TMPDIR": str(tempfile.tempdir)}
    done = subprocess.run(
        [GDB, "-nx", "-batch", "-x", str(script)], capture_output=True, text=True, env=environment, timeout=60
    )
    assert done.returncode == 0, done.stderr
    answers = {}
    for command in commands:
        rest = done.stdout.split(f"{command} -> ", 1)[1]
        answers[command] = min((rest.split(f"\n{other} -> ", 1)[0] for other in commands), key=len)
    return answers


def test_a_stock_gdb_reads_and_cannot_write(dump: Path, tmp_path: Path) -> None:
    read, regs, threads = f"x/2xg {DATA + 8:#x}", "info registers rip rbx", "info threads"
    write, poke, go = f"set var *(long*){DATA:#x} = 1", "set var $rip = 1", "stepi"
    answers = run_gdb(dump, tmp_path, [read, regs, threads, write, poke, go, "p $st0", "x/xb 0", "detach"])
    assert answers[read].split()[1:] == ["0x0000010000000001", "0x0000010000000002"]
    assert answers[regs].split()[:2] == ["rip", "0x1234"] and "<unavailable>" in answers[regs]
    assert '"one<&>\\x1b[m"' in answers[threads] and "Thread 6" in answers[threads]
    for refused in (write, poke, "x/xb 0"):
        assert answers[refused].startswith("error:")
    assert "Remote failure reply: E01" in answers[go]
    assert answers["p $st0"].endswith("<unavailable>")
    assert "error" not in answers["detach"]

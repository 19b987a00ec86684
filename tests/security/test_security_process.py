"""The dump server is private: who reaches it, what it may do, what it leaves behind; and what GDB opens for it."""

from __future__ import annotations

import os
import re
import signal
import socket
import struct
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kdumpfile_writer as writer
import pytest
from pytest_gdb_fixtures import Gdb, LabDump
from pytest_gdb_fixtures.nobody import as_nobody

from gdb_kdump.channel.client import Server

ROOT = Path(__file__).resolve().parents[2]
CONNECT = """
import socket, sys
caller = socket.socket(socket.AF_UNIX)
try:
    caller.connect(sys.argv[1])
    caller.settimeout(5)
    caller.sendall(b"$?#3f")
    print(caller.recv(100))
except OSError as error:
    print(type(error).__name__)
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dump") / "vmcore"
    writer.write_kdump(path, writer.small_kernel())
    return path


@pytest.fixture
def server(small: Path) -> Iterator[Server]:
    with Server.start(str(small)) as server:
        yield server


@pytest.fixture(scope="module")
def dump(lab_dump: Callable[[str], LabDump]) -> LabDump:
    return lab_dump("6.1-reference")


def proc(server: Server, name: str) -> Path:
    return Path(f"/proc/{server._process.pid}/{name}")


def stranger(server: Server, *wrapper: str) -> str:
    """What another process is told that connects to the server's socket."""
    path = server.socket_path.replace("self", str(os.getpid()))
    done = subprocess.run(
        [*wrapper, "/usr/bin/python3", "-c", CONNECT, path], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def ask(path: str) -> bytes:
    with socket.socket(socket.AF_UNIX) as gdb:
        gdb.connect(path)
        gdb.sendall(b"$?#3f")
        return gdb.recv(100)


def test_only_the_process_that_started_the_server_gets_an_answer(server: Server) -> None:
    assert stranger(server) in ("b''", "ConnectionResetError", "BrokenPipeError"), "another process of the same user"
    assert ask(server.socket_path).startswith(b"+$T05thread:1;"), "and GDB still gets through"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_cannot_connect(server: Server) -> None:
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    assert stranger(server, *nobody) == "PermissionError"
    assert ask(server.socket_path).startswith(b"+$T05")


def test_the_socket_has_no_name_and_takes_one_connection(server: Server) -> None:
    path = server.socket_path
    with socket.socket(socket.AF_UNIX) as gdb:
        gdb.connect(path)
        gdb.sendall(b"$?#3f")
        assert gdb.recv(100).startswith(b"+$T05")
        with socket.socket(socket.AF_UNIX) as second, pytest.raises(ConnectionRefusedError):
            second.connect(path)
        assert listening(server) == []
        ours = sockets(server) | sockets_of(Path("/proc/self/fd"))
        named = [row[7] for row in unix_sockets() if row[6] in ours and len(row) > 7]
    # The name by which it was bound: a descriptor that is closed, of a folder that is gone.
    assert named and all(re.fullmatch(r"/proc/self/fd/\d+/rsp", name) for name in named), named
    assert not any(Path(name).exists() for name in named), named


def sockets(server: Server) -> set[str]:
    """The inodes of the server's sockets."""
    return sockets_of(proc(server, "fd"))


def sockets_of(fds: Path) -> set[str]:
    links = [os.readlink(link) for link in fds.iterdir() if link.is_symlink()]
    return {link[8:-1] for link in links if link.startswith("socket:[")}


def unix_sockets() -> list[list[str]]:
    """The machine's Unix sockets, in columns: the fourth is the state, the seventh the inode, the eighth the name."""
    return [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]


def listening(server: Server) -> list[str]:
    """The inodes of the server's sockets that listen, of any family, and of those that are not Unix sockets."""
    unix = {row[6]: row[3] for row in unix_sockets()}
    return [inode for inode in sockets(server) if inode not in unix or unix[inode] == "00010000"]


def test_limits(server: Server) -> None:
    limits = {line[:26].strip(): line[26:].split()[:2] for line in proc(server, "limits").read_text().splitlines()}
    assert limits["Max core file size"] == ["0", "0"]
    assert all(int(limit) < 5 << 30 for limit in limits["Max address space"])
    assert all(int(limit) <= 1 << 20 for limit in limits["Max file size"])
    status = dict(line.split(":\t", 1) for line in proc(server, "status").read_text().splitlines())
    assert status["NoNewPrivs"] == "1"
    assert status["Umask"] == "0077"
    assert os.getsid(server._process.pid) == server._process.pid


def test_nothing_is_inherited_but_the_two_sockets_and_the_dump(server: Server, small: Path) -> None:
    links = {link.name: os.readlink(link) for link in proc(server, "fd").iterdir()}
    kinds = sorted(re.sub(r"\[\d+\]|\(deleted\)", "", link).strip() for link in links.values())
    dumps = kinds.count(str(small))
    assert dumps >= 1
    expected = ["/dev/null", "/dev/null", "/memfd:gdb-kdump-stderr", "socket:", "socket:", *[str(small)] * dumps]
    assert kinds == sorted(expected)


def test_no_core_even_through_a_pipe(small: Path, tmp_path: Path) -> None:
    """/proc/PID belongs to root when a process is not dumpable: then no core_pattern gets its memory."""
    options = as_nobody(tmp_path)
    checkout = options["init"].parents[1] if options else ROOT
    script = f"""
        import os, sys
        sys.path.insert(0, {str(checkout)!r})
        from gdb_kdump.channel.client import Server
        with Server.start({str(small)!r}) as server:
            print(os.geteuid(), os.stat("/proc/%d/environ" % server._process.pid).st_uid)
    """
    for parent in (small, *small.parents):
        if options and str(parent).startswith("/tmp/"):
            parent.chmod(0o755)
    command = [*options.get("wrapper", ()), "/usr/bin/python3", "-c", textwrap.dedent(script)]
    env = {"TMPDIR": "/tmp", "PATH": os.environ["PATH"]}
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    user, owner = map(int, done.stdout.split())
    assert user != 0 and owner == 0


def test_a_server_that_dies_leaves_no_core(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(Path.cwd().iterdir())
    os.kill(server._process.pid, signal.SIGABRT)
    assert server._process.wait(5) == -signal.SIGABRT
    assert set(Path.cwd().iterdir()) == before


def test_modules_in_the_way_are_not_imported(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "executed"
    for name in ("json", "struct", "socket", "kdumpfile", "gdb_kdump", "errors", "sitecustomize", "usercustomize"):
        (tmp_path / f"{name}.py").write_text(f"open({str(marker)!r}, 'w')\n")
    for variable in ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONUSERBASE"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with Server.start(str(small)) as server:
        assert server.info().format
        assert "-I" in proc(server, "cmdline").read_bytes().decode().split("\0")
    assert not marker.exists()


CALLS = (
    "trace=socket,bind,connect,listen,accept,accept4,execve,open,openat,creat,mkdir,unlink,rename,symlink,link,chmod"
)
COMMANDS = ("kps", "kbt -a", "ktriage", "skbcheck --all", "klog", "kmod -s", "ksock", "info threads", "bt", "kinfo")


@pytest.fixture(scope="module")
def calls(dump: LabDump, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[str, str]]]:
    """A session under strace: its folder, and the (name, rest) of each system call of GDB and all its children."""
    folder = tmp_path_factory.mktemp("traced")
    log = folder / "log"
    gdb = Gdb(folder)
    gdb(vmcore=dump.vmcore)  # the index of vmlinux is made, if it was not
    wrapper = ("strace", "-f", "-qq", "-s", "200", "-e", CALLS, "-o", str(log))
    run = gdb(*COMMANDS, vmcore=dump.vmcore, wrapper=wrapper, timeout=300)
    assert "Traceback" not in run.output
    found = re.findall(r"^\d+ +(\w+)\((.*)$", log.read_text(), re.MULTILINE)
    assert len(found) > 100
    return folder, found


def test_no_network(calls: tuple[Path, list[tuple[str, str]]]) -> None:
    found = calls[1]
    network = [
        (name, rest) for name, rest in found if name in ("socket", "bind", "connect", "listen", "accept", "accept4")
    ]
    assert {rest.split(",")[0] for name, rest in network if name == "socket"} <= {"AF_UNIX", "AF_LOCAL"}
    bound = [rest for name, rest in network if name == "bind"]
    # In the folder that test_nothing_is_written_but_a_socket knows, by a descriptor of it: that path is never too long.
    assert len(bound) == 1 and re.search(r'sun_path="/proc/self/fd/\d+/rsp"', bound[0]), bound
    for name, rest in network:
        if name == "connect" and not rest.rstrip().endswith("(No such file or directory)"):
            assert re.search(r'sun_path="/proc/self/fd/\d+"', rest), rest


def test_only_gdb_and_python_are_executed(calls: tuple[Path, list[tuple[str, str]]]) -> None:
    executed = [rest for name, rest in calls[1] if name == "execve" and rest.rstrip().endswith("= 0")]
    names = [rest.split('"')[1] for rest in executed]
    assert [name for name in names if name != "/usr/bin/iconv"] == [
        "/usr/bin/gdb",
        "/usr/bin/python3",
    ]  # GDB's charsets
    assert '"-I"' in executed[-1]


def test_nothing_is_written_but_a_socket(calls: tuple[Path, list[tuple[str, str]]]) -> None:
    folder, found = calls
    writing = re.compile(r"O_WRONLY|O_RDWR|O_CREAT")
    opened = [rest for name, rest in found if name in ("open", "openat", "creat") and writing.search(rest)]
    strange = [rest for rest in opened if not re.search(r'"/dev/(null|tty)"|"/proc/self/', rest) and "= -1" not in rest]
    # Python's tempfile tries its folder with an empty file, which it removes.
    assert all(f'"{folder}' in rest and "O_EXCL" in rest and "0600" in rest for rest in strange) and len(strange) < 2
    made = [rest for name, rest in found if name == "mkdir" and "= 0" in rest]
    assert len(made) == 1 and f'"{folder}' in made[0] and "0700" in made[0]
    (mode,) = [rest for name, rest in found if name == "chmod"]
    assert "/rsp" in mode and "0600" in mode


def test_peer_credentials_are_what_the_server_thinks() -> None:
    """struct ucred: the server unpacks it by hand."""
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        pid, uid, gid = struct.unpack("iII", one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    assert (pid, uid, gid) == (os.getpid(), os.geteuid(), os.getegid())


def test_gdb_listens_nowhere(in_gdb: Callable[..., Any], dump: LabDump) -> None:
    def listening() -> list[str]:
        import os
        from pathlib import Path

        inodes = set()
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        processes = [Path("/proc/self"), *(Path("/proc") / pid for pid in children)]
        for process in processes:
            for link in (process / "fd").iterdir():
                target = os.readlink(link) if link.exists() or link.is_symlink() else ""
                if target.startswith("socket:["):
                    inodes.add(target[8:-1])
        found = []
        for table, at, state in (("tcp", 9, None), ("tcp6", 9, None), ("udp", 9, None), ("unix", 6, "00010000")):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                words = line.split()
                if words[at] in inodes and (state is None or words[3] == state):
                    found.append(line)
        assert len(processes) == 2
        return found

    assert in_gdb(listening, vmcore=dump.vmcore) == []

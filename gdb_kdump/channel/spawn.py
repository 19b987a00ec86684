"""Starts the dump server: which Python runs it, its two sockets, and where it complains.

The server is a child process because libkdumpfile may die on a damaged dump, and because GDB's own Python is not
always one that can import kdumpfile. The child listens for GDB on a Unix socket whose file is gone before anybody can
see it: the client keeps an O_PATH descriptor of it, and /proc/self/fd/N is the path that GDB connects to.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from gdb_kdump.errors import DumpError, words_of

_SERVER = Path(__file__).resolve().parents[1] / "dump" / "server.py"
_SEND_BUFFER = 1 << 20  # what the server may be ahead of us; the kernel gives less, but more than without asking


class NoLibrary(DumpError):
    """This interpreter cannot import kdumpfile."""


class Child(NamedTuple):
    """A dump server that has been started."""

    process: subprocess.Popen[bytes]
    channel: socket.socket
    """Our end of the bulk channel."""
    socket_fd: int
    """The O_PATH descriptor of the socket that GDB connects to."""
    stderr: BinaryIO
    """What it writes there, from its beginning."""


def interpreters() -> Iterator[str]:
    """The Pythons to try, each once. sys.executable is no use: inside GDB it names a file that need not exist."""
    chosen = os.environ.get("KDUMP_PYTHON")
    if chosen:
        yield chosen
        return
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    candidates = ["/usr/bin/python3", os.path.join(sys.prefix, "bin", version), shutil.which("python3")]
    seen = set()
    for candidate in candidates:
        if candidate and os.access(candidate, os.X_OK) and os.path.realpath(candidate) not in seen:
            seen.add(os.path.realpath(candidate))
            yield candidate


def spawn(interpreter: str, vmcores: Sequence[str], memory: str = "") -> Child:
    """Start a server for the dump in the files `vmcores`; raises NoLibrary, DumpError.

    `memory` says whether a file of no known form may be memory as it is: see dump/server.py.
    """
    stderr = _memory_file()
    channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    listener, socket_fd = _listen()
    try:
        process = _start(interpreter, [memory, *vmcores], theirs, listener, stderr)
    except OSError as error:
        channel.close()
        stderr.close()
        os.close(socket_fd)
        raise NoLibrary(f"cannot start {interpreter}: {words_of(error)}") from error
    finally:
        theirs.close()
        listener.close()
    return Child(process, channel, socket_fd, stderr)


def _listen() -> tuple[socket.socket, int]:
    """A listening Unix socket without a file, and an O_PATH descriptor by which this process can connect to it."""
    directory = _private_folder()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    path = f"/proc/self/fd/{folder}/rsp"  # a socket's own path has room for 107 bytes, and TMPDIR may be longer
    try:
        listener.bind(path)
        try:
            os.chmod(path, 0o600)
            listener.listen(1)
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        finally:
            os.unlink(path)
    except OSError as error:
        listener.close()
        raise DumpError(f"cannot make a socket in {directory}: {words_of(error)}") from error
    finally:
        os.close(folder)
        os.rmdir(directory)
    return listener, descriptor


def _private_folder() -> str:
    """A new folder of mode 0700, so that no other user gets at the socket before its file is gone; raises DumpError."""
    for parent in (None, "/dev/shm"):  # where the disk is full there is still memory
        with suppress(OSError):
            return tempfile.mkdtemp(prefix="gdb-kdump-", dir=parent)
    raise DumpError("no folder can be made for a socket: make room in /tmp, or set TMPDIR to a folder that has some")


def _memory_file() -> BinaryIO:
    """A file without a name for the server's stderr: unlike a pipe it cannot fill up and stop the writer."""
    return os.fdopen(os.memfd_create("gdb-kdump-stderr", os.MFD_CLOEXEC), "w+b", buffering=0)


def _start(
    interpreter: str, words: Sequence[str], channel: socket.socket, listener: socket.socket, stderr: BinaryIO
) -> subprocess.Popen[bytes]:
    arguments = [str(channel.fileno()), str(listener.fileno()), str(os.getpid()), *words]
    return subprocess.Popen(
        [interpreter, "-I", str(_SERVER), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        pass_fds=(channel.fileno(), listener.fileno()),
        start_new_session=True,  # the terminal's Ctrl-C is for GDB alone
    )

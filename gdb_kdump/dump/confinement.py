"""What confines the dump server: it ends with its parent, leaves no copy of secrets, and has bounded memory."""

from __future__ import annotations

import ctypes
import os
import resource
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_ADDRESS_SPACE = 4 << 30
_STDERR_LIMIT = 1 << 20


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, even while it is stuck in libkdumpfile."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before prctl
        os._exit(1)


def keep_secrets() -> None:
    """Leave no copy of the dump's memory behind, and gain no rights by anything that is executed."""
    os.umask(0o077)
    _limit(resource.RLIMIT_CORE, 0)
    libc = ctypes.CDLL(None)
    # The limit does not bind a core_pattern that is a pipe; this does, and keeps other processes of the user out.
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def restrain(bitmap_bytes: int, window_bytes: int) -> None:
    """Bound what a damaged dump can make libkdumpfile do."""
    _limit(resource.RLIMIT_FSIZE, max(_STDERR_LIMIT, window_bytes))
    _limit(resource.RLIMIT_AS, _ADDRESS_SPACE + 4 * bitmap_bytes)


def _limit(what: int, value: int) -> None:
    _, hard = resource.getrlimit(what)
    bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (bound, bound))

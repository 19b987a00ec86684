"""GDB's connection to the dump server, and what is changed in GDB as long as it lasts."""

from __future__ import annotations

import gdb

from gdb_kdump.errors import DumpError
from gdb_kdump.records.threads import SavedFrame, Thread
from gdb_kdump.session import Session, find_current, set_current
from gdb_kdump.target import end_of_stack, permissions

REMOTE_TIMEOUT_SECONDS = 60
# GDB's settings, their defaults, and what they are while a dump is open.  GDB reads stacks through its cache: with a
# line of 64 bytes `thread apply all bt` takes 1.4 times as long.  No function ends a backtrace because of its name.
_SETTINGS = (("dcache line-size", 64, 512), ("backtrace past-entry", False, True), ("backtrace past-main", False, True))

_connection: gdb.TargetConnection | None = None  # that of the current session


def connect(session: Session, threads: list[Thread], selected: int, frame: SavedFrame | None) -> None:
    """Hand the threads to the server and make the session GDB's target, with thread `selected` chosen."""
    global _connection
    server = session.server
    try:
        server.set_threads(threads, selected, frame)
        permissions.withdraw()
        # GDB 13 dies over the shared libraries that a program run before has left, once the osabi changes.
        gdb.execute("nosharedlibrary", to_string=True)
        with (
            gdb.with_parameter("osabi", "none"),
            gdb.with_parameter("remotetimeout", REMOTE_TIMEOUT_SECONDS),
            gdb.with_parameter("confirm", False),
        ):
            gdb.execute(f"target remote {server.socket_path}", to_string=True)
    except gdb.error as error:
        permissions.restore()
        server.close()
        raise DumpError(f"GDB could not connect to the dump server: {error}") from error
    except BaseException:
        permissions.restore()
        server.close()
        raise
    server.drop_socket()
    end_of_stack.load(session.arch)
    _change_settings()
    _connection = gdb.selected_inferior().connection
    set_current(session)


def close() -> None:
    """Close the open dump, if any: GDB's connection, the server and its files."""
    session, connection = find_current(), _connection
    _forget_session()
    if session is None:
        return
    if connection is not None and connection.is_valid():
        with gdb.with_parameter("confirm", False):
            try:
                gdb.execute("disconnect", to_string=True)
            except gdb.error:  # the server has died, and GDB found that out just now
                pass
    session.close()
    permissions.restore()
    _change_settings(back=True)


def forget(connection: gdb.TargetConnection) -> None:
    """GDB dropped a connection (kill, disconnect): end the session if it was the session's."""
    session = find_current()
    if session is None or connection != _connection:
        return
    permissions.restore()
    if session.server.crashed:
        return  # the next command shall say what happened
    _forget_session()
    session.close()
    _change_settings(back=True)


def _forget_session() -> None:
    global _connection
    set_current(None)
    _connection = None


def _change_settings(back: bool = False) -> None:
    """Change GDB's settings, or change them back, but none that the user has set to something else."""
    for name, default, ours in _SETTINGS:
        expected, wanted = (ours, default) if back else (default, ours)
        if gdb.parameter(name) == expected:
            gdb.execute(f"set {name} {int(wanted)}", to_string=True)


def is_selected() -> bool:
    """Whether a dump is open, and the selected inferior is the one that has it."""
    return _connection is not None and gdb.selected_inferior().connection == _connection

"""GDB's connection to the dump server, and what is changed in GDB as long as it lasts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

import gdb

from gdb_kdump.channel.client import Server
from gdb_kdump.debuginfo.gdb_settings import Setting, change, changed
from gdb_kdump.errors import DumpError, KdumpError, UsageError, words_of
from gdb_kdump.records.threads import SavedFrame, Thread
from gdb_kdump.session import Session, find_current, set_current
from gdb_kdump.target import end_of_stack, permissions, signal_frames

REMOTE_TIMEOUT_SECONDS = 60
# GDB's settings, their defaults, and what they are while a dump is open.  GDB reads stacks through its cache: with a
# line of 64 bytes `thread apply all bt` takes 1.4 times as long.  No function ends a backtrace because of its name.
_SETTINGS: Sequence[tuple[str, Setting, Setting]] = (
    ("dcache line-size", 64, 512),
    ("backtrace past-entry", False, True),
    ("backtrace past-main", False, True),
)

_connection: gdb.TargetConnection | None = None  # that of the current session
_inferior = 0  # the number of the inferior that has it
_to_put_back: list[tuple[str, Setting, Setting]] = []  # settings, as they were, and as we have made them


def connect(session: Session, threads: list[Thread], selected: int, frame: SavedFrame | None) -> list[str]:
    """Hand the threads to the server and make the session GDB's target, with thread `selected` chosen.

    Returns what the user has to know of it.  Raises DumpError, UsageError; whatever fails, and wherever, GDB is as it
    was before, and the session closed.
    """
    server, socket = session.server, session.server.socket_path
    with ExitStack() as undo:
        undo.callback(session.close)
        undo.callback(put_back)
        undo.callback(_disconnect, server, socket)
        server.set_threads(threads, selected, frame)
        notes = _leave_non_stop()
        permissions.withdraw()
        notes += _connect(socket)
        try:
            signal_frames.load(session)
            end_of_stack.load(session.arch)
        except DumpError as error:
            raise DumpError(f"GDB does not take the symbols that end its backtraces: {error}") from error
        for name, default, ours in _SETTINGS:
            if gdb.parameter(name) == default:
                change_while_open(name, ours)
        _select(selected)
        undo.pop_all()
    server.drop_socket()
    _remember(session)
    return notes


def _connect(socket: str) -> list[str]:
    notes = []
    try:
        # GDB 13 dies over the shared libraries that a program run before has left, once the osabi changes.
        gdb.execute("nosharedlibrary", to_string=True)
        with changed("osabi", "none"), changed("remotetimeout", REMOTE_TIMEOUT_SECONDS):
            gdb.execute(f"target remote {socket}", to_string=True)
    except gdb.error as error:
        words = words_of(error)
        if not _is_connected(socket):
            raise DumpError(f"GDB could not connect to the dump server: {words}") from error
        notes.append(
            f"the dump is open, but what a plugin or a hook of `target remote` does after it has failed: {words}"
        )
    if not _is_connected(socket) or gdb.selected_thread() is None:
        raise DumpError(
            "GDB was connected to the dump server and has left it at once: a plugin or a hook of `target remote` does "
            "that; remove it, or start GDB with -nx"
        )
    return notes


def _select(number: int) -> None:
    """Select a thread by its id: it was, but a plugin may have looked at others since."""
    selected = gdb.selected_thread()
    wanted = next((one for one in gdb.selected_inferior().threads() if one.ptid[1] == number), None)
    if wanted is not None and (selected is None or selected.ptid != wanted.ptid):
        wanted.switch()


def _is_connected(socket: str) -> bool:
    """Whether the selected inferior's target is the server that listens there."""
    connection = gdb.selected_inferior().connection
    return connection is not None and connection.details == socket


def _leave_non_stop() -> list[str]:
    """Switch non-stop mode off, in which GDB takes no target that cannot run, and which it cannot leave later."""
    if not gdb.parameter("non-stop"):
        return []
    running = next((inferior for inferior in gdb.inferiors() if inferior.pid), None)
    if running is not None:
        raise UsageError(
            f"GDB debugs process {running.pid} in non-stop mode, which no dump can be opened in: start another GDB, or "
            "`kill` the process and `set non-stop off`"
        )
    change_while_open("non-stop", False)
    return ["non-stop mode is off as long as the dump is open"]


def _disconnect(server: Server, socket: str) -> None:
    """Have GDB let go of a server that it may be connected to, whatever hooks its commands have."""
    for command in ("disconnect", "detach"):
        if _is_connected(socket):
            _settle(partial(gdb.execute, command, to_string=True))
    if len(gdb.inferiors()) > 1:
        # GDB 13 has the selected inferior then, but the symbols of another one that shared its connection.
        _settle(partial(gdb.execute, f"inferior {gdb.selected_inferior().num:#x}", to_string=True))
    if _is_connected(socket):
        server.close()
        _settle(partial(gdb.selected_inferior().read_memory, 0, 1))  # GDB finds out that it is gone


def _settle(step: Callable[[], object]) -> None:
    """Do one step of several that put GDB back: one that fails does not keep the others from being done."""
    try:
        step()
    except (gdb.error, KdumpError):
        pass


def close() -> None:
    """Close the open dump, if any: GDB's connection, the server and its files."""
    session, connection = find_current(), _connection
    _forget_session()
    if session is None:
        return
    with ExitStack() as steps:
        steps.callback(put_back)
        steps.callback(session.close)
        if connection is not None and connection.is_valid():
            _disconnect(session.server, str(connection.details))


def forget(connection: gdb.TargetConnection) -> None:
    """GDB dropped a connection (kill, disconnect): end the session if it was the session's."""
    session = find_current()
    if session is None or connection != _connection:
        if session is None:
            put_back()  # what could not be while another inferior had a process
        return
    put_back()
    if session.server.crashed:
        return  # the next command shall say what happened
    _forget_session()
    session.close()


def _remember(session: Session) -> None:
    global _connection, _inferior
    inferior = gdb.selected_inferior()
    _connection, _inferior = inferior.connection, inferior.num
    set_current(session, elsewhere)


def _forget_session() -> None:
    global _connection
    set_current(None)
    _connection = None


def change_while_open(name: str, value: Setting) -> None:
    """Change a setting of GDB until put_back(); raises DumpError."""
    before = gdb.parameter(name)
    change(name, value)
    _to_put_back.append((name, before, value))


def put_back() -> None:
    """Put back what was changed in GDB, but nothing that the user has set to something else since.

    What GDB does not take, since another inferior has a process, it is given again when that has ended.
    """
    _settle(permissions.restore)
    for setting in reversed(_to_put_back[:]):
        name, before, ours = setting
        if gdb.parameter(name) == ours:
            _settle(partial(change, name, before))
        if gdb.parameter(name) != ours or before == ours:
            _to_put_back.remove(setting)


def is_selected() -> bool:
    """Whether a dump is open, and the selected inferior is the one that has it."""
    inferior = gdb.selected_inferior()
    return _connection is not None and inferior.num == _inferior and inferior.connection == _connection


def find_selected() -> Session | None:
    """The open dump if the selected inferior is the one that has it, or None."""
    return find_current() if is_selected() else None


def elsewhere() -> int | None:
    """The number of the inferior that has the open dump, where it is not the selected one; else None."""
    opened = find_current() is not None and _connection is not None and _connection.is_valid()
    return _inferior if opened and gdb.selected_inferior().num != _inferior else None

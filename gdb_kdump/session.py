"""One open dump: its server, memory, debug information and connection to GDB.  Replaced whole, never changed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional, TypeVar

import gdb

from gdb_kdump.channel.client import Server
from gdb_kdump.debuginfo import banner, index_cache
from gdb_kdump.debuginfo.debuginfo import DebugInfo
from gdb_kdump.debuginfo.elf import ElfFile
from gdb_kdump.debuginfo.vmlinux import find_vmlinux
from gdb_kdump.errors import DumpError, Unreadable, UsageError, Why
from gdb_kdump.formats.vmcoreinfo import KNOWN_SYMBOLS, TOP_TABLES, offset_of, parse_vmcoreinfo
from gdb_kdump.layout.layout import Layout
from gdb_kdump.layout.members import Member
from gdb_kdump.layout.unpacker import Unpacker
from gdb_kdump.memory import Memory
from gdb_kdump.records.threads import SavedFrame, Thread
from gdb_kdump.target import end_of_stack, permissions

T = TypeVar("T")

# Told a vmlinux, and the seconds that its index has taken so far, or None when there can be no index.
Progress = Callable[[Path, Optional[float]], None]

REMOTE_TIMEOUT_SECONDS = 60
# GDB's settings, their defaults, and what they are while a dump is open.  GDB reads stacks through its cache: with a
# line of 64 bytes `thread apply all bt` takes 1.4 times as long.  No function ends a backtrace for what it is called.
_SETTINGS = (("dcache line-size", 64, 512), ("backtrace past-entry", False, True), ("backtrace past-main", False, True))
_MOST_VMCOREINFO = 1 << 16
# Where the direct map begins when it is not randomized, oldest first; Documentation/arch/x86/x86_64/mm.rst.
# d52888aa2753 (v4.20) x86/mm: Move LDT remap out of KASLR region on 5-level paging: what was its begin is unmapped now.
_PAGE_OFFSETS = (0xFFFF880000000000, 0xFFFF888000000000)
_ALWAYS_MAPPED = 1 << 20  # bytes from its begin: behind the first MiB, every machine has memory


@dataclass(frozen=True)
class Session:
    """An open dump.

    `once(Reader)` gives the session's only instance of a reader class: what it has cached goes with the session.
    """

    vmcore: Path
    vmlinux: Path
    build_id: str | None
    kaslr_offset: int
    dump: dict[str, Any]
    vmcoreinfo: dict[str, str]
    server: Server
    memory: Memory
    debuginfo: DebugInfo
    _readers: dict[Any, Any] = field(default_factory=dict)
    _members: dict[tuple[Any, str], tuple[int, int, Any]] = field(default_factory=dict)

    @property
    def layout(self) -> Layout:
        return self.debuginfo.layout

    def once(self, reader: Callable[[Session], T]) -> T:
        """The session's only instance of `reader`, made from the session when it is first asked for."""
        if reader not in self._readers:
            self._readers[reader] = reader(self)
        return self._readers[reader]  # type: ignore[no-any-return]

    def number(self, addr: int, name: str) -> int:
        """What the logical member `STRUCT.MEMBER` of the struct at `addr` holds: a number, as wide as its type says.

        Raises Unreadable, MissingDebugInfo.
        """
        return self._value(addr, self.layout.number, name)

    def pointer(self, addr: int, name: str) -> int:
        """The same for a member that is a pointer."""
        return self._value(addr, self.layout.pointer, name)

    def _value(self, addr: int, find: Callable[[str], Member], name: str) -> int:
        known = self._members.get((find, name))
        if known is None:
            member = find(name)
            unpacker = Unpacker([replace(member, offset=0)], member.size)
            known = self._members[find, name] = member.offset, member.size, unpacker.unpack_from
        offset, size, unpack = known
        return int(unpack(self.memory.read(addr + offset, size))[0])

    def forget_walks(self, *but: Callable[[Session], Any]) -> None:
        """Forget all that was read, except by the readers `but`: some of it may be partial, or under another limit."""
        for reader in [known for known in self._readers if known not in but]:
            del self._readers[reader]
        self.memory.clear()

    def close(self) -> None:
        """End the server, and let go of what the session holds: readers refer to it and it to them."""
        self.server.close()
        self.forget_walks()
        self.debuginfo.close()


_current: Session | None = None
_connection: gdb.TargetConnection | None = None


def current() -> Session:
    """The open dump; raises UsageError when there is none, DumpError when its server has died."""
    if _current is None:
        raise UsageError("no dump is open; open one with: target kdump VMCORE [VMLINUX]")
    _current.server.check()
    return _current


def take_notices() -> list[str]:
    """What the open dump's server has to say unasked, each sentence once; of one that is gone, nothing."""
    try:
        return _current.server.take_notices() if _current else []
    except DumpError:  # the next command says it
        return []


def find_current() -> Session | None:
    """The open dump, or None."""
    return _current


def is_selected() -> bool:
    """Whether a dump is open, and the selected inferior is the one that has it."""
    return _connection is not None and gdb.selected_inferior().connection == _connection


@dataclass(frozen=True)
class Hints:
    """What the user knows and the dump does not say: the KASLR offset in bytes, a file with the VMCOREINFO."""

    kaslr_offset: int | None = None
    vmcoreinfo: Path | None = None


def open_dump(vmcores: Sequence[Path], vmlinux: Path | None, progress: Progress, hints: Hints) -> Session:
    """Start the server, load the vmlinux at the dump's KASLR offset; no GDB target yet: see connect().

    `vmcores` are the files of one dump; `progress` is called while the user has to wait for the symbols.
    Raises DumpError, UsageError; whatever was open before is closed first.
    """
    _refuse_foreign_process()
    close()
    vmcore = vmcores[0]
    server = Server.start(*map(str, vmcores))
    try:
        dump = server.info()
        text = _vmcoreinfo_file(hints.vmcoreinfo) if hints.vmcoreinfo else dump.get("vmcoreinfo") or ""
        vmcoreinfo = parse_vmcoreinfo(text)
        build_id = vmcoreinfo.get("BUILD-ID")
        elf = find_vmlinux(vmcore, dump["release"] or vmcoreinfo.get("OSRELEASE"), build_id, vmlinux, _loaded_file())
        kaslr_offset = _place(server, elf, vmcoreinfo, text if hints.vmcoreinfo else None, hints.kaslr_offset)
        memory = Memory(server)
        if build_id is None:
            banner.check(elf, memory, kaslr_offset)
        _load_symbols(elf, kaslr_offset, progress)
        debuginfo = DebugInfo(elf, kaslr_offset)
        if dump["preflight"]["pages_missing"]:
            # Page tables may be missing too: the direct map can be read without them, if one knows where it starts.
            try:
                server.set_direct_map(direct_map(debuginfo, memory))
            except Unreadable:  # that is missing as well
                server.look_for_direct_map()
    except BaseException:  # Ctrl-C too: no half-open dump stays behind
        server.close()
        raise
    return Session(vmcore, elf.path, elf.build_id, kaslr_offset, dump, vmcoreinfo, server, memory, debuginfo)


def direct_map(debuginfo: DebugInfo, memory: Memory) -> int:
    """The address of the kernel's direct map of physical memory; arch/x86/include/asm/page_64_types.h: PAGE_OFFSET.

    Raises Unreadable where a variable has it and is not in the dump.
    """
    randomized = debuginfo.find_address("page_offset_base")
    if randomized is not None:
        return memory.u64(randomized)
    mapped = (base for base in _PAGE_OFFSETS if memory.why(base + _ALWAYS_MAPPED) in (None, Why.FILTERED))
    return next(mapped, _PAGE_OFFSETS[-1])


def connect(session: Session, threads: list[Thread], selected: int, frame: SavedFrame | None) -> None:
    """Hand the threads to the server and make the session GDB's target, with thread `selected` chosen."""
    global _current, _connection
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
    end_of_stack.load()
    _change_settings()
    _current, _connection = session, gdb.selected_inferior().connection


def close() -> None:
    """Close the open dump, if any: GDB's connection, the server and its files."""
    global _current, _connection
    session, connection, _current, _connection = _current, _connection, None, None
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
    global _current, _connection
    if _current is None or connection != _connection:
        return
    permissions.restore()
    if _current.server.crashed:
        return  # the next command shall say what happened
    session, _current, _connection = _current, None, None
    session.close()
    _change_settings(back=True)


def _change_settings(back: bool = False) -> None:
    """Change GDB's settings, or change them back, but none that the user has set to something else."""
    for name, default, ours in _SETTINGS:
        expected, wanted = (ours, default) if back else (default, ours)
        if gdb.parameter(name) == expected:
            gdb.execute(f"set {name} {int(wanted)}", to_string=True)


def _vmcoreinfo_file(path: Path) -> str:
    """The text in a file that holds a VMCOREINFO; raises UsageError."""
    try:
        text = path.read_bytes()[:_MOST_VMCOREINFO].decode(errors="backslashreplace")
    except OSError as error:
        raise UsageError(f"cannot read the VMCOREINFO {path}: {error.strerror}") from error
    if not parse_vmcoreinfo(text).get("OSRELEASE"):
        raise UsageError(f"{path} is no VMCOREINFO: it has no line OSRELEASE=...")
    return text


def _place(server: Server, elf: ElfFile, vmcoreinfo: dict[str, str], given: str | None, asked: int | None) -> int:
    """Have the server translate the kernel's addresses; the KASLR offset.

    `given` is the text of a VMCOREINFO that is not the dump's own, `asked` the KASLR offset that the user gave.
    """
    translates = server.use_vmcoreinfo(given) if given is not None else server.info()["translates"]
    if translates:
        told = offset_of(vmcoreinfo, {name: found.value for name in KNOWN_SYMBOLS if (found := elf.find_symbol(name))})
        if asked not in (None, told) and told is not None:
            raise UsageError(
                f"VMCOREINFO has the kernel at the KASLR offset {told:#x}, not at {asked:#x}: omit --kaslr"
            )
        return asked or told or 0
    at, top = elf.find_symbol("linux_banner"), next(filter(None, map(elf.find_symbol, TOP_TABLES)), None)
    if at is None or top is None:
        raise UsageError(f"{elf.path} has no symbols to find the kernel by (linux_banner, init_top_pgt): name another")
    encryption = elf.find_symbol("sme_me_mask")
    return server.find_kernel(elf.banner, at.value, top.value, encryption.value if encryption else None, asked)


def _refuse_foreign_process() -> None:
    inferior = gdb.selected_inferior()
    if inferior.pid == 0 or (_current is not None):
        return
    raise UsageError(f"GDB is debugging process {inferior.pid}; `kill` or `detach` it first, or use `add-inferior`")


def _loaded_file() -> Path | None:
    progspace = gdb.current_progspace()
    return Path(progspace.filename) if progspace and progspace.filename else None


def _load_symbols(elf: ElfFile, kaslr_offset: int, progress: Progress) -> None:
    if end_of_stack.dismiss_modules() and _loaded_at(elf) == kaslr_offset:
        return
    cache = index_cache.prepare(elf.path, elf.build_id, lambda seconds: progress(elf.path, seconds))
    gdb.execute("set architecture i386:x86-64", to_string=True)
    command = f"symbol-file -o {kaslr_offset:#x} {quoted(elf.path)}"
    with gdb.with_parameter("confirm", False):
        if cache is None:
            progress(elf.path, None)
            gdb.execute(command, to_string=True)
            return
        with gdb.with_parameter("index-cache directory", str(cache)), gdb.with_parameter("index-cache enabled", True):
            gdb.execute(command, to_string=True)


def _loaded_at(elf: ElfFile) -> int | None:
    """The offset at which GDB has this file already, or None."""
    loaded, symbol = _loaded_file(), elf.find_symbol("_stext")
    if loaded is None or symbol is None or loaded.resolve() != elf.path.resolve():
        return None
    try:
        return int(gdb.parse_and_eval("(unsigned long)&_stext")) - symbol.value
    except gdb.error:
        return None


def quoted(path: Path) -> str:
    """A file's name as a word of a GDB command."""
    return '"' + re.sub(r'(["\\])', r"\\\1", str(path)) + '"'

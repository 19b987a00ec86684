"""What an architecture is given of an open dump: memory, types, code, and what other tables say."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from gdb_kdump.errors import Why
from gdb_kdump.records.rows import Context, Row


class Memory(Protocol):
    """Reads of kernel virtual addresses; those that give numbers raise Unreadable."""

    def u64(self, addr: int, /) -> int: ...

    def s32(self, addr: int, /) -> int: ...

    def read(self, addr: int, size: int, /) -> bytes: ...

    def read_prefix(self, addr: int, size: int, /) -> tuple[bytes, Why | None]: ...

    def block(self, addr: int, size: int = 1, /) -> tuple[bytes, int]: ...


class Types(Protocol):
    """Structs and their members by logical names; `offset`, `size` and `unpacker` raise MissingDebugInfo."""

    def find_struct(self, tag: str, /) -> Any: ...

    def find_member(self, name: str, /) -> Any: ...

    def member(self, name: str, /) -> Any: ...

    def offset(self, name: str, /) -> int: ...

    def size(self, tag: str, /) -> int: ...

    def unpacker(self, tag: str, members: Iterable[str], /) -> Any: ...


class Code(Protocol):
    """What stands at a text address."""

    def is_text(self, addr: int, /) -> bool: ...

    def in_kernel(self, addr: int, /) -> bool: ...

    def is_assembly(self, addr: int, /) -> bool: ...

    def function_bounds(self, addr: int, /) -> tuple[int, int] | None: ...


class Module(Protocol):
    """A loaded module, by its `struct module *`."""

    @property
    def addr(self) -> int: ...


class Generated(Protocol):
    """Code that the kernel made while it ran."""

    @property
    def start(self) -> int: ...

    @property
    def is_trampoline(self) -> bool: ...

    @property
    def saves_registers(self) -> bool: ...


@dataclass(frozen=True)
class Kernel:
    """The readers of one kernel's dump that unwinding takes."""

    memory: Memory
    types: Types
    code: Code
    find_address: Callable[[str], int | None]
    """The address of a symbol, or None."""
    find_module: Callable[[int], Module | None]
    """The module that an address lies in, or None."""
    find_generated: Callable[[int], Generated | None]
    """The code made by the kernel that an address lies in, or None: a copy of ftrace's, else with frame pointers."""
    find_dwarf: Callable[[int], Row | None]
    """DWARF's row for the kernel's own code at an address, or None."""
    read_context: Callable[[int, Context], dict[str, int]]
    """The registers, by GDB's names, that an interruption saved from an address on; raises Unreadable."""

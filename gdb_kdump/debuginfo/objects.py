"""Any C object of the dump: its bytes, its holes, and its value as plain Python data for JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gdb

from gdb_kdump import walks
from gdb_kdump.errors import Unreadable, Why
from gdb_kdump.memory import Memory
from gdb_kdump.records.runs import UNIT
from gdb_kdump.text import hex16

_OWN_ADDRESS = (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION, gdb.TYPE_CODE_ARRAY, gdb.TYPE_CODE_FUNC)


@dataclass(frozen=True)
class Object:
    """A C object: its type, address, and bytes, in which what cannot be read stands as zeros and is in `holes`.

    A hole is (first offset, offset after it, why), in bytes from the object's start.
    """

    type: gdb.Type
    addr: int
    data: bytes
    holes: tuple[tuple[int, int, Why], ...]

    @property
    def value(self) -> gdb.Value:
        """The object as GDB sees it, holes as zeros."""
        return gdb.Value(self.data, self.type)

    def hole_in(self, start: int, size: int) -> Why | None:
        """Why `size` bytes from offset `start` on cannot all be read, or None when they can."""
        return next((why for low, high, why in self.holes if start < high and low < start + size), None)


def address_of(value: gdb.Value) -> int | None:
    """The address that an expression stands for: a struct's, array's or function's own, a pointer's value, an integer.

    None for a struct that has no address.
    """
    own = value.type.strip_typedefs().code in _OWN_ADDRESS
    if own and value.address is None:
        return None
    return int(value.address if own and value.address is not None else value) & (1 << 64) - 1


def read_object(memory: Memory, object_type: gdb.Type, addr: int) -> Object:
    """Read an object of any C type at an address; raises Unreadable when there is nothing of it in the dump."""
    size = object_type.sizeof
    data, holes, position = bytearray(), [], addr
    while position < addr + size:
        end = min(addr + size, (position | UNIT - 1) + 1)
        good, why = memory.read_prefix(position, end - position)
        data += good
        if why is not None:
            holes.append((len(data), end - addr, why))
            data += bytes(end - position - len(good))
        position = end
    if holes and sum(high - low for low, high, _ in holes) == size:
        raise Unreadable(addr, holes[0][2])
    return Object(object_type, addr, bytes(data), tuple(holes))


def fields(struct: gdb.Type) -> Iterator[Any]:
    """The fields (gdb.Field) of a struct or union that stand somewhere in it: all but C++ statics."""
    return (field for field in struct.fields() if hasattr(field, "bitpos"))


def to_json(thing: Object) -> Any:
    """The object as JSON: structs as objects in member order, with those of anonymous members lifted into them."""
    return _json(thing, thing.value, 0)


def _json(thing: Object, value: gdb.Value, offset: int) -> Any:
    stripped = value.type.strip_typedefs()
    code = stripped.code
    if code in (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION):
        return dict(_members(thing, value, stripped, offset))
    if code == gdb.TYPE_CODE_ARRAY:
        return _array(thing, stripped, offset)
    why = thing.hole_in(offset, stripped.sizeof)
    return {"unreadable": why.name} if why is not None else _scalar(value, stripped)


def _members(thing: Object, value: gdb.Value, struct: gdb.Type, offset: int) -> Iterator[tuple[str, Any]]:
    for field in fields(struct):
        start = offset + field.bitpos // 8
        if not field.name:
            inner = field.type.strip_typedefs()
            if inner.code in (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION):
                yield from _members(thing, value[field], inner, start)
        elif field.bitsize:
            why = thing.hole_in(start, (field.bitpos % 8 + field.bitsize + 7) // 8)
            yield field.name, {"unreadable": why.name} if why else _scalar(value[field], field.type.strip_typedefs())
        else:
            yield field.name, _json(thing, value[field], start)


def _array(thing: Object, array: gdb.Type, offset: int) -> Any:
    target = array.target().strip_typedefs()
    size = target.sizeof
    # `unsigned char` and u8 are numbers; char alone is text.
    if target.code == gdb.TYPE_CODE_INT and size == 1 and target.name == "char":
        why = thing.hole_in(offset, array.sizeof)
        text = thing.data[offset : offset + array.sizeof]
        return {"unreadable": why.name} if why else text.rstrip(b"\0").decode("utf-8", "backslashreplace")
    # By size, not by range: GDB gives a flexible array one element, and then says that there is none.
    count = array.sizeof // size if size else 0
    starts = range(offset, offset + count * size, size or 1)
    # Not value[index]: of pointers to a struct with a flexible array, GDB 16 reads that struct first, at 0.
    return [
        _json(thing, gdb.Value(thing.data[start : start + size], array.target()), start)
        for start in walks.shown(starts)
    ]


def _scalar(value: gdb.Value, stripped: gdb.Type) -> Any:
    code = stripped.code
    if code == gdb.TYPE_CODE_PTR:
        return hex16(int(value) & (1 << 64) - 1)
    if code == gdb.TYPE_CODE_ENUM:
        return _enumerator(int(value), stripped)
    if code == gdb.TYPE_CODE_BOOL:
        return bool(value)
    if code == gdb.TYPE_CODE_FLT:
        return float(value)
    return int(value)


def _enumerator(number: int, enum: gdb.Type) -> str | int:
    return next((str(field.name) for field in enum.fields() if field.enumval == number), number)

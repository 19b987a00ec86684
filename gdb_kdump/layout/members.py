"""Where a member stands in its struct, as the debug information has it.

Types are taken as gdb.Type objects but only through their own methods, so this file needs no gdb.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from gdb_kdump.errors import MissingDebugInfo


@dataclass(frozen=True)
class Member:
    """Where one member stands in its struct: byte offset and size, bits within it for a bitfield, and its type."""

    path: str
    offset: int
    size: int
    type: Any
    bit_offset: int = 0
    bit_size: int = 0


def find_path(struct_type: Any, path: str) -> Member | None:
    """Resolve a dotted member path in a struct or union, looking through anonymous ones; None where it is absent."""
    bitpos, field = 0, None
    current = struct_type
    for name in path.split("."):
        step = _find_field(current, name)
        if step is None:
            return None
        start, field = step
        bitpos += start
        current = field.type
    assert field is not None
    if not field.bitsize:
        return Member(path, bitpos // 8, field.type.sizeof, field.type)
    # The bytes that hold a bitfield, and no more: in a packed struct its declared type can reach past the end.
    first, last = bitpos // 8, (bitpos + field.bitsize - 1) // 8
    return Member(path, first, last - first + 1, field.type, bitpos - first * 8, field.bitsize)


def _find_field(struct_type: Any, name: str) -> tuple[int, Any] | None:
    stripped = struct_type.strip_typedefs()
    try:
        fields = stripped.fields()
    except TypeError:  # a scalar: a path that goes too deep for this kernel
        return None
    for field in fields:
        if not hasattr(field, "bitpos"):
            continue
        if field.name == name:
            return field.bitpos, field
        if not field.name:
            inner = _find_field(field.type, name)
            if inner is not None:
                return field.bitpos + inner[0], inner[1]
    return None


def find_number(member: Member) -> Member | None:
    """The number or pointer that a member is, or that fills its struct or union (atomic_t); None for others."""
    member_type = member.type.strip_typedefs()
    if member_type.is_scalar:
        return member
    if is_array(member_type):
        return None
    inner = [field for field in member_type.fields() if hasattr(field, "bitpos")]
    # In a union beside bitfields that name its bits, as was skb_shared_info.tx_flags.
    whole = [field for field in inner if field.type.sizeof == member.size and not field.bitsize and not field.bitpos]
    numbers = (find_number(replace(member, type=field.type)) for field in whole)
    return next((number for number in numbers if number is not None), None)


def is_pointer(kind: Any) -> bool:
    """Whether a gdb.Type is that of a pointer."""
    stripped = kind.strip_typedefs()
    return bool(stripped.code == stripped.pointer().code)


def is_struct(kind: Any) -> bool:
    """Whether a gdb.Type is that of a struct or union, and known whole."""
    stripped = kind.strip_typedefs()
    return not stripped.is_scalar and not is_array(stripped) and bool(stripped.fields())


def is_array(kind: Any) -> bool:
    """Whether a gdb.Type is that of an array."""
    stripped = kind.strip_typedefs()
    return bool(stripped.code == stripped.array(0).code)


def array_length(member: Member) -> int:
    """The number of elements of a member that is an array; raises MissingDebugInfo."""
    if not is_array(member.type):
        raise MissingDebugInfo(f"member {member.path} that is an array", [str(member.type)])
    low, high = member.type.strip_typedefs().range()
    return int(high - low + 1)


def path_at(struct: Any, offset: int) -> str:
    """The member path of what stands at a byte offset of a struct, with its array index; "" in padding and outside.

    Of the members of a union that is the first one that has something there.
    """
    stripped = struct.strip_typedefs()
    if is_array(stripped):
        element = stripped.target()
        low, high = stripped.range()
        if not element.sizeof or not 0 <= offset < (high - low + 1) * element.sizeof:
            return ""
        return f"[{offset // element.sizeof}]{_dotted(path_at(element, offset % element.sizeof))}"
    if stripped.is_scalar or not 0 <= offset < stripped.sizeof:
        return ""
    for field in stripped.fields():
        start = field.bitpos // 8 if hasattr(field, "bitpos") else -1
        if not start <= offset < start + field.type.sizeof or start < 0 or field.bitsize:
            continue
        inner = path_at(field.type, offset - start)
        if field.name:
            return f"{field.name}{_dotted(inner)}"
        if inner:
            return inner
    return ""


def _dotted(path: str) -> str:
    return f".{path}" if path and not path.startswith("[") else path

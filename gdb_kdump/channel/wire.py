"""The messages of the bulk channel between the dump server and its client.

The channel is a SOCK_SEQPACKET socket pair: one message is one send and one receive, so an interrupted client can
never be left in the middle of one. A request is REQUEST and a body; a reply is REPLY, with the request's number, and
a body. A body too large for one message comes as several replies, all but the last with Status.MORE.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Literal

from gdb_kdump.errors import Why
from gdb_kdump.records.runs import Hole, Run
from gdb_kdump.records.search import SearchedPart

MAX_READ = 0x10000
"""The most bytes that one READ may ask for."""

MAX_BODY = MAX_READ + 0x1000
"""The largest body of a message: far below the socket buffer, which bounds a SOCK_SEQPACKET message."""

MAX_MESSAGE = MAX_BODY + 0x100
"""A buffer of this size receives any message."""

MAX_NODES = 4096
"""The most nodes that one FOLLOW, and the most addresses that one GATHER may ask for."""

MAX_NODE = 0x1000
"""The most bytes of each of them."""

MAX_PIECES = 64
"""The most pieces of a node that one FOLLOW may ask for."""

Piece = tuple[int, int]
"""Some bytes of an object: offset and size."""

HELLO = 0
"""The number of the one reply without a request: the server's first message, which says what the dump is."""


NOTICE = 0xFFFFFFFF
"""The number of a message that answers no request: a sentence for the user, who must hear it once."""


class Op(IntEnum):
    READ = 1
    """Body READ; answered with packed runs."""
    THREADS = 2
    """Body JSON {"first": bool, "threads": […], "commit": bool, "selected": id, "frame": […]}; the frame is [size,
    {register: offset}, {register: value}], a thread [id, name, core, registers or the address of its saved frame];
    answered with nothing."""
    DIRECT_MAP = 3
    """Body ADDRESS; answered with nothing."""
    FOLLOW = 4
    """Body FOLLOW and the pieces of each node (each PIECE), first its pointer to the next one; answered with nodes, in
    messages that have the first piece of several nodes, then the second of these, …."""
    GATHER = 5
    """Body GATHER and the objects (each ADDRESS); answered with packed pieces."""
    VMCOREINFO = 6
    """Body the text of a VMCOREINFO; answered with JSON: whether virtual addresses can be read by it."""
    FIND_KERNEL = 7
    """Body JSON {"banner": hex, "symbols": {name: address}, "kaslr_offset": or null},
    addresses being link-time ones of a vmlinux; answered with JSON: the KASLR offset."""
    FIND_DIRECT_MAP = 8
    """No body; answered with JSON: whether it was found."""

    RANGES = 9
    """Body ranges of addresses (each RANGE), to be searched by the next SEARCH; answered with nothing."""
    SEARCH = 10
    """Body JSON {"physical": whether the ranges are of physical addresses, "pattern": {…}}; answered with messages
    that a Found begins, each with Status.MORE, and at the end with nothing."""
    STOP_SEARCH = 11
    """No body; answered with nothing, and the SEARCH before it with nothing more."""
    MAPPED = 12
    """Body RANGE; answered with what the page tables map of it (each MAPPING)."""


class Found(IntEnum):
    """What a message of a search tells; the first byte of its body."""

    HITS = 1
    """Addresses (each ADDRESS), in order."""
    HOLES = 2
    """What could not be searched (each HOLE), in order."""
    DONE = 3
    """Ranges (each RANGE) of which all has been said, after how many bytes of them were searched (ADDRESS)."""
    ERROR = 4
    """A sentence for the user: the search cannot go on."""


class Status(IntEnum):
    OK = 0
    MORE = 1
    """More of the body follows. An empty one only says that the work goes on."""
    ERROR = 2
    """The body is one sentence for the user."""
    NO_LIBRARY = 3
    """This interpreter cannot import kdumpfile; the body says why."""


REQUEST = struct.Struct("<II")  # number, Op
REPLY = struct.Struct("<II")  # number, Status
GATHER = struct.Struct("<II")  # offset of the bytes in each object, how many
READ = struct.Struct("<QI")  # address, size
ADDRESS = struct.Struct("<Q")
FOLLOW = struct.Struct("<QQI")  # first node, the node to stop before, most nodes
PIECE = struct.Struct("<II")  # offset in a node, size
RANGE = struct.Struct("<QQ")  # address, bytes
_HOLE = struct.Struct("<QQI")  # address, bytes, a code of _WHY_CODES
_MAPPING = struct.Struct("<QQQI")  # address, bytes, physical address; 0 or a code of _WHY_CODES
_CODES: dict[int, Literal["B", "H", "I", "Q"]] = {1: "B", 2: "H", 4: "I", 8: "Q"}
_COUNT = struct.Struct("<I")
_RUN = struct.Struct("<II")  # length, or the index of a piece; 0 for bytes or a code of _WHY_CODES

_WHYS = dict(enumerate(Why, start=1))
_WHY_CODES = {why: code for code, why in _WHYS.items()}


def pack_runs(runs: Iterable[Run]) -> bytes:
    """The body of the answer to a READ."""
    table: list[bytes] = []
    data: list[bytes] = []
    for run in runs:
        if isinstance(run, Hole):
            table.append(_RUN.pack(run.size, _WHY_CODES[run.why]))
        else:
            table.append(_RUN.pack(len(run), 0))
            data.append(run)
    return b"".join([_COUNT.pack(len(table)), *table, *data])


def pack_pieces(data: bytes, holes: Sequence[tuple[int, Why]]) -> bytes:
    """The body of the answer to a GATHER: the pieces one after the other, and which of them are holes."""
    return b"".join([_COUNT.pack(len(holes)), *(_RUN.pack(index, _WHY_CODES[why]) for index, why in holes), data])


def unpack_pieces(body: bytes) -> tuple[bytes, dict[int, Why]]:
    """The pieces in the answer to a GATHER, and by index why one that could not be read is zeros."""
    (count,) = _COUNT.unpack_from(body)
    end = _COUNT.size + count * _RUN.size
    return body[end:], {index: _WHYS[code] for index, code in _RUN.iter_unpack(body[_COUNT.size : end])}


def unpack_runs(body: bytes) -> list[Run]:
    """The runs in the answer to a READ, in order of address."""
    (count,) = _COUNT.unpack_from(body)
    at = _COUNT.size + count * _RUN.size
    runs: list[Run] = []
    for index in range(count):
        size, code = _RUN.unpack_from(body, _COUNT.size + index * _RUN.size)
        if code:
            runs.append(Hole(size, _WHYS[code]))
        else:
            runs.append(body[at : at + size])
            at += size
    return runs


MOST_RANGES = MAX_BODY // RANGE.size
"""The most ranges that one RANGES may name."""

MOST_HOLES = (MAX_BODY - 1) // _HOLE.size
"""The most holes that one message of a search may have."""


def pack_holes(holes: Iterable[tuple[int, int, Why]]) -> bytes:
    """Holes: each its address, its bytes, and why."""
    return b"".join(_HOLE.pack(addr, size, _WHY_CODES[why]) for addr, size, why in holes)


def unpack_found(body: bytes) -> SearchedPart:
    """What a message of a search tells, but for an ERROR."""
    nothing, rest = array("Q"), body[1:]
    if body[0] == Found.HITS:
        return SearchedPart(array("Q", (hit for (hit,) in ADDRESS.iter_unpack(rest))))
    if body[0] == Found.HOLES:
        return SearchedPart(
            nothing, holes=tuple((addr, size, _WHYS[code]) for addr, size, code in _HOLE.iter_unpack(rest))
        )
    (searched,) = ADDRESS.unpack_from(rest)
    return SearchedPart(nothing, done=tuple(RANGE.iter_unpack(rest[ADDRESS.size :])), searched_bytes=searched)


def pack_mappings(pieces: Iterable[tuple[int, int, int | Why]]) -> bytes:
    """Mapped pieces: each its address, its bytes, and its physical address or why that is not known."""
    return b"".join(
        _MAPPING.pack(addr, size, 0, _WHY_CODES[physical])
        if isinstance(physical, Why)
        else _MAPPING.pack(addr, size, physical, 0)
        for addr, size, physical in pieces
    )


def unpack_mappings(body: bytes) -> list[tuple[int, int, int | Why]]:
    """What pack_mappings() was given."""
    return [
        (addr, size, _WHYS[code] if code else physical) for addr, size, physical, code in _MAPPING.iter_unpack(body)
    ]


def by_piece(nodes: bytes, size: int, pieces: Sequence[Piece]) -> bytes:
    """Of nodes that stand one after the other, `size` bytes of each, the first piece of all, the second of all, …."""
    return b"".join(_piece(nodes, size, offset, length) for offset, length in pieces)


def _piece(nodes: bytes, size: int, offset: int, length: int) -> bytes:
    code = _CODES.get(length)
    if code and not offset % length and not size % length:
        return memoryview(nodes).cast(code)[offset // length :: size // length].tobytes()
    return b"".join(nodes[at : at + length] for at in range(offset, len(nodes), size))

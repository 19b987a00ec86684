"""The messages of the bulk channel between the dump server and its client.

The channel is a SOCK_SEQPACKET socket pair: one message is one send and one receive, so an interrupted client can
never be left in the middle of one. A request is REQUEST and a body; a reply is REPLY, with the request's number, and
a body. A body too large for one message comes as several replies, all but the last with Status.MORE.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Literal

from gdb_kdump.errors import Why
from gdb_kdump.records.runs import Hole, Run

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


def by_piece(nodes: bytes, size: int, pieces: Sequence[Piece]) -> bytes:
    """Of nodes that stand one after the other, `size` bytes of each, the first piece of all, the second of all, …."""
    return b"".join(_piece(nodes, size, offset, length) for offset, length in pieces)


def _piece(nodes: bytes, size: int, offset: int, length: int) -> bytes:
    code = _CODES.get(length)
    if code and not offset % length and not size % length:
        return memoryview(nodes).cast(code)[offset // length :: size // length].tobytes()
    return b"".join(nodes[at : at + length] for at in range(offset, len(nodes), size))

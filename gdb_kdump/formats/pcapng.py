"""Writes pcapng, the capture format of Wireshark and tshark; draft-ietf-opsawg-pcapng.

One section in little-endian order: section_header(), then an interface() for each link type, then packets that name
their interface by its number, counted from 0.
"""

from __future__ import annotations

import struct

# https://www.tcpdump.org/linktypes.html
LINKTYPE_ETHERNET, LINKTYPE_RAW, LINKTYPE_USER0 = 1, 101, 147

MAX_PACKET = 262144  # what Wireshark takes: WTAP_MAX_PACKET_SIZE_STANDARD

_SECTION_HEADER, _INTERFACE, _ENHANCED_PACKET = 0x0A0D0D0A, 1, 6
_BYTE_ORDER_MAGIC, _MAJOR, _MINOR, _UNKNOWN_LENGTH = 0x1A2B3C4D, 1, 0, -1
_END, _COMMENT, _SHB_USERAPPL, _IF_NAME, _IF_TSRESOL = 0, 1, 4, 2, 9
_NANOSECONDS = b"\x09"
_MAX_OPTION = 0xFFFF


def section_header(application: str, comment: str = "") -> bytes:
    """The block that a file begins with; `application` is the program that wrote it."""
    body = struct.pack("<IHHq", _BYTE_ORDER_MAGIC, _MAJOR, _MINOR, _UNKNOWN_LENGTH)
    return _block(_SECTION_HEADER, body, [(_COMMENT, comment.encode()), (_SHB_USERAPPL, application.encode())])


def interface(linktype: int, name: str) -> bytes:
    """The block that describes an interface, whose packets are of one LINKTYPE_*; times are in nanoseconds."""
    body = struct.pack("<HHI", linktype, 0, MAX_PACKET)
    return _block(_INTERFACE, body, [(_IF_NAME, name.encode()), (_IF_TSRESOL, _NANOSECONDS)])


def packet(number: int, time_ns: int, data: bytes, length: int, comment: str) -> bytes:
    """A packet of interface `number`: `data` are its first bytes, at most MAX_PACKET, `length` is how long it was.

    `time_ns` is in nanoseconds since 1970, `comment` is shown with it.
    """
    data = data[:MAX_PACKET]
    high, low = time_ns >> 32 & 0xFFFFFFFF, time_ns & 0xFFFFFFFF
    body = struct.pack("<IIIII", number, high, low, len(data), max(length, len(data))) + _padded(data)
    return _block(_ENHANCED_PACKET, body, [(_COMMENT, comment.encode())])


def _block(kind: int, body: bytes, options: list[tuple[int, bytes]]) -> bytes:
    given = [(code, value[:_MAX_OPTION]) for code, value in options if value]
    packed = b"".join(struct.pack("<HH", code, len(value)) + _padded(value) for code, value in given)
    content = body + (packed + struct.pack("<HH", _END, 0) if packed else b"")
    length = len(content) + 12
    return struct.pack("<II", kind, length) + content + struct.pack("<I", length)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)

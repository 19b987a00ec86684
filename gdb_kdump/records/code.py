"""Functions and variables that pointers lead to: whose they are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Place(Enum):
    """What has the code or data at an address."""

    KERNEL = "kernel"
    MODULE = "module"
    BPF = "bpf"
    NOWHERE = "nowhere"
    """No loaded module: one that was unloaded, or nothing that is loaded at all."""


@dataclass(frozen=True)
class Code:
    """A function or a variable: `symbol` with its offset where that is not 0, "" without one.

    `taint` has the module's letters as /proc/modules shows them (O out of tree, E unsigned, P proprietary, …).
    """

    addr: int
    symbol: str
    place: Place
    module: str | None = None
    taint: str = ""


@dataclass(frozen=True)
class Hook:
    """A function that the network stack calls, and where.

    `kind` is netfilter, packet_type, rx_handler, protocol, offload, family, proto, xdp, tcx, filter or action; `addr`
    the struct that has the pointer.  `net` is a `struct net *`, `netns` its number in /proc/PID/ns/net; 0 and None
    where it is of all of them.
    """

    kind: str
    where: str
    addr: int
    code: Code
    net: int = 0
    netns: int | None = None
    device: str | None = None
    priority: int | None = None
    detail: str = ""

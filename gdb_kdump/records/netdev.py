"""Network devices, what CPUs have done for them, and neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gdb_kdump.records.code import Code


@dataclass(frozen=True)
class TxQueue:
    """A `struct netdev_queue *` for transmission, its qdisc, and what that counts.

    `state` has the names of the bits that are set: DRV_XOFF, where the driver has stopped it.
    """

    number: int
    addr: int
    state: tuple[str, ...]
    qdisc: int
    kind: str
    handle: int
    qlen: int
    backlog: int
    drops: int
    requeues: int


@dataclass(frozen=True)
class Napi:
    """A `struct napi_struct *`: its poll function, its weight and the names of the bits of its state."""

    addr: int
    poll: Code
    weight: int
    state: tuple[str, ...]


@dataclass(frozen=True)
class Device:
    """A `struct net_device *` in words and numbers.

    `flags`, `state` and `features` are names: of IFF_UP and others, of __LINK_STATE_START and others, and ethtool's.
    `headroom` is hard_header_len, needed_headroom and needed_tailroom (bytes).  Addresses have their prefix length.
    `statistics` are those of /proc/net/dev, None where `kept_by`, a function of the driver, keeps them in its own way.
    `driver` is the function that transmits.
    """

    addr: int
    name: str
    net: int
    netns: int | None
    ifindex: int
    flags: tuple[str, ...]
    state: tuple[str, ...]
    operstate: str
    carrier: bool
    mtu: int
    headroom: tuple[int, int, int]
    mac: str
    ipv4: tuple[str, ...]
    ipv6: tuple[str, ...]
    features: tuple[str, ...]
    statistics: Mapping[str, int] | None
    kept_by: Code | None
    driver: Code | None
    napis: tuple[Napi, ...]
    queues: tuple[TxQueue, ...]


@dataclass(frozen=True)
class CpuBacklog:
    """What /proc/net/softnet_stat has of a CPU's `struct softnet_data *`, and how many packets wait there.

    A member that this kernel does not have is not in `counters`.
    """

    cpu: int
    addr: int
    counters: Mapping[str, int]


@dataclass(frozen=True)
class Neighbour:
    """A `struct neighbour *`: `state` has its NUD_ names; `waiting` is how many packets wait for its address."""

    addr: int
    address: str
    device: str
    mac: str
    state: tuple[str, ...]
    waiting: int

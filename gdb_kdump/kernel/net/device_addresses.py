"""The addresses of network devices; net/ipv4/devinet.c, net/ipv6/addrconf.c."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

from gdb_kdump.errors import Corrupt
from gdb_kdump.kernel.lib.lists import list_for_each
from gdb_kdump.session import Session

_MAX_MAC = 32  # include/linux/netdevice.h: MAX_ADDR_LEN
_MAX_ADDRESSES = 1 << 16


def mac(session: Session, device: int) -> str:
    """The link-layer address of a `struct net_device *`; "" where it has none."""
    size = session.number(device, "net_device.addr_len")
    if size > _MAX_MAC:
        raise Corrupt(device, f"no struct net_device: addr_len {size}")
    addr = session.pointer(device, "net_device.dev_addr")
    return session.memory.read(addr, size).hex(":") if size and addr else ""


def ipv4(session: Session, device: int) -> Iterator[str]:
    """Each IPv4 address with its prefix length; raises Unreadable, Corrupt, MissingDebugInfo."""
    in_device = session.pointer(device, "net_device.ip_ptr")
    entry = session.pointer(in_device, "in_device.ifa_list") if in_device else 0
    met: set[int] = set()
    while entry:
        if entry in met or len(met) >= _MAX_ADDRESSES:
            raise Corrupt(entry, "a list of struct in_ifaddr has no end")
        met.add(entry)
        addr = session.number(entry, "in_ifaddr.ifa_local")
        prefix = session.number(entry, "in_ifaddr.ifa_prefixlen")
        yield f"{IPv4Address(addr.to_bytes(4, 'little'))}/{prefix}"
        entry = session.pointer(entry, "in_ifaddr.ifa_next")


def ipv6(session: Session, device: int) -> Iterator[str]:
    """Each IPv6 address with its prefix length; raises Unreadable, Corrupt, MissingDebugInfo."""
    layout = session.layout
    inet6_dev = session.pointer(device, "net_device.ip6_ptr")
    if not inet6_dev:
        return
    node, place = layout.offset("inet6_ifaddr.if_list"), layout.offset("inet6_ifaddr.addr")
    for link in list_for_each(session, inet6_dev + layout.offset("inet6_dev.addr_list")):
        entry = link - node
        addr = IPv6Address(session.memory.read(entry + place, 16))
        yield f"{addr}/{session.number(entry, 'inet6_ifaddr.prefix_len')}"

"""knet: network devices, what hangs in the network stack, and neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gdb_kdump import walks
from gdb_kdump.commands.arguments import Arguments, Option
from gdb_kdump.commands.base import Command
from gdb_kdump.commands.show.hooks import hook_json, hooks_text
from gdb_kdump.commands.show.netdevs import (
    cpu_json,
    cpus_text,
    device_json,
    device_text,
    devices_text,
    neighbour_json,
    neighbours_text,
)
from gdb_kdump.errors import UsageError
from gdb_kdump.kernel.module.code import CodeOwners
from gdb_kdump.kernel.net.device_details import DeviceDetails
from gdb_kdump.kernel.net.hooks import hooks
from gdb_kdump.kernel.net.neighbour_details import NeighbourDetails
from gdb_kdump.records.code import Hook
from gdb_kdump.records.netdev import CpuBacklog, Device, Neighbour
from gdb_kdump.session import Session
from gdb_kdump.text import hex16
from gdb_kdump.walks import Gaps


@dataclass(frozen=True)
class Network:
    """What was asked for; None for what was not."""

    devices: list[Device] | None = None
    cpus: list[CpuBacklog] | None = None
    hooks: list[Hook] | None = None
    neighbours: list[Neighbour] | None = None
    last_unloaded: str = ""
    all: bool = False
    is_one: bool = False


class Knet(Command[Network]):
    name = "knet"
    operands = "[DEVICE]"
    summary = """Show the network devices, one DEVICE with all details, or what hangs in the network stack.
DEVICE is a name, which may be one in several network namespaces, or the address of a struct net_device.
--hooks shows hooks of netfilter, BPF programs, filters and kinds of actions, receivers of packets, and protocols, each
with its network namespace (none: of all), its module and the letters by which that taints the kernel: O out of tree,
E unsigned, P proprietary, and others; - for code of no loaded module."""
    options = (
        Option("--hooks", "the functions that the network stack calls, and whose they are"),
        Option("-a", "with --hooks: the kernel's own protocols, too"),
        Option("--neigh", "the neighbours of IPv4 and IPv6"),
    )

    def read(self, session: Session, arguments: Arguments, gaps: Gaps) -> Network:
        shows_other = arguments.has("--hooks") or arguments.has("--neigh")
        if len(arguments.operands) > 1 or (shows_other and arguments.operands):
            raise UsageError("one DEVICE at the most, and none with --hooks or --neigh")
        found, neighbours = None, None
        if arguments.has("--hooks"):
            found = list(hooks(session, gaps))
        if arguments.has("--neigh"):
            neighbours = list(session.once(NeighbourDetails).all(gaps))
        if shows_other:
            unloaded = session.once(CodeOwners).last_unloaded()
            return Network(None, None, found, neighbours, unloaded, arguments.has("-a"))
        devices = list(session.once(DeviceDetails).all(gaps))
        if arguments.operands:
            wanted = arguments.operands[0].strip("\"'")
            chosen = [device for device in devices if _is_named(device, wanted)]
            if not chosen:
                raise UsageError(f"no network device {wanted}; knet lists them")
            return Network(chosen, is_one=True)
        return Network(devices, list(session.once(DeviceDetails).cpus(gaps)))

    def text(self, result: Network) -> Iterator[str]:
        if result.devices is not None and result.is_one:
            for device in walks.shown(result.devices):
                yield from device_text(device)
        elif result.devices is not None:
            yield from devices_text(result.devices)
        if result.cpus is not None:
            yield ""
            yield from cpus_text(result.cpus)
        if result.hooks is not None:
            yield from hooks_text(result.hooks, result.last_unloaded, result.all)
        if result.neighbours is not None:
            yield from neighbours_text(result.neighbours)

    def json(self, result: Network) -> Any:
        parts = (
            ("devices", result.devices, device_json),
            ("cpus", result.cpus, cpu_json),
            ("hooks", result.hooks, hook_json),
            ("neighbours", result.neighbours, neighbour_json),
        )
        return {name: [convert(item) for item in walks.shown(items)] for name, items, convert in _asked(parts)}


def _asked(parts: Any) -> Iterator[Any]:
    return (part for part in parts if part[1] is not None)


def _is_named(device: Device, wanted: str) -> bool:
    return wanted == device.name or wanted.lower() in (hex16(device.addr), f"{device.addr:x}")

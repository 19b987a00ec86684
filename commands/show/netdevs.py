"""Network devices and neighbours, as text and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from gdb_kdump.commands.show.hooks import code_json, code_text
from gdb_kdump.commands.show.tables import pairs, table
from gdb_kdump.records.netdev import CpuBacklog, Device, Napi, Neighbour, TxQueue
from gdb_kdump.text import hex16


def devices_text(devices: Sequence[Device]) -> Iterator[str]:
    """A table of devices."""
    rows = (
        (
            device.name, hex16(device.addr), device.netns, device.ifindex, _link(device), device.mtu, device.mac,
            " ".join((*device.ipv4, *device.ipv6)), _counter(device, "rx"), _counter(device, "tx"),
            device.driver.module if device.driver else None,
        )
        for device in devices
    )  # fmt: skip
    headers = ("NAME", "DEVICE", "NETNS", "INDEX", "LINK", "MTU", "MAC", "ADDRESSES", "RX", "TX", "MODULE")
    yield from table(headers, rows, right=("INDEX", "MTU", "RX", "TX"))


def _link(device: Device) -> str:
    if "UP" not in device.flags:
        return "down"
    return "up" if device.carrier else "no carrier"


def _counter(device: Device, way: str) -> str:
    """Packets/bytes; ? where only the driver knows."""
    if device.statistics is None:
        return "?"
    return f"{device.statistics[f'{way}_packets']}/{device.statistics[f'{way}_bytes']}"


def device_text(device: Device) -> Iterator[str]:
    """All of one device."""
    headroom = ("hard_header_len", "needed_headroom", "needed_tailroom")
    counters = device.statistics.items() if device.statistics is not None else ()
    kept = f"kept by {code_text(device.kept_by)}, in a way of its own" if device.kept_by else "cannot be read"
    yield f"{device.name} @ {hex16(device.addr)}"
    yield from pairs(
        (
            ("NETNS", f"{device.netns} ({hex16(device.net)})"),
            ("INDEX", device.ifindex),
            ("FLAGS", " ".join(device.flags)),
            ("STATE", f"{' '.join(device.state)}; operstate {device.operstate}; {_link(device)}"),
            ("MTU", device.mtu),
            ("ROOM", "  ".join(f"{name} {size}" for name, size in zip(headroom, device.headroom))),
            ("MAC", device.mac or "none"),
            ("IPV4", " ".join(device.ipv4) or "none"),
            ("IPV6", " ".join(device.ipv6) or "none"),
            ("DRIVER", code_text(device.driver) if device.driver else "none"),
            ("FEATURES", " ".join(device.features)),
            ("COUNTERS", "  ".join(f"{name} {value}" for name, value in counters) or kept),
        )
    )
    if device.napis:
        rows = ((hex16(napi.addr), code_text(napi.poll), napi.weight, " ".join(napi.state)) for napi in device.napis)
        yield from table(("NAPI", "POLL", "WEIGHT", "STATE"), rows, right=("WEIGHT",))
    queues = (
        (
            queue.number, hex16(queue.addr), " ".join(queue.state), hex16(queue.qdisc), queue.kind, _handle(queue),
            queue.qlen, queue.backlog, queue.drops, queue.requeues,
        )
        for queue in device.queues
    )  # fmt: skip
    headers = ("#", "TX QUEUE", "STATE", "QDISC", "KIND", "HANDLE", "QLEN", "BACKLOG", "DROPS", "REQUEUES")
    yield from table(headers, queues, right=("#", "QLEN", "BACKLOG", "DROPS", "REQUEUES"))
    yield ""


def _handle(queue: TxQueue) -> str:
    return f"{queue.handle >> 16:x}:" if queue.handle else ""


def cpus_text(cpus: Sequence[CpuBacklog]) -> Iterator[str]:
    """A table of what CPUs have received, and what waits there."""
    names = list(dict.fromkeys(name for cpu in cpus for name in cpu.counters))
    headers = ("CPU", "SOFTNET_DATA", *(name.upper() for name in names))
    rows = ((cpu.cpu, hex16(cpu.addr), *(cpu.counters.get(name) for name in names)) for cpu in cpus)
    yield from table(headers, rows, right=("CPU", *headers[2:]))


def neighbours_text(neighbours: Sequence[Neighbour]) -> Iterator[str]:
    """A table of neighbours."""
    rows = (
        (hex16(one.addr), one.address, one.device, one.mac, " ".join(one.state) or "NONE", one.waiting)
        for one in neighbours
    )
    headers = ("NEIGHBOUR", "ADDRESS", "DEVICE", "MAC", "STATE", "WAITING")
    yield from table(headers, rows, right=("WAITING",))


def device_json(device: Device) -> dict[str, Any]:
    """A device as a JSON object."""
    hard, head, tail = device.headroom
    return {
        "name": device.name,
        "device": hex16(device.addr),
        "net": hex16(device.net),
        "netns": device.netns,
        "ifindex": device.ifindex,
        "flags": list(device.flags),
        "state": list(device.state),
        "operstate": device.operstate,
        "carrier": device.carrier,
        "mtu": device.mtu,
        "hard_header_len": hard,
        "needed_headroom": head,
        "needed_tailroom": tail,
        "mac": device.mac or None,
        "ipv4": list(device.ipv4),
        "ipv6": list(device.ipv6),
        "features": list(device.features),
        "statistics": dict(device.statistics) if device.statistics is not None else None,
        "kept_by": code_json(device.kept_by) if device.kept_by else None,
        "driver": code_json(device.driver) if device.driver else None,
        "napis": [_napi_json(napi) for napi in device.napis],
        "queues": [_queue_json(queue) for queue in device.queues],
    }


def _napi_json(napi: Napi) -> dict[str, Any]:
    return {"napi": hex16(napi.addr), "poll": code_json(napi.poll), "weight": napi.weight, "state": list(napi.state)}


def _queue_json(queue: TxQueue) -> dict[str, Any]:
    return {
        "number": queue.number,
        "queue": hex16(queue.addr),
        "state": list(queue.state),
        "qdisc": hex16(queue.qdisc),
        "kind": queue.kind,
        "handle": queue.handle,
        "qlen": queue.qlen,
        "backlog": queue.backlog,
        "drops": queue.drops,
        "requeues": queue.requeues,
    }


def cpu_json(cpu: CpuBacklog) -> dict[str, Any]:
    """A CPU's counters as a JSON object."""
    return {"cpu": cpu.cpu, "softnet_data": hex16(cpu.addr), **cpu.counters}


def neighbour_json(one: Neighbour) -> dict[str, Any]:
    """A neighbour as a JSON object."""
    return {
        "neighbour": hex16(one.addr),
        "address": one.address,
        "device": one.device,
        "mac": one.mac or None,
        "state": list(one.state),
        "waiting": one.waiting,
    }

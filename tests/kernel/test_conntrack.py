"""Tracked connections, as kwhat tells them: against the packets that have them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pytest_gdb_fixtures import Gdb, LabDump, dump_names


def tracked(skbs: list[str]) -> list[dict[str, Any]]:
    """The IPv4 datagrams that have a tracked connection: its address, and the ends that the packet itself has."""
    import gdb

    found = []
    for addr in skbs:
        skb = gdb.parse_and_eval(f"*(struct sk_buff *){addr}")
        nfct = int(skb["_nfct"]) & ~7
        start = int(skb["head"]) + int(skb["network_header"])
        packet = bytes(gdb.selected_inferior().read_memory(start, 28))
        if nfct and packet[0] == 0x45 and packet[9] == 17:
            source, target = (".".join(map(str, packet[at : at + 4])) for at in (12, 16))
            ports = [int.from_bytes(packet[at : at + 2], "big") for at in (20, 22)]
            found.append({"skb": addr, "nfct": f"{nfct:#x}", "ends": [source, target], "ports": ports})
    return found


@pytest.mark.parametrize("name", dump_names("conntrack"))
def test_a_tracked_connection_is_decoded(
    name: str, gdb_run: Gdb, in_gdb: Callable[..., Any], lab_dump: Callable[[str], LabDump]
) -> None:
    dump = lab_dump(name)
    found = in_gdb(tracked, [*dump.skbs()], vmcore=dump.vmcore)
    assert len({one["nfct"] for one in found}) >= 2
    run = gdb_run("kwhat --json " + " ".join(one["nfct"] for one in found), vmcore=dump.vmcore).succeeded()
    for one, what in zip(found, run.json(), strict=True):
        (source, target), (port, peer) = one["ends"], one["ports"]
        assert all(chain[0]["address"] == what["address"] for chain in what["owners"])
        assert one["skb"] in [chain[1]["address"] for chain in what["owners"]]
        link = what["owners"][0][0]
        assert f"(udp src={source} dst={target} sport={port} dport={peer}, " in link["text"], (one, link)
        reply = f"reply udp src={target} dst={source} sport={peer} dport={port}, status CONFIRMED, timeout in "
        assert reply in link["text"], (one, link)


def tracked_objects() -> list[str]:
    """The objects of the cache of tracked connections."""
    from gdb_kdump.kernel.mm.allocator import allocator
    from gdb_kdump.session import current
    from gdb_kdump.walks import Gaps

    slabs = allocator(current())
    cache = next(cache for cache in slabs.caches(Gaps()) if cache.name == "nf_conntrack")
    return [f"{addr:#x}" for addr in slabs.for_each_object(cache, Gaps())]


@pytest.mark.parametrize("name", dump_names("conntrack"))
def test_a_tracked_connection_of_no_packet_is_known_by_its_cache(
    name: str, gdb_run: Gdb, in_gdb: Callable[..., Any], lab_dump: Callable[[str], LabDump]
) -> None:
    dump = lab_dump(name)
    objects = in_gdb(tracked_objects, vmcore=dump.vmcore)
    run = gdb_run("kwhat --json " + " ".join(objects), vmcore=dump.vmcore).succeeded()
    texts = [what["text"] for what in run.json()]
    # That of the datagrams to udp0, which are on its queue without it; net/ipv4/udp.c: nf_reset_ct.
    (alone,) = (text for text in texts if "src=127.0.0.1 dst=127.0.0.1 " in text.partition(", reply")[0])
    assert " dport=20000, reply udp " in alone and ", by its cache: nothing that was walked points to it" in alone
    assert len(texts) > 1 and all("nf_conn 0x" in text for text in texts)

"""The same small system in the memory of kernels from 3.10 to 6.18, with the layouts that these have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import kernel_expectations as expected
import pytest
from fixtures.kernels import KERNELS
from fixtures.kernels.memory import Cache
from fixtures.kernels.slab import AGES, ArrayCache, make_slab
from fixtures.kernels.system import make_system
from fixtures.kernels.variants import make_pointers, make_sheaves, make_vanilla, make_variant
from pytest_gdb_fixtures import Gdb


@pytest.fixture(scope="module", params=KERNELS)
def shown(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> expected.Shown:
    folder = tmp_path_factory.mktemp(f"linux-{request.param}")
    return expected.ask(make_system(KERNELS[request.param], folder), folder)


@pytest.mark.parametrize("check", expected.CHECKS, ids=lambda check: check.__name__)
def test_every_kernel_shows_the_same(shown: expected.Shown, check: Callable[[expected.Shown], None]) -> None:
    check(shown)


def test_a_kernel_without_backports(tmp_path: Path) -> None:
    """3.10 as it was released: hlists of netlink sockets, IPv6 addresses elsewhere, a list of what came early, ..."""
    kernel, source = make_vanilla(KERNELS["3.10"], tmp_path)
    shown = expected.ask(make_system(kernel, tmp_path, source), tmp_path)
    for check in expected.CHECKS:
        check(shown)


def test_pointers_instead_of_offsets(tmp_path: Path) -> None:
    """NET_SKBUFF_DATA_USES_OFFSET is a matter of the configuration: end, tail and the headers may be pointers."""
    kernel, source = make_pointers(KERNELS["5.4"], tmp_path)
    shown = expected.ask(make_system(kernel, tmp_path, source), tmp_path)
    for check in expected.CHECKS:
        check(shown)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", KERNELS)
def test_members_are_found_wherever_they_are(name: str, seed: int, tmp_path: Path) -> None:
    """In any order, in anonymous structs and unions, with gaps, by the names of other kernels."""
    kernel, source = make_variant(KERNELS[name], seed, tmp_path)
    shown = expected.ask(make_system(kernel, tmp_path, source), tmp_path)
    for check in expected.CHECKS:
        check(shown)


def places(addresses: dict[str, int]) -> dict[str, list[str]]:
    from gdb_kdump import session
    from gdb_kdump.kernel.mm.allocations import Allocations

    found = {name: session.current().once(Allocations).of(addr) for name, addr in addresses.items()}
    return {name: [place.cache, place.state] for name, place in found.items()}


@pytest.mark.parametrize("age", AGES)
def test_slab_instead_of_slub(age: str, in_gdb: Callable[..., Any], tmp_path: Path) -> None:
    """Free objects in the list of their slab, which may stand in one of them, and in the array of a CPU."""
    kernel, source = make_slab(AGES[age], tmp_path)
    system = make_system(kernel, tmp_path, source, ArrayCache)
    asked = tmp_path / "asked"
    asked.mkdir()
    shown = expected.ask(system, asked, slub=False)
    for check in expected.CHECKS:
        if check is not expected.check_slabs:
            check(shown)
    at = {name: system.at[name] for name in (*expected.SLABS, "bad.freed.skb0")}
    found = in_gdb(places, at, vmcore=system.vmcore, vmlinux=system.vmlinux)
    free = {name for name, (_, state) in found.items() if state == "free"}
    assert free == {"freed", "sheaved", "bad.freed.skb0"}
    assert all(cache in ("skbuff_head_cache", "skbuff_fclone_cache", "kmalloc-2048") for cache, _ in found.values())
    assert {state for _, state in found.values()} == {"free", "allocated"}


def deferred() -> dict[str, list[int]]:
    from gdb_kdump import session
    from gdb_kdump.kernel.net.backlogs import Backlogs

    queues = session.current().once(Backlogs).of_cpus()
    return {queue.name: list(queue.nodes) for queue in queues if "defer" in queue.name}


def test_sheaves_instead_of_the_cpus_slabs(in_gdb: Callable[..., Any], tmp_path: Path) -> None:
    """7.1: free objects in a sheaf of a barn, which stands beside the node; tail pages with masks; deferred frees."""
    kernel, source = make_sheaves(KERNELS["6.18"], tmp_path)
    system = make_system(kernel, tmp_path, source)
    asked = tmp_path / "asked"
    asked.mkdir()
    shown = expected.ask(system, asked)
    for check in expected.CHECKS:
        check(shown)
    lists = in_gdb(deferred, vmcore=system.vmcore, vmlinux=system.vmlinux)
    assert lists.pop("defer_list of CPU 1 for node 0") == [system.at["deferred.first"], system.at["deferred.last"]]
    assert all(skbs == [] for skbs in lists.values())


class FreedTwice(Cache):
    """What is given back to a sheaf is in it twice."""

    def free_into_sheaf(self, addr: int) -> int:
        self._sheaf.append(addr)
        return super().free_into_sheaf(addr)


class FreedIntoBoth(Cache):
    """What is given back to a sheaf is on the freelist of its slab, too."""

    def free_into_sheaf(self, addr: int) -> int:
        return self.free(super().free_into_sheaf(addr))


@pytest.mark.parametrize("kind", [FreedTwice, FreedIntoBoth])
def test_an_object_that_was_freed_twice_into_a_sheaf(gdb_run: Gdb, kind: type[Cache], tmp_path: Path) -> None:
    kernel, source = make_sheaves(KERNELS["6.18"], tmp_path)
    system = make_system(kernel, tmp_path, source, kind)
    twice, other = system.at["sheaved"], system.at["partial slab object"]
    asked = [f"kslab {addr:#x} --json" for addr in (twice, other, system.at["CPU slab object"])]
    for command in asked:
        run = gdb_run(command, vmcore=system.vmcore, vmlinux=system.vmlinux).succeeded()
        document = run.json()
        assert document["state"] == ("free" if command is asked[0] else "allocated")
        found = [(finding["rule"], int(finding["object"], 16)) for finding in document["findings"]]
        slab = int(document["page"]["start"], 16)
        assert found == [("slab.freelist", twice)] * (slab <= twice < slab + (4096 << document["page"]["order"]))


# What the kernels call some members, as `kinfo layout` shows it.
_LAYOUTS = {
    "3.10": {
        "sk_buff.users": "users.counter", "skb_frag.offset": "page_offset", "page.compound_head": "first_page",
        "page.page_type": "_mapcount.counter", "page.refcount": "_count.counter", "net.inum": "proc_inum",
        "sock.net": "__sk_common.skc_net", "task_struct.state": "state", "slab.slab_list": "lru",
    },
    "4.18": {"sk_buff.users": "users.refs.counter", "skb_frag.size": "size", "page.compound_head": "compound_head"},
    "5.4": {"skb_frag.size": "bv_len", "skb_frag.page": "bv_page", "task_struct.state": "state"},
    "5.14": {"task_struct.state": "__state", "task_struct.cpu": "cpu", "kmem_cache_cpu.slab": "page"},
    "6.18": {
        "skb_frag.page": "netmem", "page.flags": "flags.f", "task_struct.cpu": "thread_info.cpu",
        "kmem_cache_cpu.slab": "slab", "net.unix_buckets": "unx.table.buckets",
    },
}  # fmt: skip


def test_kinfo_says_which_names_a_kernel_has(shown: expected.Shown) -> None:
    layout = shown["kinfo layout"]["layout"]
    named = _LAYOUTS[shown.system.kernel.name]
    assert {name: layout.get(name) for name in named} == named

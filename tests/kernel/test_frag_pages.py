"""Fragments whose pages are somebody else's: page pointers overwritten in a healthy dump, each told with its owner."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from patched_dump import PatchedDump
from pytest_gdb_fixtures import KERNELS, Gdb, LabDump

SIGNATURE = 0xDEAD000000000040  # include/linux/poison.h: PP_SIGNATURE on x86-64


def addresses(skbs: list[str], slab_page_of: str) -> dict[str, Any]:
    """Where the first fragments of some sk_buffs have their page pointers, and pages that are others'."""
    import gdb

    from gdb_kdump.kernel.mm.pages import Pages
    from gdb_kdump.session import current

    session = current()
    pages, memory = session.once(Pages), session.memory
    frags = [int(gdb.parse_and_eval(f"(unsigned long)&$skb_shinfo((struct sk_buff *){skb})->frags[0]")) for skb in skbs]
    table = int(gdb.parse_and_eval("(unsigned long)$task(1)->mm->pgd"))
    for _ in range(2):  # pgd, pud: the pmd's page is a page table by its type
        entry = next(word for word in (memory.u64(table + 8 * n) for n in range(256)) if word & 1)
        physical = pages.address_of_physical(entry & 0x000FFFFFFFFFF000)
        assert physical is not None
        table = physical
    return {
        "frags": frags,
        "stack": int(gdb.parse_and_eval("(unsigned long)$task(1)->stack_vm_area->pages[1]")),
        "table": pages.page_of(table),
        "slab": pages.page_of(int(slab_page_of, 16)),
        "mark": int(gdb.parse_and_eval("(unsigned long)&((struct page *)0)->pp_magic")),
        "pool": int(gdb.parse_and_eval("(unsigned long)&((struct page *)0)->pp")),
    }


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_fragment_whose_page_is_anothers(
    kernel: str, in_gdb: Callable[..., Any], gdb_run: Gdb, lab_dump: Callable[[str], LabDump], tmp_path: Path
) -> None:
    dump = lab_dump(f"{kernel}-healthy")
    skbs = [skb for skb in dump.skbs().values() if skb["nr_frags"] == 1 and skb["dataref"] == 1]
    freed, none, *_ = {skb["frags"][0][0]: skb for skb in skbs}.values()  # each has a page of its own
    others = [skb for skb in skbs if skb not in (freed, none)]
    slab, table, stack, *_ = sorted(others, key=lambda skb: int(skb["frags"][0][1]))  # as one page is all they get
    task = dump.truth["panic_task"]
    chosen = [skb["skb"] for skb in (stack, table, slab, freed, none)]
    found = in_gdb(addresses, chosen, slab["head"], vmcore=dump.vmcore)
    patched = PatchedDump(dump.vmcore, tmp_path / "vmcore")
    for at, name in zip(found["frags"], ("stack", "table", "slab")):
        patched.write_words(at, found[name])
    # The two others have a pool that is none: an sk_buff's middle, and something that is no address.
    for skb, pool in ((freed, int(slab["skb"], 16) + 8), (none, 0x1234)):
        page = int(skb["frags"][0][0], 16)
        patched.write_words(page + found["mark"], SIGNATURE)
        patched.write_words(page + found["pool"], pool)
    run = gdb_run(*(f"skbcheck {skb} --json" for skb in chosen), f"kwhat {freed['frags'][0][0]}", vmcore=patched.path)
    said = [{f["message"] for f in one["findings"] if f["rule"] == "shinfo.frag"} for one in run.documents]
    assert task["pid"] != 1
    expected = (
        "its page is one of the stack of PID 1 (init)", "its page is a page table", "belongs to the slab allocator (",
        "in the middle of an object of skbuff_head_cache", "page_pool 0x0000000000001234, which is no address of one",
    )  # fmt: skip
    for messages, words in zip(said, expected, strict=True):
        assert any(words in message for message in messages), (words, messages, run.stderr)
    assert "one of page_pool 0x" in run.stdout

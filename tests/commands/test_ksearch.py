"""ksearch: on real dumps, against what the guests said of their memory, and against looking at every page by hand."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kdumpfile  # type: ignore[import-untyped]
import pytest
from patched_dump import PatchedDump
from pytest_gdb_fixtures import KERNELS, Gdb, LabDump, dump_names

PAGE = 4096
HEAD = "print (long)&((struct sk_buff *)0)->head"


@pytest.fixture(params=KERNELS)
def healthy(request: pytest.FixtureRequest, lab_dump: Callable[[str], LabDump]) -> LabDump:
    return lab_dump(f"{request.param}-healthy")


@pytest.fixture
def dump(lab_dump: Callable[[str], LabDump]) -> LabDump:
    return lab_dump("6.1-reference")


def addresses(document: Any) -> list[int]:
    return [int(hit["address"], 16) for hit in document["hits"]]


def pages_of(vmcore: Path) -> Iterator[tuple[int, bytes]]:
    """The pages that libkdumpfile finds in a dump: physical addresses and contents."""
    file = kdumpfile.kdumpfile(file=str(vmcore))
    file.attr["file.mmap_policy"] = 0
    for pfn in range(file.attr["max_pfn"]):
        try:
            yield pfn * PAGE, bytes(file.read(kdumpfile.KDUMP_MACHPHYSADDR, pfn * PAGE, PAGE))
        except kdumpfile.exceptions.NoDataException:
            file.attr["cache.size"] = file.attr["cache.size"] ^ 1  # or it dies of the next ones


def test_what_the_guest_has_put_somewhere_is_found_there(gdb_run: Gdb, healthy: LabDump) -> None:
    """200 pointers in sk_buffs, of which the guest has said where they are."""
    skbs = list(healthy.skbs().values())[:200]
    heads = " ".join(sorted({skb["head"] for skb in skbs}))
    run = gdb_run(f"ksearch {heads} --json", HEAD, f"ksearch {heads} -n --json", vmcore=healthy.vmcore).succeeded()
    offset = int(re.findall(r"^\$1 = (\d+)", run.stdout, re.MULTILINE)[0])
    document, unnamed = run.documents
    found = {int(hit["address"], 16): hit for hit in document["hits"]}
    assert len(skbs) == 200
    for skb in skbs:
        hit = found[int(skb["skb"], 16) + offset]
        assert hit["value"] == skb["head"]
        assert hit["kind"] == "slab" and f"allocated object {skb['skb']}+{offset:#x} of " in hit["text"], hit
    assert not document["complete"] and document["problems"] == []
    assert {piece["why"] for piece in document["unread"]} == {"FILTERED"}
    # Without names: the same hits and values.
    assert [(hit["address"], hit["value"], hit["aliases"]) for hit in unnamed["hits"]] == [
        (hit["address"], hit["value"], hit["aliases"]) for hit in document["hits"]
    ]
    assert not any("object" in hit["text"] for hit in unnamed["hits"])
    assert {hit["kind"] for hit in unnamed["hits"]} == {"unknown"}


def test_each_of_200_places_is_found_or_told_as_not_in_the_dump(
    gdb_run: Gdb, lab_dump: Callable[[str], LabDump], tmp_path: Path
) -> None:
    """What the guest has put into 200 sk_buffs, of which every third page is lost."""
    healthy = lab_dump("6.1-healthy")
    copy = PatchedDump(healthy.vmcore, tmp_path / "vmcore")
    skbs = list(healthy.skbs().values())[:200]
    pages = sorted({int(skb["skb"], 16) & -PAGE for skb in skbs})
    lost = set(pages[::3])
    for page in lost:
        copy.lose(page)
    heads = " ".join(sorted({skb["head"] for skb in skbs}))
    run = gdb_run(f"ksearch {heads} -n --json", HEAD, f"ksearch {heads} -n", vmcore=copy.path, vmlinux=healthy.vmlinux)
    offset, document = int(re.findall(r"^\$1 = (\d+)", run.stdout, re.MULTILINE)[0]), run.json()
    places = {int(skb["skb"], 16) + offset for skb in skbs}
    assert len(places) == 200 and len(lost) > 3
    there = {place for place in places if place & -PAGE not in lost}
    assert set(addresses(document)) & places == there and there < places
    unread = [piece for piece in document["unread"] if piece["why"] == "TRUNCATED"]
    told = {
        at for piece in unread for at in range(int(piece["start"], 16), int(piece["start"], 16) + piece["size"], PAGE)
    }
    assert told == lost and not document["complete"]
    sentence = f"not searched: {len(lost) * PAGE:,} bytes in {len(unread)} range"
    assert sentence in run.stdout, run.stdout


def aligned(pages: dict[int, bytes], wanted: bytes, size: int = 8) -> list[int]:
    """The multiples of `size` where a regular expression is found, page by page."""
    found = re.compile(b"(?=" + wanted + b")", re.DOTALL)
    places = ((at, match.start()) for at, page in pages.items() for match in found.finditer(page))
    return [at + offset for at, offset in places if not offset % size]


def test_every_page_is_searched_once(gdb_run: Gdb, dump: LabDump) -> None:
    """The same places as by hand, for words, ranges, masks, strings and bytes."""
    run = gdb_run(
        "print/x (unsigned long)&init_task", "ksearch -p &init_task --json",
        "ksearch -p -r &init_task:(long)&init_task+256 --json", "ksearch -p -m 0xfff &init_task --json",
        'ksearch -p -c "swapper/0" --json', "ksearch -p -b 73??61707?65722f --json",
        "ksearch -p -w (unsigned)(long)&init_task --json", "ksearch --json -k &init_task", vmcore=dump.vmcore,
    ).succeeded()  # fmt: skip
    task = int(re.findall(r"^\$1 = (0x\w+)", run.stdout, re.MULTILINE)[0], 16)
    word, pages = task.to_bytes(8, "little"), dict(pages_of(dump.vmcore))
    exact, within, masked, text, some, half, kernel = run.documents
    places = aligned(pages, re.escape(word))
    assert addresses(exact) == places and len(places) > 20
    alike = aligned(pages, b".." + re.escape(word[2:]))
    near = [at for at in alike if 0 <= value_at(pages, at) - task < 256]
    assert addresses(within) == near and set(places) <= set(near)
    page = [at for at in alike if value_at(pages, at) >> 12 == task >> 12]
    assert addresses(masked) == page and set(places) < set(page)
    strings = aligned(pages, b"swapper/0", 1)
    assert addresses(text) == strings and len(strings) > 1
    assert addresses(some) == aligned(pages, b"s.ap[\x70-\x7f]er/", 1) and set(strings) < set(addresses(some))
    assert addresses(half) == aligned(pages, re.escape(word[:4]), 4)
    assert exact["searched_bytes"] == len(pages) * PAGE
    # By the kernel's own addresses, in the direct map: the same places.
    shifts = {mapped - physical for mapped, physical in zip(addresses(kernel), addresses(exact), strict=True)}
    assert len(shifts) == 1 and shifts.pop() % (1 << 30) == 0
    for piece in exact["unread"]:
        start = int(piece["start"], 16)
        assert piece["why"] == "FILTERED" and not any(at in pages for at in range(start, start + piece["size"], PAGE))


def value_at(pages: dict[int, bytes], physical: int) -> int:
    return int.from_bytes(pages[physical & -PAGE][physical % PAGE :][:8], "little")


def test_what_is_mapped_twice_has_both_addresses(gdb_run: Gdb, dump: LabDump) -> None:
    run = gdb_run(
        "ksearch &init_task --json", "ksearch -t &init_task --json", "kps --json", "print/x (unsigned long)&init_task",
        "ksearch -s &init_task -e &init_task+1 &init_task --json", "ksearch &init_task", vmcore=dump.vmcore,
    ).succeeded()  # fmt: skip
    everywhere, stacks, tasks, image = run.documents
    task = int(re.findall(r"^\$1 = (0x\w+)", run.stdout, re.MULTILINE)[0], 16)
    named = {hit["text"].partition(" (also")[0]: hit for hit in everywhere["hits"]}
    assert f"0x{task + 0x980:016x}" in [alias for hit in everywhere["hits"] for alias in hit["aliases"]]
    assert any("; init_task+0x" in name for name in named)
    assert any(name.startswith("per-CPU variable current_task of CPU 0") for name in named), named
    # The stacks are those of the tasks, and each of their hits is one of all, by another address.
    aliases = {alias for hit in everywhere["hits"] for alias in (hit["address"], *hit["aliases"])}
    assert {hit["address"] for hit in stacks["hits"]} <= aliases and len(stacks["hits"]) > 10
    owners = {(task["pid"], task["comm"]) for task in tasks["tasks"]}
    for hit in stacks["hits"]:
        owner = re.search(r" of PID (\d+) \((.*)\); ", hit["text"])
        assert hit["kind"] == "stack" and owner and (int(owner[1]), owner[2]) in owners, hit
    assert stacks["complete"] and stacks["unread"] == []
    assert addresses(image) and all(task <= addr < task + 0x4000 for addr in addresses(image))
    assert re.search(rf"^0x\w{{16}}:  0x{task:016x}  .*; init_task\+0x\w+ \(also 0x\w+\)$", run.stdout, re.MULTILINE)
    lines = run.stdout.splitlines()
    assert f"{len(everywhere['hits'])} hits in {everywhere['searched_bytes']:,} bytes" in lines
    missing = sum(piece["size"] for piece in everywhere["unread"])
    count = len(everywhere["unread"])
    reason = "the page was left out of the dump (FILTERED)"
    assert f"not searched: {missing:,} bytes in {count} ranges: {reason}" in lines


@pytest.mark.parametrize("name", dump_names("locks"))
def test_a_lock_is_on_the_stacks_of_its_users(name: str, gdb_run: Gdb, lab_dump: Callable[[str], LabDump]) -> None:
    """Of all that wait for it, and of those that hold it and have it there still: they wait for another one."""
    dump = lab_dump(name)
    users = dump.truth["lock_users"]
    locks = {user["lock"]: user["address"] if int(user["address"], 16) else "&" + user["lock"] for user in users}
    run = gdb_run(*(f"ksearch -t {lock} --json" for lock in locks.values()), vmcore=dump.vmcore).succeeded()
    assert len(locks) >= 6
    for lock, document in zip(locks, run.documents):
        owners = [re.search(r" of PID (\d+) \(.*\); ", hit["text"]) for hit in document["hits"]]
        pids = {int(owner[1]) for owner in owners if owner}
        waiting = {user["pid"] for user in users if user["lock"] == lock and not user["holds"]}
        holding = {user["pid"] for user in users if user["lock"] == lock and user["holds"]}
        assert waiting and waiting <= pids, lock
        if lock in ("lab_left", "lab_right"):
            assert pids == waiting | holding and len(holding) == 1
        elif lock != "rtnl_mutex":  # which others have had before
            assert pids <= waiting | holding


def test_objects_of_a_cache(gdb_run: Gdb, healthy: LabDump) -> None:
    task = next(task for task in healthy.truth["tasks"] if task["comm"] == "init")
    run = gdb_run(
        "ksearch -c init -l task_struct --json", "ksearch -l nothing 1", "kslab -l task_struct --json",
        "python from gdb_kdump import api",
        "python print('api', [int(p) for p in api.search('init', cache='task_struct', gaps=[])])",
        vmcore=healthy.vmcore,
    ).succeeded()  # fmt: skip
    document, caches = run.documents
    inside = [
        hit
        for hit in document["hits"]
        if re.search(f"allocated object {task['task']}[+]0x[0-9a-f]+ of task_struct", hit["text"])
    ]
    assert len(inside) == 1 and inside[0]["kind"] == "slab"
    size = caches["caches"][0]["objects"] * caches["caches"][0]["size"]
    assert document["searched_bytes"] + sum(piece["size"] for piece in document["unread"]) == size
    assert f"api {addresses(document)}" in run.stdout


def test_context_and_widths(gdb_run: Gdb, dump: LabDump) -> None:
    bounds = "-s &linux_banner -e (long)&linux_banner+8"
    run = gdb_run(
        f'ksearch -c "Linux version 6" {bounds} -x 1 --json', "x/3gx (long)&linux_banner-8",
        f"ksearch -w {bounds} -x 2 0x756e694c", f"ksearch -h 0x694c {bounds}", vmcore=dump.vmcore,
    ).succeeded()  # fmt: skip
    (hit,) = run.json()["hits"]
    assert hit["text"] == "linux_banner" and hit["value"] == '"Linux version 6"'
    start = int(hit["address"], 16)
    assert [int(word["address"], 16) - start for word in hit["context"]] == [-8, 0, 8]
    shown = re.findall(r"\t(0x\w{16})", run.stdout)
    assert [word["value"] for word in hit["context"]] == shown and len(shown) == 3
    assert f"{hit['address']}:  0x756e694c  linux_banner" in run.stdout
    assert f"{hit['address']}:  0x694c  linux_banner" in run.stdout
    rows = re.findall(r"^    (0x\w{16}): (.*)$", run.stdout, re.MULTILINE)
    assert [int(at, 16) - start for at, _ in rows] == [-8, 8] and rows[0][1].split()[2] == "756e694c"


def test_a_truncated_dump_is_searched_as_far_as_it_goes(gdb_run: Gdb, dump: LabDump, tmp_path: Path) -> None:
    copy = tmp_path / "vmcore"
    shutil.copy(dump.vmcore, copy)
    os.truncate(copy, copy.stat().st_size * 9 // 10)
    run = gdb_run(
        "ksearch -p 0x123456789abcdef1 --json", "ksearch -p 0x123456789abcdef1", vmcore=copy, vmlinux=dump.vmlinux
    )
    document = run.json()
    lost = sum(piece["size"] for piece in document["unread"] if piece["why"] == "TRUNCATED")
    pages = len(dict(pages_of(dump.vmcore)))
    assert document["hits"] == [] and not document["complete"]
    assert lost and lost + document["searched_bytes"] == pages * PAGE
    assert re.search(
        rf"^not searched: {lost:,} bytes in .*missing part of a truncated dump \(TRUNCATED\)$", run.stdout, re.M
    )


def stopped() -> dict[str, Any]:
    from gdb_kdump import session, walks
    from gdb_kdump.kernel.search import search
    from gdb_kdump.kernel.search_areas import kernel_memory
    from gdb_kdump.records.patterns import Words

    opened, shown = session.current(), {}

    def interrupt(*_: int) -> None:
        raise KeyboardInterrupt

    for name, tell in (("stopped", interrupt), ("whole", lambda *_: None)):
        gaps = walks.Gaps()
        with walks.StoppableCommand() as running:
            found = search(opened, Words(8, ((1, 1),)), kernel_memory(opened), gaps, tell)
            unread = {piece.why: 0 for piece in found.unread}
            for piece in found.unread:
                unread[piece.why] += piece.size
            shown[name] = [list(found.hits), found.searched_bytes, unread, list(gaps), running.is_interrupted]
    return shown


def test_ctrl_c_shows_what_there_is(in_gdb: Callable[..., Any], dump: LabDump) -> None:
    shown = in_gdb(stopped, vmcore=dump.vmcore)
    (some, searched, unread, gaps, interrupted), (every, everything, missing, none, _) = (
        shown["stopped"],
        shown["whole"],
    )
    assert interrupted and gaps == ["the search: stopped by Ctrl-C"] and none == []
    assert set(some) < set(every) and len(every) > 1000
    assert searched < everything and set(missing) == {"FILTERED"}
    assert unread["STOPPED"] + searched + unread.get("FILTERED", 0) == everything + missing["FILTERED"]


def test_limits(gdb_run: Gdb, dump: LabDump) -> None:
    run = gdb_run(
        "set kdump max-elements 5", "ksearch 1 --json", "set kdump max-elements 10000000", "ksearch 0 --json",
        vmcore=dump.vmcore,
    ).succeeded()  # fmt: skip
    few, many = run.documents
    assert few["problems"] == ["the search: stopped after 5 elements (set kdump max-elements)"] and few["hits"]
    assert "have less of memory searched" in many["problems"][0] and len(many["hits"]) >= 100_000
    for document in (few, many):
        assert not document["complete"] and "STOPPED" in {piece["why"] for piece in document["unread"]}


REFUSED = {
    "": "name what to search for: ksearch VALUE..., or ksearch -r START:END",
    '-c ""': "what is everywhere cannot be searched for: name at least one byte",
    "-b ????": "what is everywhere cannot be searched for: name at least one byte",
    "-b 123": "'123' are no bytes: -b takes pairs of hex digits and ?, as in 6b6b??6b",
    "-c -b 11": "-c and -b are not for the same VALUE: choose one",
    "-m 0xff -c x": "-m is for words, -c for others: choose one (in -b, ? stands for any)",
    "-p -t 1": "-p and -t say where to search: choose one",
    "-t -s 5 1": "-s is for kernel and physical memory, not for -t",
    "-s 5 -e 4 1": "there is nothing from 0x5 to before 0x4",
    "-w 0x1122334455": "0x1122334455 does not fit in 4 bytes",
    "-r 5": "-r takes START:END",
    "-r 5:5": "-r 5:5: there is nothing from 0x5 to before 0x5",
    "1 -x q": "'q' is no number: -x takes a number of words",
    "no_such": "cannot evaluate 'no_such': No symbol \"no_such\" in current context.",
    "-l nothing 1": "there is no slab cache 'nothing'; kslab -l lists them",
    f"-c {'x' * 300}": "300 bytes are too long to be searched for: at most 256",
}


def test_what_cannot_be_searched_for_is_refused(gdb_run: Gdb, dump: LabDump) -> None:
    run = gdb_run(*(f"ksearch {words}" for words in REFUSED), vmcore=dump.vmcore)
    assert run.errors == [f"ksearch: {sentence}" for sentence in REFUSED.values()]

"""kwhat: addresses of every kind, against what the kernel itself said of them before it crashed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pytest_gdb_fixtures import Gdb, LabDump, Run, dump_names


def said(run: Run) -> dict[int, Any]:
    """What kwhat says, by address."""
    return {int(one["address"], 16): one for one in run.json()}


def links(what: Any) -> set[tuple[str, int]]:
    """Every step of every chain of owners: what it is, and its address."""
    return {(link["what"], int(link["address"], 16)) for chain in what["owners"] for link in chain}


@pytest.mark.parametrize("name", dump_names("queues", "healthy"))
def test_every_sk_buff_of_the_truth_has_its_owners(name: str, gdb_run: Gdb, lab_dump: Callable[[str], LabDump]) -> None:
    dump = lab_dump(name)
    skbs, socks = dump.skbs(), dump.truth["socks"]
    inside = {int(skb["data"], 16) for skb in skbs.values()} | {int(skb["shinfo"], 16) + 2 for skb in skbs.values()}
    addresses = [*map("{:#x}".format, inside), *skbs, *(sock["sock"] for sock in socks)]
    what = said(gdb_run("kwhat --json " + " ".join(addresses), vmcore=dump.vmcore).succeeded())
    holders = {skb: sock for sock in socks for queue in sock["queues"] for skb in queue["skbs"]}
    for skb in skbs.values():
        addr, head = int(skb["skb"], 16), int(skb["head"], 16)
        chains = [what[addr], what[int(skb["data"], 16)], what[int(skb["shinfo"], 16) + 2]]
        for chain in chains:
            assert ("sk_buff", addr) in links(chain), (skb, chain)
        assert ("head", head) in links(chains[1]) and ("head", head) in links(chains[2])
        sock = holders.get(skb["skb"])
        if sock is not None:
            for chain in chains:
                assert ("sock", int(sock["sock"], 16)) in links(chain), (skb, chain)
    for sock in socks:
        steps = links(what[int(sock["sock"], 16)])
        assert ("sock", int(sock["sock"], 16)) in steps
        assert sock["file"] == "0x0000000000000000" or ("file", int(sock["file"], 16)) in steps, (sock, steps)
        if sock["file"] != "0x0000000000000000":
            assert any(step == "task_struct" for step, _ in steps), (sock, steps)


@pytest.mark.parametrize("name", dump_names("queues"))
def test_tasks_and_their_stacks(name: str, gdb_run: Gdb, lab_dump: Callable[[str], LabDump]) -> None:
    dump = lab_dump(name)
    tasks = {int(task["task"], 16): task for task in dump.truth["tasks"]}
    stacks = {int(task["stack"], 16) + 0x3F80: task for task in tasks.values()}
    what = said(
        gdb_run("kwhat --json " + " ".join(map("{:#x}".format, [*tasks, *stacks])), vmcore=dump.vmcore).succeeded()
    )
    for addr, task in tasks.items():
        assert ("task_struct", addr) in links(what[addr])
        assert f"PID {task['pid']} ({task['comm']})" in what[addr]["text"]
    for addr, task in stacks.items():
        assert what[addr]["kind"] == "stack" and links(what[addr]) >= {("task_struct", int(task["task"], 16))}
        assert what[addr]["owners"][0][0]["what"] == "frame"


def test_what_is_no_address(gdb_run: Gdb, lab_dump: Callable[[str], LabDump]) -> None:
    commands = ("kwhat", "kwhat 0x1234", "kwhat 0x8888888888888888", "kwhat no_such_symbol", "kwhat -p 0xffffffffffff",
                "kwhat 0xfffffffffffffff8", "kwhat -p 0x1000")  # fmt: skip
    run = gdb_run(*commands, vmcore=lab_dump("6.1-queues").vmcore)
    assert "Traceback" not in run.output
    refusals = [line for line in run.errors if line.startswith("kwhat: ")]
    assert len(refusals) == 3
    assert "name an address" in refusals[0] and "no_such_symbol" in refusals[1] and "no memory at" in refusals[2]
    assert "is an address of user space, or a physical one (kwhat -p)" in run.stdout
    assert "it is not canonical" in run.stdout and "KIND: nowhere" in run.stdout
    assert "page frame 0x1 " in run.stdout and "PHYSICAL: 0x0000000000001000" in run.stdout


@pytest.mark.parametrize("name", dump_names("queues"))
def test_words_are_named_as_kwhat_names_them(name: str, gdb_run: Gdb, lab_dump: Callable[[str], LabDump]) -> None:
    dump = lab_dump(name)
    sock = next(sock for sock in dump.truth["socks"] if any(queue["qlen"] for queue in sock["queues"]))
    head = next(queue for queue in sock["queues"] if queue["qlen"] and queue["kind"] == "list")
    first, last = head["skbs"][0], head["skbs"][-1]
    task = dump.truth["panic_task"]["pid"]
    run = gdb_run(f"krd {head['head']} 2 --json", f"krd -s {sock['sock']} 100 --json", f"krd {head['head']} 2",
                  f"krd $task({task})->stack 4 --json", vmcore=dump.vmcore).succeeded()  # fmt: skip
    whole, symbols, stack = run.documents
    assert [word["value"] for word in whole["words"]] == [first, last]
    assert all(f"sk_buff {word['value']} on the" in word["text"] for word in whole["words"])
    assert sock["sock"] in whole["words"][0]["text"]
    named = {word["text"] for word in symbols["words"] if word["text"]}
    assert "sock_def_readable" in named and not any("sk_buff" in text or "sock 0x" in text for text in named), named
    assert stack["words"][0]["value"] == "0x0000000057ac6e9d"  # include/uapi/linux/magic.h: STACK_END_MAGIC
    assert stack["words"][0]["text"] is None and stack["words"][0]["ascii"] == ".n.W...."
    assert f"{head['head']}:  {first[2:]}  " in run.stdout


@pytest.mark.parametrize("name", dump_names("reference"))
def test_a_word_of_a_frame_is_named(name: str, gdb_run: Gdb, lab_dump: Callable[[str], LabDump]) -> None:
    """The way of the write-ups: an sk_buff that only the words of the frames have, named by krd down to its owner."""
    dump = lab_dump(name)
    fault, pid = dump.truth["fault"], dump.truth["panic_task"]["pid"]
    (task,) = gdb_run("kbt -f --json", vmcore=dump.vmcore).succeeded().json()["tasks"]
    slots = [
        int(frame["sp"], 16) + 8 * number
        for frame in task["frames"] if frame["function"] == "skb_release_data"
        for number, word in enumerate(frame.get("words", ())) if word == fault["skb"]
    ]  # fmt: skip
    assert slots
    run = gdb_run(*(f"krd {slot:#x} 1 --json" for slot in slots), vmcore=dump.vmcore).succeeded()
    for document in run.documents:
        (word,) = document["words"]
        assert word["value"] == fault["skb"] and f"sk_buff {fault['skb']}" in word["text"]
        assert f"sock {fault['sock']} (" in word["text"] and f" of PID {pid} (load)" in word["text"]


def test_words_that_cannot_be_read(gdb_run: Gdb, lab_dump: Callable[[str], LabDump]) -> None:
    commands = ("krd", "krd 0x1000", "krd 0x8888888888888888 2", "krd 0xfffffffff0000000", "krd init_task 0",
                "krd init_task none", "krd nothing", "krd -p 0xffffffffffff")  # fmt: skip
    run = gdb_run(*commands, vmcore=lab_dump("6.1-queues").vmcore)
    assert "Traceback" not in run.output
    refusals = [line for line in run.errors if line.startswith("krd: ")]
    assert len(refusals) == len(commands)
    reasons = ("name an address", "of user space", "not canonical", "do not map it", "0 words", "is no number",
               "nothing", "no memory at")  # fmt: skip
    assert all(reason in refusal for reason, refusal in zip(reasons, refusals)), refusals


def gaps_between_symbols() -> dict[str, list[int]]:
    """Addresses in symbols of modules, at their ends, and behind these, where no other symbol begins."""
    import gdb

    from gdb_kdump.kernel.module.modules import Modules
    from gdb_kdump.session import current
    from gdb_kdump.walks import Gaps

    inside, behind = [], []
    for module in current().once(Modules).all(Gaps()):
        struct = gdb.parse_and_eval(f"*(struct module *){module.addr:#x}")
        symbols = struct["kallsyms"]
        table = [symbols["symtab"][number] for number in range(int(symbols["num_symtab"]))]
        rows = sorted(tuple(int(symbol[f"st_{name}"]) for name in ("value", "size", "name")) for symbol in table)
        low, size = max(module.ranges, key=lambda one: one[1])
        for (start, length, name), (following, _, _) in zip(rows, rows[1:]):
            is_followed = start + length + 1 < following < low + size
            if low <= start and length > 1 and is_followed and (symbols["strtab"] + name).string()[:1] != ".":
                inside.append(start + length - 1)
                behind.append(start + length + 1)
    return {"inside": inside[:20], "behind": behind[:20]}


@pytest.mark.parametrize("name", dump_names("queues"))
def test_what_stands_between_the_symbols_of_a_module(
    name: str, gdb_run: Gdb, in_gdb: Callable[..., Any], lab_dump: Callable[[str], LabDump]
) -> None:
    dump = lab_dump(name)
    found = in_gdb(gaps_between_symbols, vmcore=dump.vmcore)
    addresses = [*found["inside"], *found["behind"]]
    what = said(gdb_run("kwhat --json " + " ".join(map("{:#x}".format, addresses)), vmcore=dump.vmcore).succeeded())
    assert found["inside"] and found["behind"]
    assert all("+0x" in what[addr]["text"] and " of module " in what[addr]["text"] for addr in found["inside"])
    assert all(what[addr]["text"].endswith(", in no symbol") for addr in found["behind"])


@pytest.mark.parametrize("name", dump_names("queues"))
def test_a_struct_page_says_where_its_page_is_mapped(
    name: str, gdb_run: Gdb, lab_dump: Callable[[str], LabDump]
) -> None:
    dump = lab_dump(name)
    stack = next(int(task["stack"], 16) for task in dump.truth["tasks"] if task["pid"] == 1)
    commands = ("kwhat --json $task(1)->stack_vm_area->pages[1]", "kwhat --json $task(1)->stack_vm_area",
                "kwhat --json ((char*)$task(1)->stack_vm_area)+3", "kwhat 0")  # fmt: skip
    run = gdb_run(*commands, vmcore=dump.vmcore).succeeded()
    page, area, unaligned = run.documents
    assert f"mapped at {stack + 0x1000:#018x} in the vmalloc area {stack:#x}-" in page["text"]
    assert "stack_vm_area of PID 1 (init)" in area["text"] and area["owners"][0][0]["what"] == "vm_struct"
    assert f"vm_struct {area['address']}+0x3 ." in unaligned["text"] and unaligned["owners"][0][0]["offset"] == 3
    assert "0x0000000000000000 is NULL" in run.stdout

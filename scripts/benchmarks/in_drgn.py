"""Run by drgn's Python as in_drgn.py VMCORE VMLINUX traces, walk-objects SOCK, walk-offsets SOCK
or search u64|range|mask|text WHAT.

Writes lines "NAME NUMBER" to $BENCH_RESULT, as in_gdb.py does.
"""

import os
import sys
import time
import zlib
from collections.abc import Callable
from typing import Any

from drgn import FaultError, MissingDebugInfoError, Object, Program, offsetof, sizeof
from drgn.helpers.linux.pid import for_each_task

program = Program()
PAGE = 4096

Figures = dict[str, float]


def traces() -> Figures:
    """Print the stack trace of every task, functions and source lines."""
    count = 0
    for task in for_each_task(program, idle=True):
        try:
            print(program.stack_trace(task))
        except ValueError:  # one that runs on a CPU whose registers are not in the dump
            continue
        count += 1
    return {"traces": count}


def walk_objects(sock: int) -> Figures:
    """Read len and nr_frags of every sk_buff on a receive queue, as one would write it by hand."""
    head = Object(program, "struct sock *", value=sock).sk_receive_queue.address_of_()
    info_type, end = program.type("struct skb_shared_info *"), head.value_()
    skbs = lengths = frags = 0
    skb = head.next
    while skb.value_() != end:
        info = Object(program, info_type, value=skb.head.value_() + skb.end.value_())
        skbs, lengths, frags = skbs + 1, lengths + skb.len.value_(), frags + info.nr_frags.value_()
        skb = skb.next
    return {"skbs": skbs, "bytes": lengths, "frags": frags}


def walk_offsets(sock: int) -> Figures:
    """The same with the members' offsets taken once: the fastest that drgn's Python can do."""
    end = Object(program, "struct sock *", value=sock).sk_receive_queue.address_of_().value_()
    skb_type, info_type = program.type("struct sk_buff"), program.type("struct skb_shared_info")
    next_, len_, head_, end_ = (offsetof(skb_type, name) for name in ("next", "len", "head", "end"))
    nr_frags = offsetof(info_type, "nr_frags")
    u64, u32, u8 = program.read_u64, program.read_u32, program.read_u8
    skbs = lengths = frags = 0
    skb = u64(end)
    while skb != end:
        skbs, lengths = skbs + 1, lengths + u32(skb + len_)
        frags += u8(u64(skb + head_) + u32(skb + end_) + nr_frags)
        skb = u64(skb + next_)
    return {"skbs": skbs, "bytes": lengths, "frags": frags}


def search(kind: str, wanted: str) -> Callable[[], Figures]:
    """Search all pages that the dump has, by physical address: drgn ends at a page that was left out.

    Which pages these are is looked for before the clock starts.
    """
    runs = _runs()

    def start() -> Any:
        if kind == "text":
            return program.search_memory(wanted.encode())
        addr = int(program[wanted].address_of_().value_())
        if kind == "range":
            return program.search_memory_u64((addr, addr + sizeof(program[wanted]) - 1))
        return program.search_memory_u64(addr, ignore_mask=0xFFF if kind == "mask" else 0)

    def action() -> Figures:
        places: list[int] = []
        for first, last in runs:
            found = start().set_address_range(first, last, True)
            places += (one[0] if isinstance(one, tuple) else one for one in found)
        return {"hits": len(places), "places": zlib.crc32(",".join(map(str, sorted(places))).encode())}

    return action


def _runs() -> list[tuple[int, int]]:
    """The physical memory that the dump has: first and last addresses."""
    runs: list[tuple[int, int]] = []
    for first in range(0, program["max_pfn"].value_() * PAGE, PAGE):
        try:
            program.read(first, 1, True)
        except FaultError:
            continue
        if runs and runs[-1][1] == first - 1:
            runs[-1] = runs[-1][0], first + PAGE - 1
        else:
            runs.append((first, first + PAGE - 1))
    return runs


def measure(action: Callable[[], Figures]) -> None:
    """The seconds that an action takes, and what it counted."""
    started = time.monotonic()
    figures = action()
    figures["inside"] = time.monotonic() - started
    with open(os.environ["BENCH_RESULT"], "a") as file:
        file.writelines(f"{name} {value}\n" for name, value in figures.items())


def main() -> None:
    """Opens the dump and measures what the command line names."""
    vmcore, vmlinux, what, *operands = sys.argv[1:]
    program.set_core_dump(vmcore)
    try:
        program.load_debug_info([vmlinux], default=True)
    except MissingDebugInfoError as error:  # modules without debug information; the kernel's own is loaded
        print(error, file=sys.stderr)
    if what == "traces":
        measure(traces)
        return
    if what == "search":
        measure(search(*operands))
        return
    walk = {"walk-objects": walk_objects, "walk-offsets": walk_offsets}[what]
    measure(lambda: walk(int(operands[0], 16)))


if __name__ == "__main__":
    main()

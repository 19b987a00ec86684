"""Run by drgn's Python as what_in_drgn.py VMCORE VMLINUX TRUTH FILE MOST SEED: writes to FILE, as JSON, addresses of
every kind, at most so many of each, and what drgn, its helpers and the guest's truth say of each."""

import json
import random
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from drgn import FaultError, MissingDebugInfoError, Object, Program, cast, offsetof, sizeof
from drgn.helpers.common.memory import IdentifiedSymbol, identify_address_all
from drgn.helpers.linux.common import (
    IdentifiedPage,
    IdentifiedSlabObject,
    IdentifiedTaskStack,
    IdentifiedTaskStruct,
    IdentifiedVmap,
)
from drgn.helpers.linux.cpumask import for_each_online_cpu
from drgn.helpers.linux.fs import for_each_file
from drgn.helpers.linux.mm import (
    PageCompound,
    PageSlab,
    for_each_valid_pfn_and_page,
    for_each_vmap_area,
    page_to_virt,
)
from drgn.helpers.linux.module import for_each_module, module_address_regions
from drgn.helpers.linux.net import for_each_net, for_each_netdev
from drgn.helpers.linux.pid import for_each_task
from drgn.helpers.linux.slab import find_containing_slab_cache

program = Program()
Row = dict[str, Any]


def row(kind: str, addr: int, *links: tuple[str, int], **more: Any) -> Row:
    """An address that was picked as one of a kind, the objects that its owners must name, and what else must be so."""
    return {"kind": kind, "addr": addr, "links": links, **more}


def pages_by_cache() -> tuple[dict[int, list[int]], list[tuple[int, Object]]]:
    """The addresses of slab pages by cache, and all struct pages with their numbers."""
    caches: dict[int, list[int]] = {}
    pages = []
    for pfn, page in for_each_valid_pfn_and_page(program):
        try:
            if PageSlab(page):
                addr = page_to_virt(page).value_()
                caches.setdefault(find_containing_slab_cache(program, addr).value_(), []).append(addr)
        except FaultError:
            continue
        pages.append((pfn, page))
    return caches, pages


def of_slabs(caches: dict[int, list[int]], most: int) -> Iterator[Row]:
    """Addresses in the slabs of every cache in turn; some are of no object, some of a free one."""
    for _ in range(most // len(caches) + 1):
        for pages in caches.values():
            yield row("slab", random.choice(pages) + random.randrange(4096))


def of_pages(pages: list[tuple[int, Object]], most: int) -> Iterator[Row]:
    """Addresses in the array of struct pages, and the flags of each."""
    size = sizeof(program.type("struct page"))
    bits: dict[int, str] = {}
    for enumerator in program.type("enum pageflags").enumerators or ():
        bits.setdefault(enumerator.value, enumerator.name.removeprefix("PG_"))  # of several names the first
    bits = {bit: name for bit, name in bits.items() if bit < program["__NR_PAGEFLAGS"].value_()}
    for pfn, page in random.sample(pages, most):
        flags = page.flags.value_()
        # Of a compound page it is the first one's that say something.
        names = [] if PageCompound(page) else [name for bit, name in bits.items() if flags >> bit & 1]
        yield row("struct page", page.value_() + random.randrange(size), pfn=pfn, flags=names)


def of_stacks(most: int) -> Iterator[Row]:
    """Addresses on the stacks of tasks."""
    tasks, size = [task for task in for_each_task(program) if task.stack], program["THREAD_SIZE"].value_()
    for _ in range(most):
        task = random.choice(tasks)
        yield row("stack", task.stack.value_() + random.randrange(size), ("task_struct", task.value_()))


def of_symbols(vmlinux: str, most: int) -> Iterator[Row]:
    """Addresses in the kernel's code and data, and in each CPU's copies of per-CPU variables."""
    for _ in range(most):
        first, last = random.choice((("_stext", "_etext"), ("_sdata", "_edata"), ("__bss_start", "__bss_stop")))
        yield row("image", random.randrange(program.symbol(first).address, program.symbol(last).address))
    symbols = list(percpu_symbols(vmlinux))
    for _ in range(most):
        (_, start, size), cpu = random.choice(symbols), random.choice([*for_each_online_cpu(program)])
        inside = start + random.randrange(size)
        # One address may have several names.
        names = [name for name, addr, length in symbols if addr <= inside < addr + length]
        yield row("per-CPU", inside + program["__per_cpu_offset"][cpu].value_(), names=names, cpu=cpu)


def percpu_symbols(vmlinux: str) -> Iterator[tuple[str, int, int]]:
    """The per-CPU variables of a vmlinux with address and size; drgn finds none by an address that is so small."""
    data = Path(vmlinux).read_bytes()
    at, size, count, names = (*struct.unpack_from("<Q", data, 40), *struct.unpack_from("<HHH", data, 58))
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, at + number * size) for number in range(count)]
    names_at = sections[names][4]
    for _, kind, _, _, offset, length, link, *_ in sections:
        for name, info, _, place, value, size in (
            struct.iter_unpack("<IBBHQQ", data[offset : offset + length]) if kind == 2 else ()
        ):
            if (
                place < count
                and size
                and info & 15 == 1
                and cstring(data, names_at + sections[place][0]) == ".data..percpu"
            ):
                yield cstring(data, sections[link][4] + name), value, size


def cstring(data: bytes, at: int) -> str:
    """The string at an offset."""
    return data[at : data.index(0, at)].decode()


def of_modules(most: int) -> Iterator[Row]:
    """Addresses in the memory of modules."""
    regions = [(module.name.string_().decode(), *region) for module in for_each_module(program)
               for region in module_address_regions(module) if region[1]]  # fmt: skip
    for _ in range(most):
        name, start, size = random.choice(regions)
        yield row("module", start + random.randrange(size), module=name)


def of_areas(most: int) -> Iterator[Row]:
    """Addresses in the areas of vmalloc."""
    areas = [*for_each_vmap_area(program)]
    for _ in range(most):
        area = random.choice(areas)
        yield row("vmap", random.randrange(area.va_start.value_(), area.va_end.value_()))


def of_objects() -> Iterator[Row]:
    """Objects whose type the pointer that leads there has."""
    for task in for_each_task(program):
        # Its last member, thread, is as large as the machine's registers, whatever its type says.
        inside = random.randrange(offsetof(task.type_.type, "thread"))
        yield row("object", task.value_() + inside, ("task_struct", task.value_()))
        for member in ("signal", "sighand", "files", "fs", "mm", "nsproxy", "cred"):
            yield from of_object(getattr(task, member).read_(), ("task_struct", task.value_()))
        for descriptor, file in open_files(task):
            owner = ("task_struct", task.value_())
            words = f"descriptor {descriptor} of PID {task.pid.value_()} "
            yield from of_object(file, owner, words=[words])
            yield from of_object(file.f_inode.read_())
            yield from of_object(file.f_path.dentry.read_())
            yield from of_object(file.f_path.dentry.d_sb.read_())
    for net in for_each_net(program):
        yield from of_object(net)
        for device in for_each_netdev(net):
            yield from of_object(device, ("net", net.value_()))
            yield from of_object(device.ip_ptr.read_(), ("net_device", device.value_()))


def open_files(task: Object) -> list[tuple[int, Object]]:
    """The descriptors of a task with their `struct file *`."""
    return [(descriptor, file) for descriptor, file in for_each_file(task) if file] if task.files else []


def of_object(pointer: Object, *links: tuple[str, int], **more: Any) -> Iterator[Row]:
    """The address of an object, and one in it."""
    if pointer:
        link = (pointer.type_.type.tag, pointer.value_())
        yield row("object", pointer.value_(), link, *links, **more)
        yield row("object", pointer.value_() + random.randrange(sizeof(pointer[0])), link, **more)


def of_truth(truth: Any) -> Iterator[Row]:
    """The sockets and sk_buffs that the guest's log names, their buffers and fragments, and what they refer to."""
    holders: dict[str, list[tuple[str, int]]] = {}
    files: dict[int, list[str]] = {}
    for task in for_each_task(program):
        for descriptor, file in open_files(task):
            files.setdefault(file.value_(), []).append(f"descriptor {descriptor} of PID {task.pid.value_()} ")
    for sock in truth["socks"]:
        addr, file = int(sock["sock"], 16), int(sock["file"], 16)
        links = [("sock", addr), *[("file", file)] * bool(file)]
        yield row("sock", addr, *links, words=files.get(file, [])[:4])
        yield row("sock", addr + random.randrange(600), *links, words=files.get(file, [])[:4])
        for queue in sock["queues"]:
            for skb in queue["skbs"]:
                holders.setdefault(skb, []).extend(links)
    for skb in {skb["skb"]: skb for skb in truth["skbs"]}.values():
        addr, head, shinfo = (int(skb[name], 16) for name in ("skb", "head", "shinfo"))
        links = [("sk_buff", addr), *holders.get(skb["skb"], [])]
        yield row("sk_buff", addr, *links)
        yield row("sk_buff", addr + random.randrange(200), *links)
        size = shinfo - head + sizeof(program.type("struct skb_shared_info"))
        yield row("head", head + random.randrange(size), ("head", head), *links)
        for page, offset, length in skb["frags"]:
            if int(page, 16) & 1 == 0 and int(length):
                start = page_to_virt(Object(program, "struct page *", int(page, 16))).value_() + int(offset)
                yield row("fragment", start + random.randrange(int(length)), *links)
        try:
            yield from of_references(Object(program, "struct sk_buff *", addr))
        except FaultError:
            continue


def of_references(skb: Object) -> Iterator[Row]:
    """What an sk_buff refers to, with flags in the lowest bits of the pointers."""
    for member, tag, mask in (("_skb_refdst", "dst_entry", ~1), ("_nfct", "nf_conn", ~7)):
        value = cast("unsigned long", getattr(skb, member)).value_() & mask
        if value:
            yield row(tag, value, (tag, value), ("sk_buff", skb.value_()))


def identified(addr: int, cache: dict[Any, Any]) -> list[Row]:
    """All that drgn says of an address."""
    found: list[Row] = []
    try:
        for one in identify_address_all(program, addr, cache=cache):
            found.append({"type": type(one).__name__, "words": str(one)} | details(addr, one))
    except FaultError as error:
        found.append({"type": "fault", "words": str(error)})
    return found


def details(addr: int, one: Any) -> Row:
    """The facts that can be compared."""
    if isinstance(one, (IdentifiedTaskStruct, IdentifiedTaskStack)):
        return {"task": one.task.value_(), "pid": one.task.pid.value_()}
    if isinstance(one, IdentifiedSlabObject):
        info = one.slab_object_info
        # What follows the last object of a slab is none, which drgn does not see.
        count = info.slab.objects.value_()
        index = (
            info.address - page_to_virt(cast("struct page *", info.slab)).value_()
        ) // info.slab_cache.size.value_()
        cache = info.slab_cache.name.string_().decode()
        return {"cache": cache, "start": info.address, "allocated": info.allocated, "is_one": index < count}
    if isinstance(one, IdentifiedVmap):
        area = one.vmap_area
        return {
            "start": area.va_start.value_(),
            "end": area.va_end.value_(),
            "caller": str(one).partition("caller ")[2],
        }
    if isinstance(one, IdentifiedPage):
        return {"page": one.page.value_(), "pfn": one.pfn}
    assert isinstance(one, IdentifiedSymbol)
    symbols = program.symbols(addr)
    # A label has no size: drgn says it of all that follows.
    return {"names": [f"{s.name}+{addr - s.address:#x}" for s in symbols], "is_label": not any(s.size for s in symbols)}


def main() -> None:
    """Opens the dump, picks the addresses, and asks drgn for each."""
    vmcore, vmlinux, truth, file, most, seed = sys.argv[1:]
    random.seed(int(seed))
    program.set_core_dump(vmcore)
    try:
        program.load_debug_info([vmlinux], default=True)
    except MissingDebugInfoError as error:  # modules without debug information; the kernel's own is loaded
        print(error, file=sys.stderr)
    caches, pages = pages_by_cache()
    many = int(most)
    rows = [*of_slabs(caches, many), *of_pages(pages, many), *of_stacks(many), *of_symbols(vmlinux, many)]
    rows += [*of_modules(many), *of_areas(many), *of_objects(), *of_truth(json.loads(Path(truth).read_text()))]
    cache: dict[Any, Any] = {}
    started = time.process_time()
    for one in rows:
        one["drgn"] = identified(one["addr"], cache)
    took = time.process_time() - started
    Path(file).write_text(json.dumps({"rows": rows, "seconds": took}))


if __name__ == "__main__":
    main()

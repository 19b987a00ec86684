"""Every difference between kernels: where a member stands, and what it means.

Nothing here knows a release number.  A logical name is `STRUCT.MEMBER`; the table lists, newest first, the dotted
paths under which kernels have had it, and the resolver asks the debug information which of them exists.  A name
without a row stands for itself.  Differences of meaning are the named functions at the end.

Types are taken as gdb.Type objects but only through their own methods, so this file needs no gdb.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gdb_kdump.errors import MissingDebugInfo

# Dotted member paths, newest first; each row cites the commits that moved the member.
MEMBERS: dict[str, tuple[str, ...]] = {
    # 633547973ffc (v4.13) net: convert sk_buff.users from atomic_t to refcount_t
    "sk_buff.users": ("users.refs.counter", "users.counter"),
    # 41c6d650f653 (v4.13) net: convert sock.sk_refcnt from atomic_t to refcount_t
    "sock.refcnt": ("__sk_common.skc_refcnt.refs.counter", "__sk_common.skc_refcnt.counter"),
    "sock.family": ("__sk_common.skc_family",),
    "sock.state": ("__sk_common.skc_state",),
    "skb_shared_info.dataref": ("dataref.counter",),
    # 21d2e6737c97 (v6.9) net: add netmem to skb_frag_t; 8842d285bafa (v5.4) net: Convert skb_frag_t to bio_vec
    "skb_frag.page": ("netmem", "bv_page", "page.p", "page"),
    "skb_frag.size": ("len", "bv_len", "size"),
    "skb_frag.offset": ("offset", "bv_offset", "page_offset"),
    # 2f064a59a11f (v5.14) sched: Change task_struct::state
    "task_struct.state": ("__state", "state"),
    # bcf9033e5449 (v5.16) sched: move CPU field back into thread_info; c65eacbe290b (v4.9) moved thread_info
    "task_struct.cpu": ("thread_info.cpu", "cpu"),
    "task_struct.sp": ("thread.sp",),
    # 8244062ef1e5 (v4.5) modules: fix longstanding /proc/kallsyms vs module insertion race moved symtab and strtab
    # into struct mod_kallsyms, which a module without that member has in itself.
    "module.orc_unwind_ip": ("arch.orc_unwind_ip",),
    "module.orc_unwind": ("arch.orc_unwind",),
    "module.num_orcs": ("arch.num_orcs",),
    "prb_desc_ring.head_id": ("head_id.counter",),
    "prb_desc_ring.tail_id": ("tail_id.counter",),
    "prb_desc.state_var": ("state_var.counter",),
    "prb_desc.begin": ("text_blk_lpos.begin",),
    "prb_desc.next": ("text_blk_lpos.next",),
    "timekeeper.offs_real": ("offs_real", "offs_real.tv64"),
    "elf_prstatus.pid": ("common.pr_pid", "pr_pid"),
    "uts_namespace.release": ("name.release",),
    "uts_namespace.nodename": ("name.nodename",),
    "uts_namespace.version": ("name.version",),
    "uts_namespace.machine": ("name.machine",),
}

# The per-CPU variable that holds the running task, and the member path in it, newest first: current_task moved into
# pcpu_hot in v6.2 (e57ef2ed97c1 x86: Put hot per CPU variables into a struct) and back out in v6.15.
CURRENT_TASK: tuple[tuple[str, str], ...] = (("current_task", ""), ("pcpu_hot", "current_task"))

# The int that names the CPU that panicked, best first: panic() sets panic_cpu, an oops alone only crashing_cpu.
PANIC_CPU = ("crashing_cpu", "panic_cpu")

# A static struct timekeeper, newest first: kernel/time/timekeeping.c.
TIMEKEEPER = ("shadow_timekeeper", "timekeeper")

# Struct tags that were renamed, newest first: skb_frag_t was an anonymous or `skb_frag_struct` type before bio_vec.
STRUCTS: dict[str, tuple[str, ...]] = {
    # 62e32ac3505a (v3.11) printk: rename struct log to struct printk_log
    "printk_log": ("printk_log", "log"),
    "skb_frag": ("skb_frag", "bio_vec", "skb_frag_struct"),
}


@dataclass(frozen=True)
class Member:
    """Where one member stands in its struct: byte offset and size, bits within it for a bitfield, and its type."""

    path: str
    offset: int
    size: int
    type: Any
    bit_offset: int = 0
    bit_size: int = 0


def find_path(struct_type: Any, path: str) -> Member | None:
    """Resolve a dotted member path in a struct or union, looking through anonymous ones; None where it is absent."""
    bitpos, field = 0, None
    current = struct_type
    for name in path.split("."):
        found = _find_field(current, name)
        if found is None:
            return None
        start, field = found
        bitpos += start
        current = field.type
    assert field is not None
    if not field.bitsize:
        return Member(path, bitpos // 8, field.type.sizeof, field.type)
    # The bytes that hold a bitfield, and no more: in a packed struct its declared type can reach past the end.
    first, last = bitpos // 8, (bitpos + field.bitsize - 1) // 8
    return Member(path, first, last - first + 1, field.type, bitpos - first * 8, field.bitsize)


def _find_field(struct_type: Any, name: str) -> tuple[int, Any] | None:
    stripped = struct_type.strip_typedefs()
    try:
        fields = stripped.fields()
    except TypeError:  # a scalar: a path that goes too deep for this kernel
        return None
    for field in fields:
        if not hasattr(field, "bitpos"):
            continue
        if field.name == name:
            return field.bitpos, field
        if not field.name:
            inner = _find_field(field.type, name)
            if inner is not None:
                return field.bitpos + inner[0], inner[1]
    return None


class Unpacker:
    """Some members of a struct, decoded from its bytes in one pass.

    `unpack_from(buffer, offset)` returns the members as ints in the order asked for.  `size` is that of the whole
    struct, `span` how many of its first bytes the members need: the rest may be missing, or not even exist, as the end
    of a task_struct (arch_task_struct_size).
    """

    def __init__(self, members: Sequence[Member], size: int) -> None:
        self.size = size
        runs = _merge(members)
        self.span = runs[-1].end
        packed = struct.Struct(_format(runs))
        index = [next(i for i, run in enumerate(runs) if run.offset <= m.offset < run.end) for m in members]
        shapes = [_shape(member, runs[i]) for member, i in zip(members, index)]
        plain = index == list(range(len(members))) and not any(shapes)
        self.unpack_from: Callable[..., tuple[int, ...]] = (
            packed.unpack_from if plain else _reordered(packed, index, shapes)
        )


@dataclass
class _Run:
    """Bytes that are decoded as one integer: a member, or members that share bytes (unions, bitfields)."""

    offset: int
    end: int
    signed: bool


_CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}


def _merge(members: Sequence[Member]) -> list[_Run]:
    runs: list[_Run] = []
    for member in sorted(members, key=lambda m: m.offset):
        signed = not member.bit_size and _is_signed(member.type)
        end = member.offset + member.size
        if runs and member.offset < runs[-1].end:
            last = runs[-1]
            last.signed = last.signed and signed and (last.offset, last.end) == (member.offset, end)
            last.end = max(last.end, end)
        else:
            runs.append(_Run(member.offset, end, signed))
    return runs


def _format(runs: Sequence[_Run]) -> str:
    text, at = "<", 0
    for run in runs:
        size = run.end - run.offset
        code = _CODES.get(size, f"{size}s")
        text += f"{run.offset - at}x" + (code.lower() if run.signed else code)
        at = run.end
    return text


# How to take a member out of its run: right shift, mask, sign bit (0 where unsigned).
_Shape = tuple[int, int, int]


def _shape(member: Member, run: _Run) -> _Shape | None:
    whole = (member.offset, member.offset + member.size) == (run.offset, run.end)
    if whole and not member.bit_size and member.size in _CODES and run.signed == _is_signed(member.type):
        return None
    bits = member.bit_size or member.size * 8
    sign = 1 << (bits - 1) if _is_signed(member.type) else 0
    return (member.offset - run.offset) * 8 + member.bit_offset, (1 << bits) - 1, sign


def _is_signed(member_type: Any) -> bool:
    stripped = member_type.strip_typedefs()
    return bool(stripped.is_scalar and stripped.is_signed)


def _reordered(
    packed: struct.Struct, index: Sequence[int], shapes: Sequence[_Shape | None]
) -> Callable[..., tuple[int, ...]]:
    def unpack_from(buffer: Any, offset: int = 0) -> tuple[int, ...]:
        values = packed.unpack_from(buffer, offset)
        return tuple([_extract(values[i], shape) if shape else values[i] for i, shape in zip(index, shapes)])

    return unpack_from


def _extract(run: int | bytes, shape: _Shape) -> int:
    shift, mask, sign = shape
    if isinstance(run, bytes):
        run = int.from_bytes(run, "little")
    value = (run >> shift) & mask
    return (value ^ sign) - sign if sign else value


class Layout:
    """The table applied to one kernel's types; remembers which row won.

    `find_type` maps a type's name ("struct sk_buff") to a gdb.Type, or to None where it is absent.
    """

    def __init__(self, find_type: Callable[[str], Any]) -> None:
        self._find_type = find_type
        self._members: dict[str, Member | None] = {}
        self.chosen: dict[str, str] = {}

    def find_struct(self, tag: str) -> Any:
        """The type of a logical struct tag, or None where no candidate exists."""
        for candidate in STRUCTS.get(tag, (tag,)):
            found = self._find_type(f"struct {candidate}")
            if found is not None:
                return found
        return None

    def struct(self, tag: str) -> Any:
        """The type of a logical struct tag; raises MissingDebugInfo."""
        found = self.find_struct(tag)
        if found is None:
            raise MissingDebugInfo(f"struct {tag}", [f"struct {name}" for name in STRUCTS.get(tag, ())])
        return found

    def size(self, tag: str) -> int:
        """sizeof(struct TAG) in bytes; raises MissingDebugInfo."""
        return int(self.struct(tag).sizeof)

    def find_member(self, name: str) -> Member | None:
        """The member behind a logical name `STRUCT.MEMBER`, or None; raises MissingDebugInfo for a missing struct."""
        if name not in self._members:
            tag, _, plain = name.partition(".")
            candidates = (find_path(self.struct(tag), path) for path in MEMBERS.get(name, (plain,)))
            found = next((member for member in candidates if member is not None), None)
            if found is not None and name in MEMBERS:
                self.chosen[name] = found.path
            self._members[name] = found
        return self._members[name]

    def member(self, name: str) -> Member:
        """The member behind a logical name `STRUCT.MEMBER`; raises MissingDebugInfo."""
        found = self.find_member(name)
        if found is None:
            tag, _, plain = name.partition(".")
            raise MissingDebugInfo(f"member {name}", [f"{tag}.{path}" for path in MEMBERS.get(name, (plain,))])
        return found

    def offset(self, name: str) -> int:
        """The byte offset of a logical member; raises MissingDebugInfo."""
        return self.member(name).offset

    def unpacker(self, tag: str, members: Iterable[str]) -> Unpacker:
        """An Unpacker for members of one struct, given without its tag; raises MissingDebugInfo."""
        return Unpacker([self.member(f"{tag}.{name}") for name in members], self.size(tag))


# Changed meaning: one question each, answered by a type.


def skb_end_is_offset(layout: Layout) -> bool:
    """Whether sk_buff.end and .tail count from head: sk_buff_data_t is `unsigned int` then, `unsigned char *` else.

    include/linux/skbuff.h: NET_SKBUFF_DATA_USES_OFFSET.
    """
    member = layout.member("sk_buff.end")
    return member.size < layout.member("sk_buff.head").size


def orc_types_renumbered(layout: Layout) -> bool:
    """Whether orc_entry.type has UNDEFINED and END_OF_STACK: it grew to three bits for them.

    fb799447ae29 (v6.4) x86,objtool: Split UNWIND_HINT_EMPTY in two.
    """
    return layout.member("orc_entry.type").bit_size > 2


def max_skb_frags(layout: Layout) -> int:
    """MAX_SKB_FRAGS of this kernel: the length of skb_shared_info.frags, which became configurable in v6.3.

    3948b05950fd (v6.4) net: introduce a config option to tweak MAX_SKB_FRAGS.
    """
    low, high = layout.member("skb_shared_info.frags").type.strip_typedefs().range()
    return int(high - low + 1)


def module_regions(layout: Layout) -> list[tuple[int, int]]:
    """The memory regions of a struct module: byte offsets of each one's base (pointer) and size (u32), text first.

    ac3b43283923 (v6.4) module: replace module_layout with module_memory;
    7523e4dc5057 (v4.5) module: use a structure to encapsulate layout.
    """
    memory = layout.find_member("module.mem")
    if memory is not None:
        low, high = memory.type.strip_typedefs().range()
        base, size = layout.offset("module_memory.base"), layout.offset("module_memory.size")
        starts = [memory.offset + index * layout.size("module_memory") for index in range(high - low + 1)]
        return [(start + base, start + size) for start in starts]
    if layout.find_member("module.core_layout") is not None:
        base, size = layout.offset("module_layout.base"), layout.offset("module_layout.size")
        starts = [layout.offset("module.core_layout"), layout.offset("module.init_layout")]
        return [(start + base, start + size) for start in starts]
    return [
        (layout.offset("module.module_core"), layout.offset("module.core_size")),
        (layout.offset("module.module_init"), layout.offset("module.init_size")),
    ]


def module_section(layout: Layout) -> tuple[int, int, int]:
    """An element of module_sect_attrs.attrs: its size, and the offsets of its name (char *) and of its address.

    4b2c11e4aaf7 (v6.14) module: sysfs: Drop 'struct module_sect_attr' put the address into bin_attribute.private.
    """
    element = layout.member("module_sect_attrs.attrs").type.strip_typedefs().target()
    found = []
    for name, paths in (("name", ("battr.attr.name", "attr.name", "name")), ("address", ("address", "private"))):
        member = next((m for m in (find_path(element, path) for path in paths) if m is not None), None)
        if member is None:
            raise MissingDebugInfo(f"member {name} of a module's section", paths)
        found.append(member.offset)
    return element.sizeof, found[0], found[1]

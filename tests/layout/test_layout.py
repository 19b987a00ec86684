"""Where members stand: asked of real types, from small C programs that have them the way different kernels do."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gdb_kdump.layout.mm import head_page

Compile = Callable[..., Path]
InGdb = Callable[..., Any]

SHAPES = """
typedef struct { int counter; } atomic_t;
typedef struct refcount_struct { atomic_t refs; } refcount_t;
typedef unsigned char u8;

struct places {
    char first;
    union {
        struct { struct places *next, *prev; union { void *dev; unsigned long scratch; }; };
        struct { long rbnode[3]; };
    };
    struct { u8 x; struct { short deep; } named; } outer;
    u8 cloned : 1, nohdr : 1, fclone : 2;
    signed int narrow : 5;
    signed char minus;
    short sminus;
    int iminus;
    long long lminus;
    unsigned char *pointer;
    enum { LOW = -3, HIGH = 7 } mood;
    _Bool truth;
} places;
"""


def lay_out(tag: str, paths: list[str]) -> dict[str, list[int] | None]:
    import gdb

    from gdb_kdump.layout.members import find_path

    kind = gdb.lookup_type(f"struct {tag}")
    found = {path: find_path(kind, path) for path in paths}
    return {
        path: [member.offset, member.size, member.bit_offset, member.bit_size] if member else None
        for path, member in found.items()
    }


def unpack(tag: str, names: list[str], data: str, at: int) -> list[int]:
    import gdb

    from gdb_kdump.layout.layout import Layout

    def find_type(name: str) -> gdb.Type | None:
        try:
            return gdb.lookup_type(name)
        except gdb.error:
            return None

    unpacker = Layout(find_type).unpacker(tag, names)
    return list(unpacker.unpack_from(bytes.fromhex(data), at))


def test_members_of_anonymous_structs_and_unions(in_gdb: InGdb, compile_types: Compile) -> None:
    program = compile_types(SHAPES)
    paths = ["first", "next", "prev", "dev", "scratch", "rbnode", "outer.x", "outer.named.deep", "x", "none", "first.x"]
    assert in_gdb(lay_out, "places", paths, elf=program) == {
        "first": [0, 1, 0, 0],
        "next": [8, 8, 0, 0],
        "prev": [16, 8, 0, 0],
        "dev": [24, 8, 0, 0],
        "scratch": [24, 8, 0, 0],
        "rbnode": [8, 24, 0, 0],
        "outer.x": [32, 1, 0, 0],
        "outer.named.deep": [34, 2, 0, 0],
        "x": None,
        "none": None,
        "first.x": None,
    }


def test_bitfields(in_gdb: InGdb, compile_types: Compile) -> None:
    found = in_gdb(lay_out, "places", ["cloned", "nohdr", "fclone"], elf=compile_types(SHAPES))
    assert found == {"cloned": [36, 1, 0, 1], "nohdr": [36, 1, 1, 1], "fclone": [36, 1, 2, 2]}


@pytest.mark.parametrize("at", [0, 5])
def test_values_are_those_that_gdb_prints(in_gdb: InGdb, compile_types: Compile, at: int) -> None:
    """Every order, with members that share bytes, with signs: decoded as GDB itself decodes the same bytes."""

    def compare(names: list[str], data: str, at: int) -> list[list[int]]:
        import gdb

        from gdb_kdump.layout.layout import Layout

        kind = gdb.lookup_type("struct places")
        unpacker = Layout(lambda name: kind).unpacker("places", names)
        ours = list(unpacker.unpack_from(bytes.fromhex(data), at))
        value = gdb.Value(bytes.fromhex(data)[at : at + kind.sizeof], kind)
        return [ours, [int(value[name]) for name in names]]

    names = ["minus", "cloned", "nohdr", "fclone", "narrow", "sminus", "iminus", "lminus", "pointer", "mood",
             "next", "scratch", "dev", "first"]  # fmt: skip
    program = compile_types(SHAPES)
    for fill in (b"\xff", b"\x80", b"\x5a", bytes(range(256))):
        data = (fill * 256)[:256].hex()
        for order in (names, names[::-1], names[3:5]):
            ours, gdbs = in_gdb(compare, order, data, at, elf=program)
            assert ours == gdbs, order


def test_columns_are_what_unpacking_one_by_one_gives(in_gdb: InGdb, compile_types: Compile) -> None:
    def decode(names: list[str], data: str) -> list[list[list[int]]]:
        import gdb

        from gdb_kdump.channel.wire import by_piece
        from gdb_kdump.layout.layout import Layout

        kind = gdb.lookup_type("struct places")
        unpacker = Layout(lambda name: kind).unpacker("places", names)
        size = unpacker.size
        buffer = bytes.fromhex(data)[: 20 * size]
        rows = [list(unpacker.unpack_from(buffer, at)) for at in range(0, len(buffer), size)]
        columns = unpacker.columns(by_piece(buffer, size, unpacker.pieces))
        return [rows, [list(column) for column in columns], [list(column) for column in unpacker.columns(b"")]]

    program = compile_types(SHAPES)
    data = bytes(number * 7 & 0xFF for number in range(4096)).hex()
    aligned = ["pointer", "next", "dev", "first", "iminus", "mood", "sminus"]
    for names in (aligned, [*aligned, "cloned"], ["first"], ["fclone"]):
        rows, columns, nothing = in_gdb(decode, names, data, elf=program)
        assert len(rows) == 20
        assert columns == [list(column) for column in zip(*rows)], names
        assert nothing == [[] for _ in names]


USERS = {
    "refcount": "typedef struct { int counter; } atomic_t; typedef struct { atomic_t refs; } refcount_t;"
    " struct sk_buff { int pad; refcount_t users; };",
    "atomic": "typedef struct { int counter; } atomic_t; struct sk_buff { int pad; atomic_t users; };",
}


@pytest.mark.parametrize("kernel", USERS)
def test_a_member_that_moved_is_found_where_it_is(in_gdb: InGdb, compile_types: Compile, kernel: str) -> None:
    data = struct.pack("<ii", 7, -1).hex()
    assert in_gdb(unpack, "sk_buff", ["users"], data, 0, elf=compile_types(USERS[kernel])) == [-1]


# Every kernel has a struct bio_vec, but in some it is no fragment, and its members stand in another order.
BIO_VEC = "struct page; struct bio_vec { struct page *bv_page; unsigned bv_len, bv_offset; };"
FRAGS = {
    "v4": "struct skb_frag_struct { struct { struct page *p; } page; unsigned page_offset, size; };"
    " typedef struct skb_frag_struct skb_frag_t;",
    "v5.4": "typedef struct bio_vec skb_frag_t;",
    "v6.9": "typedef unsigned long netmem_ref;"
    " typedef struct skb_frag { netmem_ref netmem; unsigned len, offset; } skb_frag_t;",
}
SHINFO = "struct skb_shared_info { unsigned char nr_frags; skb_frag_t frags[17]; };"


@pytest.mark.parametrize("kernel", FRAGS)
def test_a_fragment_has_had_three_names(in_gdb: InGdb, compile_types: Compile, kernel: str) -> None:
    second, third = (100, 200) if kernel == "v4" else (200, 100)
    data = struct.pack("<QII", 0xFFFFEA0000001000, second, third).hex()
    program = compile_types(f"{BIO_VEC} {FRAGS[kernel]} {SHINFO}")
    values = in_gdb(unpack, "skb_frag", ["page", "offset", "size"], data, 0, elf=program)
    assert values == [0xFFFFEA0000001000, 100, 200]


# arch/x86/include/asm/orc_types.h as of v5.x, and as of v6.4 with three bits of type and `signal`.
ORC = {
    "2 bits": """struct orc_entry { short sp_offset, bp_offset; unsigned sp_reg:4, bp_reg:4, type:2, end:1; }
                 __attribute__((packed));""",
    "3 bits": """struct orc_entry { short sp_offset, bp_offset; unsigned sp_reg:4, bp_reg:4, type:3, signal:1; }
                 __attribute__((packed));""",
}


@pytest.mark.parametrize("kernel", ORC)
def test_packed_bitfields_do_not_reach_past_the_end(in_gdb: InGdb, compile_types: Compile, kernel: str) -> None:
    names = ["sp_reg", "sp_offset", "bp_reg", "bp_offset", "type"]
    bits = 0x5 | 0x4 << 4 | 0x2 << 8
    data = struct.pack("<hhH", -8, -24, bits).hex()  # 6 bytes, and not one more
    program = compile_types(ORC[kernel] + " struct orc_entry orc;")
    assert in_gdb(unpack, "orc_entry", names, data, 0, elf=program) == [5, -8, 4, -24, 2]


def meaning(question: str, *about: str) -> Any:
    import gdb

    from gdb_kdump.layout import locks, mm, module, net, sched
    from gdb_kdump.layout.layout import Layout

    def find_type(name: str) -> gdb.Type | None:
        try:
            return gdb.lookup_type(name)
        except gdb.error:
            return None

    subjects = (locks, mm, module, net, sched)
    ask = next(getattr(subject, question) for subject in subjects if hasattr(subject, question))
    return ask(Layout(find_type), *about)


PAGE = 0xFFFFEA0000001FC0  # the last struct page, of 64 bytes each, of the 32 from 0xffffea0000001800 on


@pytest.mark.parametrize(
    ("info", "head"),
    [
        (0xFFFFEA0000001800, 0xFFFFEA0000001800),
        ((1 << 64) - (32 << 6), 0xFFFFEA0000001800),
        ((1 << 64) - (2 << 6), 0xFFFFEA0000001F80),
        # Damage: bits that are no mask, a mask of less than two pages, all bits but the mark.
        ((1 << 64) - (33 << 6), (1 << 64) - (33 << 6)),
        ((1 << 64) - (1 << 6), (1 << 64) - (1 << 6)),
        ((1 << 64) - 2, (1 << 64) - 2),
    ],
)
def test_a_tail_page_has_its_heads_address_or_a_mask(info: int, head: int) -> None:
    assert head_page(PAGE, 64, info) == head


COMPOUND = {
    "compound_info": "struct page { unsigned long flags, compound_info; } page;",
    "compound_head": "struct page { unsigned long flags, compound_head; } page;",
}


@pytest.mark.parametrize("name", COMPOUND)
def test_what_marks_a_tail_page_was_renamed(in_gdb: InGdb, compile_types: Compile, name: str) -> None:
    program = compile_types(COMPOUND[name])
    assert in_gdb(unpack, "page", ["compound_head"], struct.pack("<QQ", 3, 5).hex(), 0, elf=program) == [5]
    assert in_gdb(meaning, "tail_page_flag", elf=program) == 0


# mm/slab.h: what a cache has of each node, as of v6.18 and of v7.1.
NODES = {
    "v6.18": ("struct kmem_cache { long flags; struct kmem_cache_node *node[2]; } cache;", [8, 8], None),
    "v7.1": (
        """struct kmem_cache_per_node_ptrs { struct node_barn *barn; struct kmem_cache_node *node; };
           struct kmem_cache { long flags; struct kmem_cache_per_node_ptrs per_node[2]; } cache;""",
        [16, 16],
        [8, 16],
    ),
}


@pytest.mark.parametrize("kernel", NODES)
def test_a_cache_has_had_its_nodes_in_two_ways(in_gdb: InGdb, compile_types: Compile, kernel: str) -> None:
    declaration, node, barn = NODES[kernel]
    program = compile_types(declaration)
    assert in_gdb(meaning, "slab_nodes", "node", elf=program) == node
    assert in_gdb(meaning, "slab_nodes", "barn", elf=program) == barn


# As wide as a pointer is no pointer.
@pytest.mark.parametrize(
    ("end", "is_offset"), [("unsigned int", True), ("unsigned long", True), ("unsigned char *", False)]
)
def test_end_is_an_offset_or_a_pointer(in_gdb: InGdb, compile_types: Compile, end: str, is_offset: bool) -> None:
    source = (
        f"typedef {end} sk_buff_data_t; struct sk_buff {{ sk_buff_data_t tail, end; unsigned char *head, *data; }};"
    )
    assert in_gdb(meaning, "skb_counts_from_head", "end", elf=compile_types(source)) is is_offset


def test_max_skb_frags_is_the_length_of_frags(in_gdb: InGdb, compile_types: Compile) -> None:
    source = "typedef struct { long a, b; } skb_frag_t; struct skb_shared_info { char nr; skb_frag_t frags[45]; };"
    assert in_gdb(meaning, "max_skb_frags", elf=compile_types(source)) == 45


def test_what_is_missing_is_named_with_what_was_tried(in_gdb: InGdb, compile_types: Compile) -> None:
    def missing() -> list[str]:
        import gdb

        from gdb_kdump.errors import MissingDebugInfo
        from gdb_kdump.layout.layout import Layout

        def find_type(name: str) -> gdb.Type | None:
            return gdb.lookup_type("struct sk_buff") if name == "struct sk_buff" else None

        said = []
        for ask, name in ((Layout.member, "sk_buff.users"), (Layout.struct, "slab")):
            try:
                ask(Layout(find_type), name)
            except MissingDebugInfo as error:
                said.append(str(error))
        return said

    member, tag = in_gdb(missing, elf=compile_types("struct sk_buff { int len; };"))
    assert "sk_buff.users.refs.counter" in member and "sk_buff.users.counter" in member
    assert "struct slab with a member slab_cache" in tag and "struct page with a member slab_cache" in tag


SLABS = {
    "SLUB before v5.17": ("struct page { void *slab_cache; struct slab *slab_page; };", "page"),
    "SLUB today": ("struct page { long flags; }; struct slab { void *slab_cache; };", "slab"),
    "SLAB": ("struct page { void *slab_cache; }; struct slab { void *s_mem; unsigned inuse; };", "page"),
    "SLAB before v3.8": ("struct page { long flags; }; struct slab { void *s_mem; unsigned inuse; };", None),
}


@pytest.mark.parametrize("kernel", SLABS)
def test_a_struct_slab_is_one_that_says_whose_it_is(in_gdb: InGdb, compile_types: Compile, kernel: str) -> None:
    """The allocator SLAB has another struct of that name, and kernels without any have pointers to one."""

    def tag() -> str | None:
        import gdb

        from gdb_kdump.layout.layout import Layout

        def find_type(name: str) -> gdb.Type | None:
            try:
                return gdb.lookup_type(name)
            except gdb.error:
                return None

        found = Layout(find_type).find_struct("slab")
        return None if found is None else found.tag

    source, expected = SLABS[kernel]
    assert in_gdb(tag, elf=compile_types(source)) == expected


# A free page as each kernel marks it, and what the mark of the others is there: nothing.
BUDDIES = {
    "v3.10": ("struct page { union { struct { int counter; } _mapcount; }; };", -128, -129),
    "v4.18": ("struct page { union { struct { int counter; } _mapcount; unsigned page_type; }; };", -129, -128),
    "v6.12": (
        "struct page { union { struct { int counter; } _mapcount; unsigned page_type; }; };"
        "enum pagetype { PGTY_buddy = 0xf0, PGTY_slab = 0xf5 } kind;",
        0xF0000000,
        -129,
    ),
}


@pytest.mark.parametrize("kernel", BUDDIES)
def test_a_free_page_has_been_marked_in_three_ways(in_gdb: InGdb, compile_types: Compile, kernel: str) -> None:
    source, right, wrong = BUDDIES[kernel]
    program = compile_types("enum pageflags { PG_locked, PG_slab } flags;" + source)
    mask, value = in_gdb(meaning, "page_types", elf=program)["buddy"]
    assert right & mask == value and wrong & mask != value and -1 & mask != value


def test_chosen_names_the_row_that_won(in_gdb: InGdb, compile_types: Compile) -> None:
    def chosen() -> dict[str, str]:
        import gdb

        from gdb_kdump.layout.layout import Layout

        layout = Layout(gdb.lookup_type)
        layout.member("sk_buff.users")
        layout.member("sk_buff.pad")
        return layout.chosen

    assert in_gdb(chosen, elf=compile_types(USERS["atomic"])) == {"sk_buff.users": "users.counter"}


SOCK = "struct sock { struct { struct spinlock slock; } sk_lock; } sock; int main(void) { return 0; }"
SPINLOCKS = {
    "queued": "struct raw_spinlock { struct { union { struct { int counter; } val; char locked; }; } raw_lock; };"
    "struct spinlock { union { struct raw_spinlock rlock; }; };",
    "tickets": "struct raw_spinlock { struct { union { int head_tail; struct { short h, t; } tickets; }; } raw_lock; };"
    "struct spinlock { union { struct raw_spinlock rlock; }; };",
    "real-time": "struct spinlock { struct { int wait_lock; void *waiters, *leftmost; void *owner; } lock; };",
    "one CPU": "struct raw_spinlock { struct { int nothing[0]; } raw_lock; };"
    "struct spinlock { union { struct raw_spinlock rlock; }; };",
}


@pytest.mark.parametrize(
    ("kind", "word"),
    [("queued", [0, 4, False]), ("tickets", [0, 4, True]), ("real-time", [24, 8, False]), ("one CPU", None)],
)
def test_what_tells_that_a_spinlock_is_held(
    in_gdb: InGdb, compile_types: Compile, kind: str, word: list[object] | None
) -> None:
    def find() -> list[object] | None:
        import gdb

        from gdb_kdump.layout.layout import Layout
        from gdb_kdump.layout.sched import spinlock_word

        def find_type(name: str) -> object:
            try:
                return gdb.lookup_type(name)
            except gdb.error:
                return None

        member, has_tickets = spinlock_word(Layout(find_type))
        return None if member is None else [member.offset, member.size, has_tickets]

    assert in_gdb(find, elf=compile_types(f"{SPINLOCKS[kind]} {SOCK}")) == word


COUNTERS = """
typedef struct { int counter; } atomic_t;
struct wrapped { struct { atomic_t inner; } outer; };
struct counted {
    short narrow; unsigned long wide; struct wrapped single; unsigned int offset; void *pointer; char name[4];
    struct { int one, two; } pair; unsigned int bits : 7;
} counted;
"""


def test_a_number_is_as_wide_as_its_type(in_gdb: InGdb, compile_types: Compile) -> None:
    """A struct of one number is that number; what is none, and what is no pointer, is named."""

    def body() -> list[list[Any]]:
        import gdb

        from gdb_kdump.errors import MissingDebugInfo
        from gdb_kdump.layout.layout import Layout

        layout = Layout(gdb.lookup_type)
        numbers = [layout.number(f"counted.{name}").size for name in ("narrow", "wide", "single", "offset", "bits")]
        said = []
        for find, name in (
            (layout.number, "name"), (layout.number, "pair"), (layout.pointer, "offset"), (layout.pointer, "bits"),
        ):  # fmt: skip
            try:
                find(f"counted.{name}")
            except MissingDebugInfo as error:
                said.append(str(error))
        return [numbers, [layout.pointer("counted.pointer").size], said]

    numbers, pointer, said = in_gdb(body, elf=compile_types(COUNTERS))
    assert (numbers, pointer) == ([2, 8, 4, 4, 1], [8])
    assert said == [
        "the debug information has no member counted.name that is a number (tried: char [4])",
        "the debug information has no member counted.pair that is a number (tried: struct {...})",
        "the debug information has no member counted.offset that is a pointer (tried: unsigned int)",
        "the debug information has no member counted.bits that is a pointer (tried: unsigned int)",
    ]


def test_a_struct_may_have_a_typedef_instead_of_a_tag(in_gdb: InGdb, compile_types: Compile) -> None:
    def body() -> list[Any]:
        from gdb_kdump.debuginfo.debuginfo import DebugInfo
        from gdb_kdump.layout.layout import Layout

        find_type = DebugInfo.__new__(DebugInfo)
        find_type._types = {}
        layout = Layout(find_type.find_type)
        return [
            layout.offset("udp_table.mask"),
            layout.find_struct("number"),
            layout.find_struct("far"),
        ]

    source = "typedef struct { long log; int mask; } udp_table; typedef int number; typedef struct away far;"
    program = compile_types(f"{source} udp_table table; number one; far *pointer;")
    assert in_gdb(body, elf=program) == [8, None, None]


HOOKS = "struct nf_hook_entries { unsigned short num_hook_entries; };"
NETFILTER = {
    # As of v4.14, [NFPROTO_NUMPROTO][NF_MAX_HOOKS], made smaller; and of v4.16.
    "one array": "struct net { int a; struct { long sysctl; struct nf_hook_entries *hooks[4][2]; } nf; };",
    "one each": "struct net { int a; struct { long s; struct nf_hook_entries *hooks_ipv4[2], *hooks_arp[1]; } nf; };",
}


@pytest.mark.parametrize("shape", NETFILTER)
def test_where_the_hooks_of_netfilter_are(in_gdb: InGdb, compile_types: Compile, shape: str) -> None:
    found = in_gdb(meaning, "netfilter_tables", elf=compile_types(f"{HOOKS} {NETFILTER[shape]}"))
    if shape == "one each":
        assert found == [["IPv4", 16, 2], ["ARP", 32, 1]]
    else:
        assert found == [["family 0", 16, 2], ["family 1", 32, 2], ["IPv4", 48, 2], ["ARP", 64, 2]]


RAN = {
    "sched_info.last_arrival": "struct sched_info { long a, last_arrival; }; struct se { long exec_start; };"
    " struct task_struct { struct se se; struct sched_info sched_info; };",
    "se.exec_start": "struct se { long exec_start; }; struct task_struct { struct se se; };",
}


@pytest.mark.parametrize("member", RAN)
def test_what_tells_when_a_task_ran(in_gdb: InGdb, compile_types: Compile, member: str) -> None:
    assert in_gdb(meaning, "last_ran", elf=compile_types(RAN[member])) == member

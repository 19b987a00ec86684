"""Every difference between kernels: where a member stands, and what it means.

Nothing here knows a release number.  A logical name is `STRUCT.MEMBER`; the table lists, newest first, the dotted
paths under which kernels have had it, and the resolver asks the debug information which of them exists.  A name
without a row stands for itself.  Differences of meaning are the named functions at the end.

Types are taken as gdb.Type objects but only through their own methods, so this file needs no gdb.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gdb_kdump.errors import MissingDebugInfo
from gdb_kdump.layout.members import Member, find_number, find_path, is_array, is_pointer, is_struct
from gdb_kdump.layout.unpacker import Unpacker

# Dotted member paths, newest first; each row cites the commits that moved the member.
MEMBERS: dict[str, tuple[str, ...]] = {
    # 633547973ffc (v4.13) net: convert sk_buff.users from atomic_t to refcount_t
    "sk_buff.users": ("users.refs.counter", "users.counter"),
    # 4de075e0437b (v3.2) tcp: rename tcp_skb_cb flags
    "tcp_skb_cb.tcp_flags": ("tcp_flags", "flags"),
    # 7fee226ad239 (v2.6.35) net: add a noref bit on skb dst
    "sk_buff.refdst": ("_skb_refdst",),
    # a9e419dc7be6 (v4.11) netfilter: merge ctinfo into nfct pointer storage area
    "sk_buff.nfct": ("_nfct", "nfct"),
    # 41c6d650f653 (v4.13) net: convert sock.sk_refcnt from atomic_t to refcount_t
    "sock.refcnt": ("__sk_common.skc_refcnt.refs.counter", "__sk_common.skc_refcnt.counter"),
    # bdc712b4c2ba (v3.0) inet: Decrease overhead of on-stack inet_cork
    "inet_sock.cork_length": ("cork.base.length", "cork.length"),
    # net: convert sk_buff_fclones.fclone_ref from atomic_t to refcount_t (v4.13)
    "sk_buff_fclones.fclone_ref": ("fclone_ref.refs.counter", "fclone_ref.counter"),
    # 14afee4b6092 (v4.13) net: convert sock.sk_wmem_alloc from atomic_t to refcount_t
    "sock.wmem_alloc": ("sk_wmem_alloc.refs.counter", "sk_wmem_alloc.counter"),
    # b178bb3dfc30 (v2.6.38) net: reorder struct sock fields
    "sock.rmem_alloc": ("sk_backlog.rmem_alloc.counter", "sk_rmem_alloc.counter"),
    "sock.lock_owned": ("sk_lock.owned",),
    "sock.spinlock": ("sk_lock.slock",),
    "sock.family": ("__sk_common.skc_family",),
    "sock.state": ("__sk_common.skc_state",),
    "sock.prot": ("__sk_common.skc_prot",),
    # 0c5c9fb55106 (v4.1) net: Introduce possible_net_t
    "sock.net": ("__sk_common.skc_net.net", "__sk_common.skc_net"),
    "sock.node": ("__sk_common.skc_node",),
    "sock.nulls_node": ("__sk_common.skc_nulls_node",),
    "sock.bind_node": ("__sk_common.skc_bind_node",),
    # ce43b03e8889 (v3.8) net: move inet_dport/inet_num in sock_common; c720c7e8383a (v2.6.33) inet: rename some
    # inet_sock fields
    "inet_sock.num": ("sk.__sk_common.skc_num", "inet_num", "num"),
    "inet_sock.dport": ("sk.__sk_common.skc_dport", "inet_dport", "dport"),
    # 68835aba4d9b (v2.6.38) net: optimize INET input path further
    "inet_sock.rcv_saddr": ("sk.__sk_common.skc_rcv_saddr", "inet_rcv_saddr", "rcv_saddr"),
    "inet_sock.daddr": ("sk.__sk_common.skc_daddr", "inet_daddr", "daddr"),
    # As of inet_sock: 68835aba4d9b (v2.6.38), ce43b03e8889 (v3.8)
    "inet_timewait_sock.rcv_saddr": ("__tw_common.skc_rcv_saddr", "tw_rcv_saddr"),
    "inet_timewait_sock.daddr": ("__tw_common.skc_daddr", "tw_daddr"),
    "inet_timewait_sock.num": ("__tw_common.skc_num", "tw_num"),
    "inet_timewait_sock.dport": ("__tw_common.skc_dport", "tw_dport"),
    "sock.v6_rcv_saddr": ("__sk_common.skc_v6_rcv_saddr",),
    "sock.v6_daddr": ("__sk_common.skc_v6_daddr",),
    "sock.backlog_head": ("sk_backlog.head",),
    "sock.backlog_tail": ("sk_backlog.tail",),
    "sock.backlog_len": ("sk_backlog.len",),
    "sk_buff.rb_node": ("rbnode",),
    "sk_buff.rb_parent_color": ("rbnode.__rb_parent_color",),
    "sk_buff.rb_left": ("rbnode.rb_left",),
    # 435d5f4bb2cc (v3.19) common object embedded into various struct ....ns
    "net.inum": ("ns.inum", "proc_inum"),
    "net.packet_list": ("packet.sklist.first",),
    "net.xdp_list": ("xdp.list.first",),
    "net.tcp_hashinfo": ("ipv4.tcp_death_row.hashinfo",),
    "net.udp_table": ("ipv4.udp_table",),
    "net.unix_buckets": ("unx.table.buckets",),
    "inet_ehash_bucket.first": ("chain.first",),
    # 05dbc7b59481 (v3.13) tcp/dccp: remove twchain: sockets in TIME_WAIT had a chain of their own
    "inet_ehash_bucket.tw_first": ("twchain.first",),
    # 8dbd76e79a16 (v5.5) tcp/dccp: fix possible race __inet_lookup_established()
    "inet_listen_hashbucket.first": ("nulls_head.first", "head.first"),
    # e341694e3eb5 (v3.17) netlink: Convert netlink_lookup() to use RCU protected hash table
    "netlink_table.hash_chains": ("hash.table",),
    "netlink_table.hash_mask": ("hash.mask",),
    # 15e473046cb6 (v3.7) netlink: Rename pid to portid to avoid confusion
    "netlink_sock.portid": ("portid", "pid"),
    "netlink_sock.dst_portid": ("dst_portid", "dst_pid"),
    "inet_sock.pinet6": ("pinet6",),
    "udp_hslot.first": ("head.first",),
    "inet_connection_sock.accept_head": ("icsk_accept_queue.rskq_accept_head",),
    "inet_connection_sock.accept_tail": ("icsk_accept_queue.rskq_accept_tail",),
    # 41b3caa7c076 (v6.13) neighbour: Add hlist_node to struct neighbour
    "neighbour.node": ("hash", "next"),
    "neigh_hash_table.buckets": ("hash_heads", "hash_buckets"),
    # 291515c76409 (v6.15) net: gro: decouple GRO from the NAPI layer
    "napi_struct.gro_hash": ("gro.hash", "gro_hash"),
    "napi_struct.rx_list": ("gro.rx_list", "rx_list"),
    "Qdisc.qlen": ("q.qlen",),
    "skb_shared_info.dataref": ("dataref.counter",),
    # 2244d07bfa20 (v2.6.36) net: simplify flags for tx timestamping
    "skb_shared_info.tx_flags": ("tx_flags.flags", "tx_flags"),
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
    # 2456e8553544 (v4.10) ktime: Get rid of the union
    "timekeeper.offs_real": ("offs_real.tv64", "offs_real"),
    "timekeeper.monotonic_sec": ("wall_to_monotonic.tv_sec",),
    "uts_namespace.release": ("name.release",),
    "uts_namespace.nodename": ("name.nodename",),
    "uts_namespace.version": ("name.version",),
    "uts_namespace.machine": ("name.machine",),
    # 53fbef56e07d (v6.18) mm: introduce memdesc_flags_t
    "page.flags": ("flags.f", "flags"),
    # 0139aa7b7fa1 (v4.7) mm: rename _count, field of the struct page, to _refcount
    "page.refcount": ("_refcount.counter", "_count.counter"),
    # mm: rename the 'compound_head' field in the 'struct page' to 'compound_info' (v7.1); 1d798ca3f164 (v4.4) mm: make
    # compound_head() robust
    "page.compound_head": ("compound_info", "compound_head", "first_page"),
    "page.lru_prev": ("lru.prev",),
    # 6e292b9be7f4 (v4.18) mm: split page_type out from _mapcount
    "page.page_type": ("page_type", "_mapcount.counter"),
    # 3b0efdfa1e71 (v3.6) mm, sl[aou]b: Extract common fields from struct kmem_cache; before, SLAB had other names.
    "kmem_cache.size": ("size", "buffer_size"),
    "kmem_cache.list": ("list", "next"),
    # ce8eb6c424c7 (v3.11) slab: Rename list3/l3 to node
    "kmem_cache.node": ("node", "nodelists"),
    # Of SLAB's slabs until v3.12; before v3.6 they had no names of their own.
    "page.slab_cache": ("slab_cache", "lru.next"),
    "page.slab_page": ("slab_page", "lru.prev"),
    # 916ac0527837 (v5.2) slub: use slab_list instead of lru
    "slab.slab_list": ("slab_list", "lru"),
    # bb192ed9aa71 (v5.17) mm/slub: Convert most struct page to struct slab by spatch
    "kmem_cache_cpu.slab": ("slab", "page"),
}

# The list of all caches, newest first: 18004c5d4084 (v3.6) mm, sl[aou]b: Use a common mutex definition.
SLAB_CACHES = ("slab_caches", "cache_chain")

# What the symbol of a per-CPU variable begins with, newest first.
# dd17c8f72993 (v2.6.33) percpu: remove per_cpu__ prefix
PERCPU_PREFIXES = ("", "per_cpu__")

# The per-CPU variable that holds the running task, and the member path in it, newest first: current_task moved into
# pcpu_hot in v6.2 (e57ef2ed97c1 x86: Put hot per CPU variables into a struct) and back out in v6.15 (a1e4cc0155ad
# x86/percpu: Move current_task to percpu hot section).
CURRENT_TASK: tuple[tuple[str, str], ...] = (("current_task", ""), ("pcpu_hot", "current_task"))

# The int that names the CPU that panicked, best first: panic() sets panic_cpu, an oops alone only crashing_cpu.
PANIC_CPU = ("crashing_cpu", "panic_cpu")

# What the linker script puts around the first task's stack, newest names first.
INIT_STACK = (("__start_init_stack", "__end_init_stack"), ("__start_init_task", "__end_init_task"))

# The two kmem_caches that sk_buffs are allocated from: each a pointer variable, or one in a struct (member path),
# newest first.
# aa70d2d16f28 (v6.9) net: move skbuff_cache(s) to net_hotdata; 025a785ff083 (v6.3) renamed skbuff_head_cache.
SKB_CACHES: tuple[tuple[tuple[str, str], ...], ...] = (
    (("net_hotdata", "skbuff_cache"), ("skbuff_cache", ""), ("skbuff_head_cache", "")),
    (("net_hotdata", "skbuff_fclone_cache"), ("skbuff_fclone_cache", "")),
)

# Where the kernel's struct timekeeper is: a static variable, or a member of a static struct tk_data or of the first of
# several, newest first; kernel/time/timekeeping.c.
# 22c62b9a84b8 (v6.17) timekeeping: Introduce auxiliary timekeepers
# 20c7b582e88b (v6.13) timekeeping: Move shadow_timekeeper into tk_core
TIMEKEEPER: tuple[tuple[str, str], ...] = (
    ("timekeeper_data", "timekeeper"),
    ("tk_core", "timekeeper"),
    ("shadow_timekeeper", ""),
    ("timekeeper", ""),
)

# The array of the stack depot's memory, newest first: 961c949b012f (v6.3) lib/stackdepot: rename slab to pool.
STACK_POOLS = ("stack_pools", "stack_slabs")

# Struct tags that were renamed, newest first, and a member that tells such a struct from another one of that name.
STRUCTS: dict[str, tuple[tuple[str, ...], str]] = {
    # 62e32ac3505a (v3.11) printk: rename struct log to struct printk_log
    "printk_log": (("printk_log", "log"), "ts_nsec"),
    # ce8eb6c424c7 (v3.11) slab: Rename list3/l3 to node
    "kmem_list3": (("kmem_cache_node", "kmem_list3"), "slabs_partial"),
    # d122019bf061 (v5.17) mm: Split slab into its own type; the allocator SLAB has always had one that is another.
    "slab": (("slab", "page"), "slab_cache"),
}

# Structs that are known as the elements of an array: struct bio_vec was the type of fragments from v5.4
# (8842d285bafa) to v6.8, and is no fragment in the kernels before and after, which have it too.
ELEMENTS = {"skb_frag": "skb_shared_info.frags"}

_POINTER_SIZE = 8
_LARGEST_FOLIO = 20  # order of pages: above include/linux/mmzone.h: MAX_FOLIO_ORDER


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
        if tag in ELEMENTS:
            array = self.find_member(ELEMENTS[tag])
            return None if array is None else array.type.strip_typedefs().target().strip_typedefs()
        candidates, sign = STRUCTS.get(tag, ((tag,), ""))
        for candidate in candidates:
            tagged = self._find_type(f"struct {candidate}")
            found = tagged if tagged is not None else self._without_tag(candidate)
            if found is not None and (not sign or find_path(found, sign) is not None):
                return found
        return None

    def _without_tag(self, name: str) -> Any:
        """A struct that has no tag but a typedef of that name, or None."""
        found = self._find_type(name)
        stripped = None if found is None else found.strip_typedefs()
        return stripped if stripped is not None and is_struct(stripped) else None

    def struct(self, tag: str) -> Any:
        """The type of a logical struct tag; raises MissingDebugInfo."""
        found = self.find_struct(tag)
        if found is None:
            raise MissingDebugInfo(f"struct {tag}", self._struct_names(tag))
        return found

    @staticmethod
    def _struct_names(tag: str) -> list[str]:
        """What was looked for where a struct is missing."""
        if tag in ELEMENTS:
            return [f"the elements of {ELEMENTS[tag]}"]
        candidates, sign = STRUCTS.get(tag, ((), ""))
        return [f"struct {name} with a member {sign}" for name in candidates]

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

    def resolve_all(self) -> None:
        """Look for every row of the table, so that `chosen` has all that this kernel has."""
        for name in MEMBERS:
            try:
                self.find_member(name)
            except MissingDebugInfo:
                continue  # the kernel has no such struct

    def offset(self, name: str) -> int:
        """The byte offset of a logical member; raises MissingDebugInfo."""
        return self.member(name).offset

    def number(self, name: str) -> Member:
        """A logical member that is a number or a pointer, or a struct of one; raises MissingDebugInfo for others."""
        found = self.member(name)
        number = find_number(found)
        if number is None:
            raise MissingDebugInfo(f"member {name} that is a number", [str(found.type)])
        return number

    def pointer(self, name: str) -> Member:
        """A logical member that is as large as a pointer; raises MissingDebugInfo."""
        found = self.number(name)
        if found.size != _POINTER_SIZE or found.bit_size:
            raise MissingDebugInfo(f"member {name} that is a pointer", [str(found.type)])
        return found

    def unpacker(self, tag: str, members: Iterable[str], instead: Mapping[str, int] | None = None) -> Unpacker:
        """An Unpacker for members of one struct, given without its tag; raises MissingDebugInfo.

        `instead` are values for members that may be absent.
        """
        names, absent = list(members), set(self.absent(tag, instead or ()))
        made = Unpacker([self.number(f"{tag}.{name}") for name in names if name not in absent], self.size(tag))
        if instead and absent:
            made.insert([(index, instead[name]) for index, name in enumerate(names) if name in absent])
        return made

    def absent(self, tag: str, members: Iterable[str]) -> list[str]:
        """Those of some members of a struct that this kernel's types lack; raises MissingDebugInfo for the struct."""
        return [name for name in members if self.find_member(f"{tag}.{name}") is None]


# Changed meaning: one question each, answered by a type.


def skb_counts_from_head(layout: Layout, name: str) -> bool:
    """Whether a member of sk_buff counts from head: sk_buff_data_t is `unsigned int` then, `unsigned char *` else.

    `name` is end, tail or one of the headers; include/linux/skbuff.h: NET_SKBUFF_DATA_USES_OFFSET.
    """
    return not is_pointer(layout.member(f"sk_buff.{name}").type)


def skb_inner_headers(layout: Layout) -> list[str]:
    """The inner headers of sk_buff where they are u16 offsets from head, of which one that was never set is 0.

    net: Use 16bits for *_headers fields of struct skbuff (v3.11); before, they were a sk_buff_data_t.
    """
    names = [f"inner_{kind}_header" for kind in ("mac", "network", "transport")]
    found = [(name, layout.find_member(f"sk_buff.{name}")) for name in names]
    return [name for name, member in found if member is not None and member.size == 2]


def spinlock_word(layout: Layout) -> tuple[Member | None, bool]:
    """What in a spinlock_t tells whether it is held, None where nothing does; and whether it is two tickets.

    Tickets differ while it is held, all else is then not 0: cfd8983f03c7 (v4.16) locking: Remove ticket (spin)lock
    implementation; on real-time kernels the word is the owner of an rt_mutex.
    """
    # Before c2f21ce2e312 (v2.6.33) locking: Implement new raw_spinlock, the type had no tag: a member tells it.
    own = layout.find_member("sock.spinlock") or layout.find_member("sk_buff_head.lock")
    if own is None:
        return None, False
    lock = own.type
    for path in ("rlock.raw_lock.val.counter", "lock.rtmutex.owner", "lock.owner"):
        found = find_path(lock, path)
        if found is not None:
            return found, False
    for path in ("rlock.raw_lock.head_tail", "rlock.raw_lock.slock", "raw_lock.slock"):
        found = find_path(lock, path)
        if found is not None:
            return found, True
    return None, False


def skb_queue_is_tree(member: Member) -> bool:
    """Whether a queue of sk_buffs is a red-black tree, as tcp_sock.out_of_order_queue is, or a struct sk_buff_head.

    9f5afeae5152 (v4.9) tcp: use an RB tree for ooo receive queue.
    """
    return str(member.type.strip_typedefs().tag) == "rb_root"


def task_cpu(layout: Layout) -> tuple[Member | None, Member | None]:
    """Where a task's CPU number is: in its task_struct, or in the struct thread_info at the far end of its stack.

    c65eacbe290b (v4.9) sched/core: Allow putting thread_info into task_struct.
    """
    own = layout.find_member("task_struct.cpu")
    return (own, None) if own is not None else (None, layout.member("thread_info.cpu"))


def thread_size(layout: Layout, find_address: Callable[[str], int | None]) -> int:
    """THREAD_SIZE: the bytes of a task's stack; include/linux/sched.h: union thread_union.

    Where nobody uses the type any more, what the linker left for the first task's; include/asm-generic/vmlinux.lds.h:
    INIT_TASK_DATA.  `find_address` gives the address of a symbol.
    """
    found = layout._find_type("union thread_union")
    if found is not None:
        return int(found.sizeof)
    for start, end in INIT_STACK:
        low, high = find_address(start), find_address(end)
        if low is not None and high is not None:
            return high - low
    raise MissingDebugInfo("union thread_union", [end for _, end in INIT_STACK])


def thread_list(layout: Layout) -> tuple[Member | None, Member]:
    """The list of a thread group: its head in signal_struct, and its node in each task_struct.

    Without a head the nodes are a ring that the leader is part of: 0c740d0afc3b (v3.14) introduce for_each_thread().
    """
    head = layout.find_member("signal_struct.thread_head")
    return head, layout.member("task_struct.thread_node" if head is not None else "task_struct.thread_group")


def array_length(member: Member) -> int:
    """The number of elements of a member that is an array; raises MissingDebugInfo."""
    if not is_array(member.type):
        raise MissingDebugInfo(f"member {member.path} that is an array", [str(member.type)])
    low, high = member.type.strip_typedefs().range()
    return int(high - low + 1)


def ehash_length(layout: Layout) -> tuple[str, int]:
    """What says how many buckets inet_hashinfo.ehash has: a member, and what is to be added to it.

    f373b53b5fe6 (v2.6.33) tcp: replace ehash_size by ehash_mask.
    """
    if layout.find_member("inet_hashinfo.ehash_size") is not None:
        return "inet_hashinfo.ehash_size", 0
    return "inet_hashinfo.ehash_mask", 1


def embedded_udp_hash(layout: Layout) -> Member | None:
    """udp_table.hash where it is an array in the struct, None where it is a pointer to one.

    f86dcc5aa8c7 (v2.6.33) udp: dynamically size hash tables at boot time.
    """
    member = layout.member("udp_table.hash")
    return member if is_array(member.type) else None


def listening_hash(layout: Layout) -> tuple[int, int | None]:
    """The hash of listening sockets in inet_hashinfo: its offset, and its length where it is an array in the struct.

    Else it is a pointer, lhash2: cae3873c5b3a (v5.19) net: inet: Retire port only listening_hash.
    """
    embedded = layout.find_member("inet_hashinfo.listening_hash")
    if embedded is not None:
        return embedded.offset, array_length(embedded)
    return layout.offset("inet_hashinfo.lhash2"), None


def unix_hash(layout: Layout) -> tuple[Member | None, int]:
    """The pointer to a network namespace's table of UNIX sockets, None where one variable serves all; and its length.

    cf2f225e2653 (v6.0) af_unix: Put a socket into a per-netns hash table; include/net/af_unix.h: UNIX_HASH_SIZE.  The
    variable is an array, of 257 buckets once: 7123aaa3a141 (v3.6) af_unix: speedup /proc/net/unix.
    """
    return layout.find_member("net.unix_buckets"), 512


def skb_fclones(layout: Layout) -> tuple[int, int, bool]:
    """An sk_buff and its fast clone: the offsets of the clone and of their count of references (int) from the first.

    And whether a clone that was freed says so itself, by its `fclone` of 0 (SKB_FCLONE_UNAVAILABLE).
    d0bf4a9e92b9 (v3.18) net: cleanup and document skb fclone layout: before, they were three objects in a row.
    """
    if layout.find_struct("sk_buff_fclones") is not None:
        return layout.offset("sk_buff_fclones.skb2"), layout.offset("sk_buff_fclones.fclone_ref"), False
    return layout.size("sk_buff"), 2 * layout.size("sk_buff"), True


def qdisc_private(layout: Layout) -> int:
    """Where a qdisc's own data begin, as an offset from its struct Qdisc; include/net/pkt_sched.h: qdisc_priv.

    Since v5.8 they have a member; before, they stood behind the struct, aligned to 64 bytes (QDISC_ALIGNTO).
    """
    member = layout.find_member("Qdisc.privdata")
    return member.offset if member is not None else -(-layout.size("Qdisc") // 64) * 64


def fragment_tables(layout: Layout) -> list[tuple[str, int, bool, int]]:
    """Where a struct net keeps the fragments of IP packets: (family, offset in it, whether a pointer stands there,
    offset of the rhashtable from there).

    net: dynamically allocate fqdir structures (v5.3); before, a struct netns_frags was embedded, which had
    no rhashtable before 648700f76b03 (v4.17) inet: frags: use rhashtables for reassembly units.
    """
    found = []
    for family, member in (("IPv4", "ipv4"), ("IPv6", "ipv6")):
        pointer = find_path(layout.struct("net"), f"{member}.fqdir")
        embedded = find_path(layout.struct("net"), f"{member}.frags")
        if pointer is not None and layout.find_struct("fqdir") is not None:
            found.append((family, pointer.offset, True, layout.offset("fqdir.rhashtable")))
        elif embedded is not None and find_path(embedded.type, "rhashtable") is not None:
            found.append((family, embedded.offset, False, layout.offset("netns_frags.rhashtable")))
    return found


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

    4b2c11e4aaf7 (v6.14) module: sysfs: Drop member 'module_sect_attr::address' put it into bin_attribute.private;
    34f5ec0f8252 (v6.14) module: sysfs: Drop 'struct module_sect_attr' made it an array of bin_attributes.
    """
    element = layout.member("module_sect_attrs.attrs").type.strip_typedefs().target()
    found = []
    for name, paths in (("name", ("battr.attr.name", "attr.name", "name")), ("address", ("address", "private"))):
        member = next((m for m in (find_path(element, path) for path in paths) if m is not None), None)
        if member is None:
            raise MissingDebugInfo(f"member {name} of a module's section", paths)
        found.append(member.offset)
    return element.sizeof, found[0], found[1]


def enumerators(layout: Layout, tag: str) -> dict[str, int]:
    """The constants of `enum TAG`; empty where the kernel has no such enum."""
    found = layout._find_type(f"enum {tag}")
    return {} if found is None else {field.name: int(field.enumval) for field in found.fields()}


def page_flags(layout: Layout) -> dict[str, int]:
    """Names of the low bits of page.flags without PG_, as masks, the first of several names of a bit.

    include/linux/page-flags.h: enum pageflags.  Raises MissingDebugInfo.
    """
    numbers = enumerators(layout, "pageflags")
    if not numbers:
        raise MissingDebugInfo("enum pageflags")
    numbers.pop("__NR_PAGEFLAGS", None)
    names: dict[int, str] = {}
    for name, number in numbers.items():
        names.setdefault(number, name.removeprefix("PG_"))
    return {name: 1 << number for number, name in names.items()}


def tail_page_flag(layout: Layout) -> int:
    """The bit of page.flags that says that page.compound_head leads to the head of a compound page.

    0 where page.compound_head says it itself, by its bit 0: 1d798ca3f164 (v4.4) mm: make compound_head() robust.
    """
    is_marked = layout.member("page.compound_head").path != "first_page"
    return 0 if is_marked else page_flags(layout).get("tail", 0)


def head_page(page: int, size: int, info: int) -> int:
    """The head of the compound page that a tail page (struct page *, of `size` bytes) is of, by its page.compound_head.

    mm: rework compound_head() for power-of-2 sizeof(struct page) (v7.1): in some configurations it is a mask for the
    tail's own address.  No type tells, but no pointer is one: a mask has all bits down to those of several pages.
    """
    covered = (1 << 64) - info
    is_mask = covered & covered - 1 == 0 and 2 * size <= covered <= size << _LARGEST_FOLIO
    return page & info if is_mask else info


def page_types(layout: Layout) -> dict[str, tuple[int, int]]:
    """The kinds of pages that page.page_type tells: name to (mask, value) with page_type & mask == value.

    4ffca5a96678 (v6.12) mm: support only one page_type per page: a number in the top byte;
    8db00ad56461 (v6.11) mm: allow reuse of the lower 16 bit: bits, each cleared where it holds, in an enum;
    46df8e73a4a3 (v6.10) mm: free up PG_slab: the same with macros, and no slab bit in page.flags any more;
    6e292b9be7f4 (v4.18) mm: split page_type out from _mapcount: before, a free page had the _mapcount
    PAGE_BUDDY_MAPCOUNT_VALUE, which is -128 since ef2b4b95a63a (v2.6.38) mm: PageBuddy and mapcount robustness.
    """
    types = enumerators(layout, "pagetype")
    place = layout.find_member("page.page_type")
    if not types and place is not None and place.path == "_mapcount.counter":
        return {"buddy": (0xFFFFFFFF, -128 & 0xFFFFFFFF)}
    numbers = {name: number for name, number in types.items() if name.startswith("PGTY_")}
    if numbers:
        return {name.removeprefix("PGTY_"): (0xFF << 24, number << 24) for name, number in numbers.items()}
    base = types.get("PAGE_TYPE_BASE", 0xF0000000)
    bits = {name: bit for name, bit in types.items() if name.startswith("PG_")} or {"PG_buddy": 0x80}
    if "slab" not in page_flags(layout):
        bits.setdefault("PG_slab", 0x1000)
    return {name.removeprefix("PG_"): (base | bit, base) for name, bit in bits.items()}


def compound_order(layout: Layout) -> int | None:
    """The byte offset, from the head page, of the byte that has the order of a compound page; None where unknown.

    ebc1baf5c9b4 (v6.6) mm: free up a word in the first tail page: the low byte of the first tail page's flags;
    1c5509be58f6 (v6.3) mm: remove 'First tail page' members from struct page;
    mm: add fields for compound destructor and order into struct page (v4.0): page[1].lru.prev, before.
    """
    if layout.find_member("page.compound_order") is not None:
        return layout.size("page") + layout.offset("page.compound_order")
    if layout.find_struct("folio") is None:
        order = layout.find_member("page.lru_prev")
        return None if order is None else layout.size("page") + order.offset
    candidates = (find_path(layout.struct("folio"), path) for path in ("_folio_order", "_flags_1.f", "_flags_1"))
    found = next((member for member in candidates if member is not None), None)
    return None if found is None else found.offset


def slab_allocator(layout: Layout) -> str:
    """SLUB, SLAB or SLOB, by the members of struct kmem_cache that each has alone.

    16a1d968358a (v6.8) mm/slab: remove mm/slab.c and slab_def.h; 6630e950d532 (v6.4) mm/slob: remove slob.c.
    """
    if layout.find_member("kmem_cache.batchcount") is not None:
        return "SLAB"
    return "SLUB" if layout.find_member("kmem_cache.offset") is not None else "SLOB"


def slab_nodes(layout: Layout, member: str) -> tuple[int, int] | None:
    """Where a struct kmem_cache has each node's `node` or `barn`: the offset of the first pointer, and their distance.

    slab: decouple pointer to barn from kmem_cache_node (v7.1) put both into one array.  None where it has no such one.
    """
    both = layout.find_member("kmem_cache.per_node")
    if both is not None:
        element = both.type.strip_typedefs().target()
        found = find_path(element, member)
        return None if found is None else (both.offset + found.offset, int(element.sizeof))
    alone = layout.find_member(f"kmem_cache.{member}")
    return None if alone is None else (alone.offset, _POINTER_SIZE)


def freelist_index_size(layout: Layout) -> int:
    """The bytes of a number in the array of a SLAB slab's free objects.

    a41adfaa23df (v3.15) slab: introduce byte sized index for the freelist of a slab; before, an unsigned int.
    """
    found = layout._find_type("freelist_idx_t")
    return 4 if found is None else int(found.sizeof)


def slab_flags(layout: Layout) -> dict[str, int]:
    """The masks of kmem_cache.flags by their names without SLAB_; include/linux/slab.h, mm/slub.c.

    cc61eb851c9a (v6.9) mm, slab: use an enum to define SLAB_ cache creation flags: numbers of bits that depend on the
    configuration; before that the values were fixed.
    """
    numbers = enumerators(layout, "_slab_flag_bits")
    if numbers:
        numbers.pop("_SLAB_FLAGS_LAST_BIT", None)
        return {name.removeprefix("_SLAB_"): 1 << number for name, number in numbers.items()}
    return dict(_FIXED_SLAB_FLAGS)


_FIXED_SLAB_FLAGS = {
    "CONSISTENCY_CHECKS": 0x100,
    "RED_ZONE": 0x400,
    "POISON": 0x800,
    "KMALLOC": 0x1000,
    "HWCACHE_ALIGN": 0x2000,
    "CACHE_DMA": 0x4000,
    "CACHE_DMA32": 0x8000,
    "STORE_USER": 0x10000,
    "RECLAIM_ACCOUNT": 0x20000,
    "PANIC": 0x40000,
    "TYPESAFE_BY_RCU": 0x80000,
    "TRACE": 0x200000,
    "NOLEAKTRACE": 0x800000,
    "ACCOUNT": 0x4000000,
    "OBJECT_POISON": 0x80000000,
}


def skb_zerocopy(layout: Layout) -> tuple[str, int]:
    """The member of skb_shared_info that says that the sk_buff is a zerocopy one, and the bit that does.

    06b4feb37e64 (v5.12) net: group skb_shinfo zerocopy related bits together. moved SKBTX_DEV_ZEROCOPY (bit 3 of
    tx_flags) to SKBFL_ZEROCOPY_ENABLE (bit 0 of flags).
    """
    return ("flags", 1) if layout.find_member("skb_shared_info.flags") is not None else ("tx_flags", 8)

"""Names that differ between kernels: members, structs and variables, newest first, with the commits that moved them.

Another kernel that has moved one: one path more in its row.
"""

from __future__ import annotations

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
    # 0c5c9fb55106 (v4.1) net: Introduce possible_net_t
    "net_device.net": ("nd_net.net", "nd_net"),
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
    "bpf_xdp_link.prog": ("link.prog",),
    # f191a1d17f22 (v3.8) net: Remove code duplication between offload structures
    "net_offload.gro_receive": ("callbacks.gro_receive", "gro_receive"),
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
    "file.dentry": ("f_path.dentry",),
    # 0b91ee3ec5e5 (v6.8) page_pool: split the page_pool_params into fast and slow
    "page_pool.netdev": ("slow.netdev", "p.netdev"),
    "dentry.name": ("d_name.name",),
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


# Slab caches whose objects are all of one struct, as long as no other cache was merged into them: the pointer variable
# that has the cache, and the tag.
TYPED_CACHES: tuple[tuple[str, str], ...] = (
    ("task_struct_cachep", "task_struct"),
    ("signal_cachep", "signal_struct"),
    ("sighand_cachep", "sighand_struct"),
    ("files_cachep", "files_struct"),
    ("fs_cachep", "fs_struct"),
    ("mm_cachep", "mm_struct"),
    ("vm_area_cachep", "vm_area_struct"),
    ("anon_vma_cachep", "anon_vma"),
    ("anon_vma_chain_cachep", "anon_vma_chain"),
    ("cred_jar", "cred"),
    ("filp_cachep", "file"),
    ("dentry_cache", "dentry"),
    ("inode_cachep", "inode"),
    ("sock_inode_cachep", "socket_alloc"),
    ("shmem_inode_cachep", "shmem_inode_info"),
    ("proc_inode_cachep", "proc_inode"),
    ("ext4_inode_cachep", "ext4_inode_info"),
    ("bdev_cachep", "bdev_inode"),
    ("mnt_cache", "mount"),
    ("kernfs_node_cache", "kernfs_node"),
    ("proc_dir_entry_cache", "proc_dir_entry"),
    ("radix_tree_node_cachep", "xa_node"),
    ("maple_node_cache", "maple_node"),
    ("net_cachep", "net"),
    ("nsproxy_cachep", "nsproxy"),
    ("pid_ns_cachep", "pid_namespace"),
    ("user_ns_cachep", "user_namespace"),
    ("uts_ns_cache", "uts_namespace"),
    ("filelock_cache", "file_lock"),
    ("bh_cachep", "buffer_head"),
    ("skbuff_ext_cache", "skb_ext"),
    ("fn_alias_kmem", "fib_alias"),
    ("vmap_area_cachep", "vmap_area"),
    ("blk_requestq_cachep", "request_queue"),
)

# The same of the caches of modules, whose variables are no symbols of the kernel: by the cache's name.  That of
# connections has had it since v4.7 (netfilter: conntrack: use single slab cache); before, each namespace had one.
NAMED_CACHES = {"nf_conntrack": "nf_conn"}


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
    # Split off, with what mutexes of PREEMPT_RT are made of, in v5.15.
    "rt_mutex_base": (("rt_mutex_base", "rt_mutex"), "owner"),
    # d122019bf061 (v5.17) mm: Split slab into its own type; the allocator SLAB has always had one that is another.
    "slab": (("slab", "page"), "slab_cache"),
}


# Structs that are known as the elements of an array: struct bio_vec was the type of fragments from v5.4
# (8842d285bafa) to v6.8, and is no fragment in the kernels before and after, which have it too.
ELEMENTS = {"skb_frag": "skb_shared_info.frags"}

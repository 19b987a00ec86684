"""What this kernel's types say of sk_buffs, sockets and queues: one question each."""

from __future__ import annotations

from gdb_kdump.layout.layout import Layout
from gdb_kdump.layout.members import Member, array_length, find_path, is_array, is_pointer


def skb_counts_from_head(layout: Layout, name: str) -> bool:
    """Whether a member of sk_buff counts from head: sk_buff_data_t is `unsigned int` then, `unsigned char *` else.

    `name` is end, tail or one of the headers; include/linux/skbuff.h: NET_SKBUFF_DATA_USES_OFFSET.
    """
    return not is_pointer(layout.member(f"sk_buff.{name}").type)


def skb_inner_headers(layout: Layout) -> list[str]:
    """The inner headers of sk_buff where they are u16 offsets from head; one that was never set is 0 then.

    net: Use 16bits for *_headers fields of struct skbuff (v3.11); before, they were a sk_buff_data_t.
    """
    names = [f"inner_{kind}_header" for kind in ("mac", "network", "transport")]
    headers = [(name, layout.find_member(f"sk_buff.{name}")) for name in names]
    return [name for name, member in headers if member is not None and member.size == 2]


def skb_queue_is_tree(member: Member) -> bool:
    """Whether a queue of sk_buffs is a red-black tree, as tcp_sock.out_of_order_queue is, or a struct sk_buff_head.

    9f5afeae5152 (v4.9) tcp: use an RB tree for ooo receive queue.
    """
    return str(member.type.strip_typedefs().tag) == "rb_root"


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

    Since v5.8 they have a member; before, they stood after the struct, aligned to 64 bytes (QDISC_ALIGNTO).
    """
    member = layout.find_member("Qdisc.privdata")
    return member.offset if member is not None else -(-layout.size("Qdisc") // 64) * 64


def fragment_tables(layout: Layout) -> list[tuple[str, int, bool, int]]:
    """Where a struct net keeps the fragments of IP packets: (family, offset in it, whether a pointer stands there,
    offset of the rhashtable from there).

    net: dynamically allocate fqdir structures (v5.3); before, a struct netns_frags was embedded, which had
    no rhashtable before 648700f76b03 (v4.17) inet: frags: use rhashtables for reassembly units.
    """
    tables = []
    for family, member in (("IPv4", "ipv4"), ("IPv6", "ipv6")):
        pointer = find_path(layout.struct("net"), f"{member}.fqdir")
        embedded = find_path(layout.struct("net"), f"{member}.frags")
        if pointer is not None and layout.find_struct("fqdir") is not None:
            tables.append((family, pointer.offset, True, layout.offset("fqdir.rhashtable")))
        elif embedded is not None and find_path(embedded.type, "rhashtable") is not None:
            tables.append((family, embedded.offset, False, layout.offset("netns_frags.rhashtable")))
    return tables


def max_skb_frags(layout: Layout) -> int:
    """MAX_SKB_FRAGS of this kernel: the length of skb_shared_info.frags, which became configurable in v6.3.

    3948b05950fd (v6.4) net: introduce a config option to tweak MAX_SKB_FRAGS.
    """
    low, high = layout.member("skb_shared_info.frags").type.strip_typedefs().range()
    return int(high - low + 1)


def skb_zerocopy(layout: Layout) -> tuple[str, int]:
    """The member of skb_shared_info that says that the sk_buff is a zerocopy one, and the bit that does.

    06b4feb37e64 (v5.12) net: group skb_shinfo zerocopy related bits together. moved SKBTX_DEV_ZEROCOPY (bit 3 of
    tx_flags) to SKBFL_ZEROCOPY_ENABLE (bit 0 of flags).
    """
    return ("flags", 1) if layout.find_member("skb_shared_info.flags") is not None else ("tx_flags", 8)


_FAMILIES = {"ipv4": "IPv4", "ipv6": "IPv6", "arp": "ARP"}
_NUMBERS = {2: "IPv4", 3: "ARP", 7: "bridge", 10: "IPv6"}  # include/uapi/linux/netfilter.h: NFPROTO_IPV4 and others


def netfilter_tables(layout: Layout) -> list[tuple[str, int, int]]:
    """Where a struct net has pointers to netfilter's hooks: (family, byte offset of the first, how many).

    Since v4.16 each family has an array of its own, before they were one of two dimensions.  Raises MissingDebugInfo
    for kernels before v4.14, which had chains of hooks in place of a struct nf_hook_entries.
    """
    layout.struct("nf_hook_entries")
    tables = []
    nf = find_path(layout.struct("net"), "nf")
    for field in nf.type.strip_typedefs().fields() if nf is not None else ():
        if nf is None or not str(field.name).startswith("hooks") or not is_array(field.type):
            continue
        offset, (low, high) = nf.offset + field.bitpos // 8, field.type.strip_typedefs().range()
        inner = field.type.strip_typedefs().target()
        if is_array(inner):
            first, last = inner.strip_typedefs().range()
            count = last - first + 1
            families = range(high - low + 1)
            tables += [(_NUMBERS.get(n, f"family {n}"), offset + 8 * n * count, count) for n in families]
        else:
            name = str(field.name).partition("_")[2]
            tables.append((_FAMILIES.get(name, name), offset, high - low + 1))
    return tables

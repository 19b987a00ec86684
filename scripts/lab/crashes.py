"""Kernels that crash by themselves, after public bug reports: a driver goes wrong (guest/rogue*.c) on its own traffic.

Each says what its diagnosis should come to: the kind of cause, and the function that did it ("": none can be named).
"""

from dataclasses import dataclass

NET = ("cpu 1", "insmod rogue_drv", "net-up rogue0 10.9.0.1")
BACKGROUND = ("udp udp0 inet 100 1472 4000", "tcp tcp0 inet 10 100000")
WARNS = ("sysctl kernel/panic_on_warn 1",)


@dataclass(frozen=True)
class Crash:
    """A fault of the driver, the words that make it and lead into it, and what the kernel must say then."""

    name: str
    summary: str
    words: tuple[str, ...]
    expect: str
    cause: str
    culprit: str = ""
    usual: tuple[str, ...] = ()  # the kernels for which continuous integration has it


def _words(*words: str, before: tuple[str, ...] = ()) -> tuple[str, ...]:
    return (*NET, *BACKGROUND, "settle 500", "publish", *before, *words, "settle 20000")


CRASHES = (
    Crash(
        "rx-length",
        "an RX handler believes the length in a descriptor: skb_over_panic",
        _words("rogue rx-length", "net-send 10.9.0.2 4 300"),
        r"RIP: 0010:skb_panic\+.*rogue_rx_frame\+",
        "no-room",
        "rogue_rx_frame",
        usual=("6.1",),
    ),
    Crash(
        "hook-length",
        "a LOCAL_IN hook leaves len 4 less than data_len: BUG in __skb_pull",
        _words("rogue hook-length", "net-send 10.9.0.2 2 1400"),
        r"kernel BUG at .*skbuff\.[hc].*ip_local_deliver",
        "lengths",
        "rogue_local_in",
        usual=("6.12",),
    ),
    Crash(
        "xmit-shared",
        "xmit keeps a reference, then skb_cow_head: BUG_ON(skb_shared)",
        _words("rogue xmit-shared", "net-send 10.9.0.2 2 300"),
        r"kernel BUG at .*RIP: 0010:pskb_expand_head\+",
        "shared",
        "rogue_xmit_fault",
    ),
    Crash(
        "frag-null",
        "the page of frags[2] is NULL, skb_release_data frees it",
        _words("rogue frag-null", "net-send 10.9.0.2 2 1450"),
        r"NULL pointer dereference.*RIP: 0010:skb_release_data\+",
        "fragment",
        "rogue_poll",
        usual=("6.1",),
    ),
    Crash(
        "frag-flip",
        "one bit of the page pointer of frags[2] has flipped",
        _words("rogue frag-flip", "net-send 10.9.0.2 2 1450"),
        r"RIP: 0010:skb_release_data\+",
        "bit-flip",
    ),
    Crash(
        "stale-write",
        "a device writes into freed buffers of kmalloc-2k, a sender dies in mm/slub.c",
        _words("rogue stale-write", "settle 100", "udp udp1 inet 1400 1400 1400 1400"),
        r"general protection fault.*RIP: 0010:(kmem_cache_alloc|__kmem_cache_alloc|__kmalloc|kmalloc)",
        "freelist",
        usual=("6.1",),
    ),
    Crash(
        "xmit-double-free",
        "xmit's error path frees, and `out:` frees again",
        _words("rogue xmit-double-free", "net-send 10.9.0.2 4 300"),
        r"kernel BUG at mm/slub\.c|refcount_t: underflow",
        "double-free",
        "rogue_xmit",
        usual=("6.12",),
    ),
    Crash(
        "neighbour",
        "a driver's table of kmalloc(1000) runs over through the next sk_buff's head and shared info",
        _words("rogue neighbour"),
        r"RIP: 0010:skb_release_data\+|RIP: 0010:kfree_skb",
        "overrun-neighbour",
        "rogue_neighbour",
        usual=("6.1",),
    ),
    Crash(
        "queue-cycle",
        "a receive queue closed into a cycle: soft lockup",
        _words(
            "sysctl kernel/softlockup_panic 1",
            "sysctl kernel/watchdog_thresh 1",
            "rogue-udp queue-cycle",
        ),
        r"BUG: soft lockup.*Kernel panic - not syncing: softlockup",
        "linkage",
    ),
    Crash(
        "gone-callback",
        "sk_data_ready leads into a module that is gone",
        _words("rogue-udp gone-callback"),
        r"BUG: unable to handle page fault.*__udp_enqueue_schedule_skb|BUG: unable to handle page fault",
        "bad-call",
        usual=("6.1",),
    ),
    Crash(
        "xmit-csum",
        "the checksum starts behind the linear part",
        _words("rogue xmit-csum", "net-send 10.9.0.2 2 300", before=WARNS),
        r"RIP: 0010:skb_checksum_help\+",
        "lengths",
        "rogue_xmit_fault",
        usual=("6.12",),
    ),
    Crash(
        "rtx-unlink",
        "sk_buffs taken out of TCP's rtx queue behind its back; its timer finds none",
        _words("rogue-tcp rtx-unlink", before=WARNS),
        r"panic_on_warn set.*tcp_",
        "accounting",
    ),
    Crash(
        "work-null",
        "a NULL pointer written in a work item: no sk_buff at all",
        _words("rogue work-null"),
        r"NULL pointer dereference.*RIP: 0010:rogue_reset\+",
        "unrelated",
        "rogue_reset",
        usual=("6.1", "6.12"),
    ),
    Crash(
        "xmit-encrypt",
        "a cipher that pads writes four bytes past end",
        _words("rogue xmit-encrypt", "net-send 10.9.0.2 4 300"),
        r"RIP: 0010:(skb_release_data|kfree_skb)",
        "overrun-unknown",
    ),
    Crash(
        "freelist-cross",
        "the free list of kmalloc-1k leads into kmalloc-128",
        _words("rogue freelist-cross", "udp udp1 inet 600 600 600 600"),
        r"kernel BUG at mm/usercopy\.c|general protection fault.*RIP: 0010:\w*(kmem_cache_alloc|kmalloc)",
        "freelist",
    ),
    Crash(
        "list-del",
        "an entry taken off a list that was initialized again: no sk_buff at all",
        _words("rogue list-del"),
        r"kernel BUG at lib/list_debug\.c.*rogue_list\+",
        "linkage",
        "rogue_list",
        usual=("6.12",),
    ),
    Crash(
        "sock-put",
        "a socket's reference dropped once too often: refcount_t underflow",
        _words("rogue-udp sock-put", before=WARNS),
        r"panic_on_warn set.*(udp_lib_unhash|refcount_warn_saturate)\+",
        "refcount",
    ),
    Crash(
        "rogue-healthy",
        "the same traffic and nothing wrong; sysrq-c",
        (*NET, *BACKGROUND, "net-send 10.9.0.2 20 100 300 1400 1450", "settle 500", "publish", "sysrq c"),
        r"Kernel panic - not syncing: sysrq triggered crash",
        "",
    ),
)

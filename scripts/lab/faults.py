"""The fault matrix: many kinds of damage in one dump, each on a socket of its own.

A kind's name, what it does and which rules must report it stand in guest/faults_*.c.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Host:
    """A socket to damage: the words that make it ("{}" is its name), its part, and the words that calm it down."""

    words: tuple[str, ...]
    part: str
    queue: str
    calm: tuple[str, ...] = ()


HOSTS = {
    "udp": Host(("udp {} inet 100 300 1400 200",), "rx", "receive"),
    "udp6": Host(("udp {} inet6 100 300 1400 200",), "rx", "receive"),
    "udp-fragmented": Host(("udp {} inet 100 4000 200",), "rx", "receive"),  # 4000: the others are its frag_list
    "udp-reader": Host(("udp-reader {} inet 10 20 30",), "rx", "reader"),
    "udp-error": Host(("udp-error {} inet",), "", "error"),
    "cork": Host(("udp-cork {} inet 40 1000 3000",), "tx", "write"),
    "cork-full": Host(("udp-cork {} inet 40 2912",), "tx", "write"),  # the reference case's
    "netlink": Host(("netlink {}",), "", "receive"),
    "unix": Host(("unix-dgram {} 100 300 1400 200",), "rx", "receive"),
    "unix-frags": Host(("unix-dgram {} 100 60000 200",), "rx", "receive"),  # 60000: three fragments
    "unix-many": Host(("unix-dgram {} " + " ".join(["600"] * 28),), "rx", "receive"),  # neighbours in its slabs
    "unix-stream": Host(("unix-stream {} 300 40000",), "rx", "receive"),
    "tcp": Host(("tcp {} inet 3 60000",), "client", "rtx", ("hold {} client",)),
    "tcp-write": Host(("tcp {} inet 3 60000",), "client", "write", ("hold {} client",)),
    "tcp-input": Host(("tcp {} inet 3 60000",), "server", "receive", ("hold {} client",)),
    "tcp-ofo": Host(("tcp-ofo {} inet 8",), "server", "ofo", ("hold {} client", "hold {} server")),
    "tcp-backlog": Host(("tcp-backlog {} inet 5",), "server", "backlog"),
}


@dataclass(frozen=True)
class Fault:
    """One planting: `index` is the sk_buff's place on its queue, -1 the last; `words` follow in its "fault" word."""

    kind: str
    host: str
    index: int = 1
    words: str = ""
    name: str = ""  # of the socket; the kind's where not given

    @property
    def socket(self) -> str:
        """The socket's name."""
        return self.name or self.kind


FAULTS = (
    Fault("overrun-payload", "cork-full", -1, "80 2952"),
    Fault("overrun-payload", "cork-full", -1, "12 2952", name="overrun-short"),
    Fault("nr-frags-huge", "udp"),
    Fault("nr-frags-less", "unix-frags"),
    Fault("nr-frags-more", "udp"),
    Fault("frag-page-wild", "unix-frags"),
    Fault("frag-page-null", "unix-frags"),
    Fault("frag-page-other", "unix-frags"),
    Fault("frag-page-inside", "unix-frags"),
    Fault("frag-page-free", "cork", 0),
    Fault("frag-offset", "unix-frags"),
    Fault("frag-size", "unix-stream"),
    Fault("frag-list-wild", "udp"),
    Fault("frag-list-other", "unix"),
    Fault("frag-list-self", "udp"),
    Fault("frag-list-cycle", "udp-fragmented"),
    Fault("len-more", "udp"),
    Fault("len-more", "udp-reader", name="len-more-reader"),
    Fault("len-more", "udp-error", 0, name="len-more-error"),
    Fault("len-more", "netlink", 0, name="len-more-netlink"),
    Fault("len-more", "tcp-input", 0, name="len-more-tcp"),
    Fault("len-less", "unix"),
    Fault("len-less", "tcp-write", name="len-less-tcp"),
    Fault("data-len-more", "cork"),
    Fault("data-len-less", "udp-fragmented"),
    Fault("tail-behind-end", "udp"),
    Fault("data-before-head", "unix"),
    Fault("data-behind-tail", "udp6"),
    Fault("head-wild", "udp"),
    Fault("head-null", "unix"),
    Fault("head-shifted", "udp"),
    Fault("end-wild", "udp"),
    Fault("end-shifted", "unix", 2),
    Fault("truesize-small", "unix", 2),
    Fault("truesize-huge", "udp"),
    Fault("users-zero", "udp"),
    Fault("users-saturated", "unix"),
    Fault("dataref-zero", "unix"),
    Fault("dataref-more", "unix"),
    Fault("dataref-payload", "udp"),
    Fault("sk-wild", "cork"),
    Fault("sk-foreign", "cork"),
    Fault("gso-type", "udp"),
    Fault("gso-size", "unix"),
    Fault("gso-segs", "udp6"),
    Fault("tx-flags", "unix"),
    Fault("zerocopy", "unix"),
    Fault("header-transport", "udp"),
    Fault("header-network", "udp"),
    Fault("header-mac", "udp6"),
    Fault("qlen", "udp"),
    Fault("qlen", "udp-reader", name="qlen-reader"),
    Fault("prev-wrong", "udp", 2),
    Fault("tail-wrong", "unix"),
    Fault("next-wild", "udp"),
    Fault("next-null", "unix"),
    Fault("next-other", "udp"),
    Fault("next-inside", "unix"),
    Fault("unlinked", "udp"),
    Fault("skipped", "unix"),
    Fault("cycle", "udp"),
    Fault("cycle-self", "unix"),
    Fault("two-queues", "unix"),
    Fault("cross-linked", "udp"),
    Fault("rb-parent", "tcp", 0),
    Fault("rb-root-red", "tcp-ofo", 0),
    Fault("rb-child-wild", "tcp-ofo", 0),
    Fault("rb-cycle", "tcp", 0),
    Fault("backlog-cycle", "tcp-backlog", 0),
    Fault("backlog-tail", "tcp-backlog", 0),
    Fault("backlog-len", "tcp-backlog", 0),
    Fault("wmem-queued", "tcp-write"),
    Fault("wmem-alloc", "cork"),
    Fault("rmem-alloc", "udp"),
    Fault("rmem-zero", "tcp-input", 0),
    Fault("forward-alloc", "tcp-write"),
    Fault("cork-length", "cork"),
    # From here on the allocator is damaged, too.
    Fault("overrun-from-object", "unix-many", 0, "40"),
    Fault("overrun-from-skb", "unix-many", 0, "32"),
    Fault("head-freed", "unix", 2),
    Fault("skb-freed", "unix"),
    Fault("freelist-wild", "unix-many"),
    Fault("freed-twice", "unix-many"),
)

# With slub_debug=FZPU for the caches of sk_buffs and their heads.
SLUB_FAULTS = (
    Fault("len-more", "udp"),
    Fault("next-wild", "unix"),
    Fault("nr-frags-huge", "udp"),
    Fault("overrun-payload", "cork-full", -1, "80 2952"),
    Fault("redzone-right", "udp"),
    Fault("redzone-left", "unix"),
    Fault("redzone-head", "unix", 2),
    Fault("redzone-head", "udp", 2, name="redzone-head-udp"),
    Fault("poison-hit", "unix-many"),
    Fault("head-freed", "unix", 2),
    Fault("skb-freed", "unix"),
)
SLUB_CACHES = (
    "skbuff_head_cache", "skbuff_fclone_cache", "skbuff_small_head", "kmalloc-512", "kmalloc-1k", "kmalloc-2k",
    "kmalloc-4k", "kmalloc-cg-512", "kmalloc-cg-1k", "kmalloc-cg-2k", "kmalloc-cg-4k",
)  # fmt: skip
SLUB_DEBUG = f"slub_debug=FZPU,{','.join(SLUB_CACHES)}"

# Nobody touches these.
BYSTANDERS = (
    "udp bystander0 inet 1 100 1472 4000",
    "udp-cork bystander1 inet 40 1000 3000",
    "unix-dgram bystander2 1 100 5000 60000",
    "unix-stream bystander3 10 40000",
    "tcp bystander4 inet 10 100000",
    "netlink bystander5",
)


def words(faults: tuple[Fault, ...]) -> tuple[str, ...]:
    """The scenario that plants these faults and crashes."""
    hosts = [(HOSTS[fault.host], fault) for fault in faults]
    return (
        "cpu 1",
        "sysctl net/unix/max_dgram_qlen 512",
        *BYSTANDERS,
        *(word.format(fault.socket) for host, fault in hosts for word in host.words),
        "settle 1500",
        *(word.format(fault.socket) for host, fault in hosts for word in host.calm),
        *(_fault_word(host, fault) for host, fault in hosts),
        "publish",
        "plant",
        "sysrq c",
    )


def _fault_word(host: Host, fault: Fault) -> str:
    label = f"{fault.socket}.{host.part}" if host.part else fault.socket
    return f"fault {fault.kind} {label} {host.queue} {fault.index} {fault.words}".rstrip()

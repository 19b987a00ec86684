"""The scenarios: what each guest does before it crashes, as data.

``words`` are the lines that guest/load.c runs in order; the tables at the ends of guest/*.c say what each word means.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Scenario:
    """One way to crash a kernel and what must come of it."""

    name: str
    summary: str
    words: tuple[str, ...]
    expect: str  # a regular expression for the panic text on the console; "." matches line ends too
    cmdline: str = ""  # added to the crashing kernel's command line
    dump_options: str = "-l"  # for makedumpfile: lzo
    dump_level: int | None = None  # makedumpfile's -d; the kernel's usual one (kernels.py) where not given
    timeout: int = 240  # seconds from power-on to the finished dump


SCENARIOS = (
    Scenario(
        name="healthy",
        summary="sockets of all sorts with full queues, nothing damaged, sysrq-c",
        words=(
            "cpu 1",
            "sleepers",
            "packet packet0",
            "udp udp0 inet 1 100 1472 1473 4000 30000 65000",
            "udp udp1 inet6 1 100 1452 1453 4000",
            "packet-stop",
            "udp-reader udp2 inet 10 20 3000",
            "udp-error error0 inet",
            "udp-cork cork0 inet 40 1000 3000 5000",
            "udp-cork cork1 inet 2952",
            "tcp tcp0 inet 40 400000",
            "tcp tcp1 inet6 3 100000",
            "tcp-window tcp2 inet 400000",
            "tcp-ofo tcp3 inet 8",
            "tcp-backlog tcp4 inet 5",
            "tcp-listen listen0 inet 3",
            "unix-dgram unix0 1 100 5000 60000",
            "unix-stream unix1 10 40000",
            "netlink netlink0",
            "settle 2500",
            "publish",
            "sysrq c",
        ),
        expect=r"Kernel panic - not syncing: sysrq triggered crash",
    ),
    Scenario(
        name="reference",
        summary="a corked UDP skb overrun past its end by its own payload, freed by the failing send",
        # The first send leaves 68 linear bytes, the second fills that skb up with 1432 bytes of pages and then makes
        # the linear skb of 1500 bytes that is overrun: the reference case's two skbs.
        words=(
            "cpu 1",
            "sleepers",
            "tcp tcp0 inet 10 100000",
            "udp udp0 inet 100 1472 4000",
            "udp-cork cork0 inet 40 2912",
            "cork-overrun cork0 80",
            "settle 1500",
            "publish",
            "cork-flush",
        ),
        expect=r"general protection fault.*RIP: 0010:skb_release_data\+",
    ),
)

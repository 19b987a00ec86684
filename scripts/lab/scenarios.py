"""The scenarios: what each guest does before it crashes, as data.

``words`` are the lines that guest/load.c runs in order; the tables at the ends of guest/*.c say what each word means.
"""

from dataclasses import dataclass

from crashes import CRASHES
from faults import FAULTS, SLUB_DEBUG, SLUB_FAULTS, words
from netqueues import NET_FAULTS, NET_QUEUES


@dataclass(frozen=True)
class Scenario:
    """One way to crash a kernel and what must come of it."""

    name: str
    summary: str
    words: tuple[str, ...]
    expect: str  # a regular expression for the panic text in the kernel's log; "." matches line ends too
    cmdline: str = ""  # added to the crashing kernel's command line
    cpus: int = 2
    dump_options: str = "-l"  # for makedumpfile: lzo
    dump_level: int | None = None  # makedumpfile's -d; the kernel's usual one (kernels.py) where not given
    lines: tuple[str, ...] = ()  # the kernels that it makes sense for (kernels.py); all where not given
    on_demand: bool = False  # made only when it is named: no test needs it
    usual: tuple[str, ...] = ()  # though it is on demand, these kernels have it always
    timeout: int = 240  # seconds from power-on to the finished dump


# Ways to sleep in the module, in the order of lab_ways in guest/wait.c.
WAYS = ("event", "event-d", "killable", "done", "mutex", "msleep")

# Connection tracking and what it needs, in that order; a kernel may have some of it built in.
TRACKING = ("crc32c_generic", "libcrc32c", "nf_defrag_ipv4", "nf_defrag_ipv6", "nf_conntrack enable_hooks=1")

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
            "stacks",
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
            "stacks",
            "publish",
            "cork-flush",
        ),
        expect=r"general protection fault.*RIP: 0010:skb_release_data\+",
    ),
    Scenario(
        name="old-makedumpfile",
        summary="the same, saved by a makedumpfile that does not know this kernel's slab pages: -d 31 leaves many out",
        lines=("6.12",),
        words=(
            "cpu 1",
            "tcp tcp0 inet 10 100000",
            "udp udp0 inet 100 1472 4000",
            "udp-cork cork0 inet 40 2912",
            "cork-overrun cork0 80",
            "settle 1500",
            "publish",
            "cork-flush",
        ),
        expect=r"general protection fault.*RIP: 0010:skb_release_data\+",
        dump_level=31,
    ),
    Scenario(
        name="faults",
        summary="the fault matrix: damage of every kind, each on a socket of its own, planted just before sysrq-c",
        words=words(FAULTS),
        expect=r"Kernel panic - not syncing: sysrq triggered crash",
    ),
    Scenario(
        name="faults-slub",
        summary="faults under slub_debug: red zones and poison hit, freed objects poisoned; sysrq-c",
        words=words(SLUB_FAULTS),
        cmdline=SLUB_DEBUG,
        expect=r"Kernel panic - not syncing: sysrq triggered crash",
    ),
    Scenario(
        name="unusual",
        summary="what healthy systems do, but not every day: zerocopy, UDP segments, descriptors in flight; sysrq-c",
        words=(
            "cpu 1",
            "packet packet0",
            "mptcp mptcp0",
            "zerocopy zerocopy0",
            "sendfile sendfile0",
            "tcp-slow slow0",
            "udp-gso gso0",
            "timestamps stamps0",
            "packet-stop",
            "unix-fds fds0",
            "netlink-large netlink0",
            "tcp-backlog backlog0 inet 12",
            "tcp-ofo ofo0 inet 8",
            "settle 2500",
            "publish",
            "sysrq c",
        ),
        expect=r"Kernel panic - not syncing: sysrq triggered crash",
    ),
    Scenario(
        name="queues",
        summary="sk_buffs in qdiscs, GRO lists, backlogs, neighbours and IP fragments, sysrq-c",
        words=(*NET_QUEUES, "publish", "sysrq c"),
        expect=r"Kernel panic - not syncing: sysrq triggered crash",
    ),
    Scenario(
        name="faults-queues",
        summary="the same, some of them damaged",
        words=(*NET_QUEUES, *NET_FAULTS, "publish", "plant", "sysrq c"),
        expect=r"Kernel panic - not syncing: sysrq triggered crash",
    ),
    Scenario(
        name="conntrack",
        summary="datagrams of tracked connections on a device's queue, sysrq-c",
        words=(
            "cpu 1",
            *map("insmod {}".format, TRACKING),
            "sysctl net/core/default_qdisc pfifo_fast",
            "do net-device 1",
            "net-up lab0 10.1.0.1",
            "net-send 10.1.0.2 5 100",
            "udp udp0 inet 1 100",
            "settle 300",
            "publish",
            "sysrq c",
        ),
        expect=r"Kernel panic - not syncing: sysrq triggered crash",
    ),
    Scenario(
        name="flood",
        summary="150,000 datagrams on one socket beside busy TCP connections, sysrq-c; for scripts/bench",
        on_demand=True,
        words=(
            "cpu 1",
            "udp-flood flood0 inet 150000 100",
            "udp udp0 inet 1 100 1472 1473 4000 30000 65000",
            "udp-cork cork0 inet 40 1000 3000 5000",
            *(f"tcp tcp{number} inet 40 400000" for number in range(8)),
            "tcp tcp8 inet6 3 100000",
            "tcp-window tcp9 inet 400000",
            "tcp-listen listen0 inet 3",
            "unix-stream unix0 10 40000",
            "settle 2500",
            "publish",
            "sysrq c",
        ),
        expect=r"Kernel panic - not syncing: sysrq triggered crash",
    ),
    Scenario(
        name="tasks",
        summary="700 tasks asleep in all sorts of places, CPUs in user space, in the module and in interrupts, sysrq-c",
        cpus=6,
        words=(
            "cpu 1",
            "sleepers 36",
            "odd-sleepers",
            "do kthreads 4",
            "do work",
            *(f"task lab-m-{way} -1 wait {index}" for index, way in enumerate(WAYS)),
            "task lab-m-mutex -1 wait 4",
            "settle 2000",
            "stacks",
            "user-spin lab-user-spin 0",
            "task lab-spin 2 spin",
            "task lab-hardirq 3 spin",
            "user-spin lab-preempted-u 4",
            "task lab-preempted-k 4 spin",
            "settle 200",
            "unborn lab-unborn 4",
            "user-spin lab-softirq 5",
            "settle 300",
            "publish",
            "do hardirq 3",
            "do softirq 5",
            "sysrq c",
        ),
        expect=r"Kernel panic - not syncing: sysrq triggered crash",
    ),
    Scenario(
        name="traced",
        summary="kretprobes, function_graph and a BPF fexit on sleeping stacks, CPUs inside BPF programs, sysrq-c",
        cpus=3,
        words=(
            "cpu 1",
            "tracing",
            "kretprobe do_sys_poll",
            "graph pipe_read vfs_read",
            "fexit hrtimer_nanosleep",
            "sleepers",
            "bpf-spin 0",
            "probe-spin 2",
            "settle 2500",
            "stacks",
            "sysrq l",
            "settle 500",
            "publish",
            "sysrq c",
        ),
        expect=r"Kernel panic - not syncing: sysrq triggered crash",
    ),
    Scenario(
        name="null-module",
        summary="a NULL pointer read three module functions deep in an ioctl",
        words=("cpu 1", "settle 100", "publish", "do null"),
        expect=r"BUG: kernel NULL pointer dereference.*RIP: 0010:lab_null_read\+",
    ),
    Scenario(
        name="softirq-bug",
        summary="BUG() in a timer's soft interrupt, on the IRQ stack of a CPU whose task spins in the module; "
        "with PREEMPT_RT in a thread",
        words=("cpu 1", "task lab-spin 0 spin", "settle 100", "publish", "do softirq-bug 0"),
        expect=r"kernel BUG at .*RIP: 0010:lab_softirq_check\+.*"
        r"(<IRQ>.*lab_softirq_bug_handler\+.*</IRQ>.*lab_spin\+|lab_softirq_bug_handler\+.*run_(timersd|ksoftirqd)\+)",
    ),
    Scenario(
        name="locks",
        summary="tasks that wait for locks, two of them for each other; hooks and programs of the network; sysrq-c",
        words=(
            "cpu 1",
            "insmod sch_fq_codel",
            "do net-device 2",
            "net-up lab0 10.1.0.1",
            "programs lab0",
            "insmod sch_ingress",
            "insmod cls_matchall",
            "insmod act_gact",
            "filters lab0",
            "net-send 10.1.0.2 3 100",
            "do packet-type",
            "do protocol",
            "netns lab-netns nf-hooks",
            "do net-arp-device 1",
            "net-up lab1 10.9.9.1",
            "net-send 10.9.9.9 1 100",
            "udp udp0 inet 1 100 1472",
            "lines /proc/net/dev /proc/net/ptype /proc/net/arp",
            "settle 1000",
            "task lab-rtnl-hold -1 rtnl-hold",
            *(f"task lab-rtnl-{number} -1 rtnl-wait" for number in range(4)),
            "task lab-middle -1 chain-middle",
            "task lab-end -1 chain-end",
            "task lab-abba-0 0 abba 0",
            "task lab-abba-1 1 abba 1",
            "task lab-rwsem-hold -1 rwsem-hold",
            "task lab-rwsem-read -1 rwsem-read",
            "task lab-rwsem-write -1 rwsem-write",
            "task lab-sem-hold -1 semaphore-hold",
            "task lab-sem-wait -1 semaphore-wait",
            "task lab-event-d -1 wait 1",
            "settle 300",
            "stacks",
            "publish",
            "sysrq c",
        ),
        expect=r"Kernel panic - not syncing: sysrq triggered crash",
    ),
    Scenario(
        name="rtlock",
        summary="a task sleeps in spin_lock(), as only PREEMPT_RT has it; sysrq-c",
        lines=("6.12rt", "6.1rt", "5.10rt"),
        words=(
            "cpu 1",
            "task lab-lock-hold 0 lock-hold",
            "settle 200",
            "task lab-lock-wait 0 lock-wait",
            "settle 500",
            "stacks",
            "publish",
            "sysrq c",
        ),
        expect=r"Kernel panic - not syncing: sysrq triggered crash",
    ),
    Scenario(
        name="softlockup",
        summary="preemption off for too long: the soft lockup watchdog shows all CPUs and panics in its interrupt",
        words=(
            "cpu 1",
            "task lab-spin 0 spin",
            "settle 100",
            "publish",
            "sysctl kernel/softlockup_all_cpu_backtrace 1",
            "sysctl kernel/softlockup_panic 1",
            "sysctl kernel/watchdog_thresh 1",
            "do lockup",
        ),
        expect=r"BUG: soft lockup.*NMI backtrace for cpu 0.*Kernel panic - not syncing: softlockup: hung tasks",
    ),
    Scenario(
        name="stack-overflow",
        summary="recursion in the module into the stack's guard page: a double fault on a stack of its own",
        words=("cpu 1", "settle 100", "publish", "do overflow"),
        expect=r"stack guard page was hit.*RIP: 0010:lab_overflow_deeper\+",
    ),
    Scenario(
        name="nmi",
        summary="a CPU spins in the module with interrupts off and only the crash's NMI stops it; sysrq-c on another",
        words=("cpu 1", "task lab-irqs-off 0 spin-irqs-off", "settle 100", "publish", "do irqs-off-now 1", "sysrq c"),
        expect=r"Kernel panic - not syncing: sysrq triggered crash",
    ),
    Scenario(
        name="bug-syscall",
        summary="BUG() in an ioctl of the module",
        words=("cpu 1", "settle 100", "publish", "do bug 5"),
        expect=r"kernel BUG at .*RIP: 0010:lab_bug_check\+",
    ),
    Scenario(
        name="warn-syscall",
        summary="WARN() in an ioctl of the module with panic_on_warn",
        words=("cpu 1", "settle 100", "publish", "sysctl kernel/panic_on_warn 1", "do warn"),
        expect=r"panic_on_warn set.*lab_warn_check\+",
    ),
    Scenario(
        name="divide",
        summary="a division by zero in an ioctl of the module",
        words=("cpu 1", "settle 100", "publish", "do divide 0"),
        expect=r"divide error: 0000.*RIP: 0010:lab_divide_by\+",
    ),
    *(
        Scenario(
            crash.name,
            crash.summary,
            crash.words,
            crash.expect,
            cmdline=crash.cmdline,
            lines=crash.lines,
            on_demand=True,
            usual=crash.usual,
        )
        for crash in CRASHES
    ),
)

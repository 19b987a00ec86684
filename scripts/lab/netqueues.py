"""What goes onto the queues that are no socket's, and which of it is damaged then."""

# The qdisc of each device of the module, lab0 and so on, and its transmit queues.
_QDISCS = (("pfifo", 1), ("fq_codel", 2), ("pfifo_fast", 1), ("fq", 1), ("tbf", 1))
_ARP_DEVICE = f"lab{len(_QDISCS)}"

NET_FAULTS = (
    "fault qdisc-qlen lab0 q 0",
    "fault len-more lab0 q 1",
    "fault users-zero lab0 q 2",
    "fault nr-frags-huge lab0 q 3",
    "fault queued-freed lab0 q 5",
    "fault head-wild lab1 flow 0",
    "fault flow-next-wild lab1 flow 1",
    "fault dataref-zero lab1 gso_skb 0",
    "fault len-less lab2 ring 1",
    "fault ring-other lab2 ring 2",
    "fault truesize-huge lab5 arp_queue 0",
    "fault list-qlen lab5 arp_queue 0",
    "fault len-more cpu input_pkt_queue 2",
    "fault list-qlen cpu input_pkt_queue 0",
    "fault header-network lab0 rx_list 1",
    "fault gso-type lab0 gro_hash 0",
    "fault sk-wild lab3 gso_skb 0",
    "fault len-more ipv4 fragments 2",
    "fault data-behind-tail ipv6 fragments 1",
)


def _device(number: int, qdisc: str, tx_queues: int) -> tuple[str, ...]:
    # A qdisc that the sysctl takes is a device's from the start.
    default = "pfifo_fast" if qdisc == "tbf" else qdisc
    name, network = f"lab{number}", f"10.1.{number}"
    return (
        f"sysctl net/core/default_qdisc {default}",
        f"do net-device {tx_queues}",
        f"net-up {name} {network}.1",
        *((f"tbf {name}",) if qdisc == "tbf" else ()),
        f"net-send {network}.2 12 100 1400 5000",
    )


NET_QUEUES = (
    "cpu 1",
    "insmod sch_fq",
    "insmod sch_tbf",
    "insmod sch_fq_codel",
    *(word for number, (qdisc, queues) in enumerate(_QDISCS) for word in _device(number, qdisc, queues)),
    "sysctl net/core/default_qdisc fq_codel",
    "do net-arp-device 1",
    f"net-up {_ARP_DEVICE} 10.9.9.1",
    # So that the neighbour is not given up before the crash.
    f"sysctl net/ipv4/neigh/{_ARP_DEVICE}/mcast_solicit 100",
    f"sysctl net/ipv4/neigh/{_ARP_DEVICE}/retrans_time_ms 60000",
    "net-send 10.9.9.9 5 100 1000",
    "sysctl net/ipv4/ipfrag_time 600",
    "sysctl net/ipv6/ip6frag_time 600",
    "fragments 2",
    "udp udp0 inet 1 100 1472",
    "settle 1500",
    "do net-gro 7",
    "do net-backlog 4",
)

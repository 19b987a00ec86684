"""Turns a guest's kernel log into NAME.truth.json: what the kernel itself said of its sockets, skbs and tasks.

The log is that in the dump.  The console has less: a double fault and an NMI print into the log only, kexec comes
before what waits to be printed, and with PREEMPT_RT a thread prints, which the crash stops in the middle of a line.

All addresses are strings of "0x" and 16 digits, all other values numbers unless noted.  The document:

    scenario        its name (string)
    kernel_line     "6.1"
    kernel          the release (string)
    dump_options    makedumpfile's (string)
    kaslr_offset    address of _text less the one it was linked at
    module          {name, text}: text is the address of its .text section
    module_file     the path of its .ko, with debug information, in the lab's folder (string)
    panic           the line of the log that opens the panic, without its time stamp
    call_trace      the panic's lines, from that one to the last, without time stamps
    panic_message   the text after "Kernel panic - not syncing: "; null where crash_kexec came before it: an oops ends
                    without that line (string)
    panic_task      {cpu, pid, comm} as the panic text gives them
    nmi_traces      [{cpu, lines}]: what call_trace has of "NMI backtrace for cpu N", each with that line first
    earlier_nmi_traces  the same of what the log has before the panic: a sysrq-l
    fault           null, or {kind, label, queue, sock, skb, written_from, first_damaged, damaged_bytes, bytes,
                    before: {nr_frags, dataref, frag_list}}.  From written_from to first_damaged (= skb->end) lies room
                    of the buffer that nothing used; "bytes" are the damaged bytes as hex digits
    faults          [{kind, label, queue, sock, skb, rule, object, objects, member, before, after, writes, also}]: what
                    was planted after all the rest of this was published, so socks and skbs show it still sound
      rule          [rule ids]: each of them is right; the first is the best
      object        what the finding must name; any of objects is right, and object is the first of them
      skb           the damaged sk_buff, or the one whose slab is damaged; 0 where it is none
      member        the C member, or a word for what was overwritten, that the first of writes is to, with its value
                    before and after; null where nothing was written, but freed
      writes        [{member, address, size, before, after}] in order: up to 8 bytes are numbers, 8 of them an address
                    (string); more are hex digits, or "" from 129 bytes on.  An overrun's last one begins at the shared
                    info or at the sk_buff
      also          [[rule, object]]: consequences that may be reported, too; "*" is any rule
    cpus            [{cpu, task, pid}]: what each CPU ran at the end of the publication
    tasks           [{task, pid, tgid, comm, kernel, stack, state, exit_state, cpu, stack_trace}]: all tasks.  "kernel"
                    is 1 for kernel threads, whose state, exit_state and cpu are null, as they change, but for those of
                    the lab ("lab-..."); "stack" is task->stack; stack_trace is null or the kernel's own backtrace,
                    ["function+0x1/0x2", ...], innermost first and without the scheduler's frames: programs that sleep
                    and kernel threads that sleep in the module have one; a zombie's is empty
    socks           [{label, sock, socket, file, family, type, protocol, state, prot, refcnt, owned, wmem_alloc,
                    wmem_queued, rmem_alloc, forward_alloc, sndbuf, rcvbuf, sport, dport, queues}]
      queues        [{queue, kind, head, qlen, members, skbs}]
                    queue: write, receive, error, backlog, rtx and ofo (TCP), reader (UDP)
                    kind: "list", head is a struct sk_buff_head; "rbtree", head is a struct rb_root and qlen what was
                    counted; "backlog", head is &sk->sk_backlog and qlen its length in bytes
                    members: how many were counted; skbs: their addresses in order, at most the first 200
    net_queues      [{device, queue, head, qlen, members, skbs}]: queues that are no socket's, none of them empty
                    queue: gso_skb, q (Qdisc.q), ring (a band of pfifo_fast, head is the struct ptr_ring), flow (of
                    fq_codel, head is the struct fq_codel_flow), gro_hash, rx_list, arp_queue; of the device "cpu":
                    input_pkt_queue; of "ipv4" and "ipv6": fragments (head is the struct rb_root, skbs run by run)
                    qlen: the kernel's own count, -1 where it keeps none
    lock_users      [{pid, lock, address, holds, since}]: what the lab's tasks hold (1) or were about to wait for (0),
                    and when (ns of the log's clock); address is 0 for rtnl_mutex, which the module cannot know
    hooks           [{kind, where, name, function, net, priority}]: functions of the module that the network stack calls
    netns           [{comm, inum}]: tasks with a network namespace of their own
    programs        [{kind, name, device}]: BPF programs on devices
    filters         [{device, where, priority}]: of traffic control, at the ingress and egress of devices
    files           {path: [lines]}: files of the kernel's own, with spaces for control characters
    skbs            [{skb, place, index, sk, next, prev, len, data_len, truesize, users, head, data, tail, end, cloned,
                    nohdr, fclone, head_frag, pp_recycle, pfmemalloc, protocol, mac_header, network_header,
                    transport_header, shinfo, nr_frags, dataref, flags, tx_flags, gso_size, gso_segs, gso_type,
                    frag_list, frags}].  "place" is the head of the queue that the skb is on, or the skb on whose
                    frag_list it is, "index" its position there, "end" skb_end_pointer(), "protocol" in host order;
                    next and prev of an skb in an rbtree are whatever the union with rbnode holds; frags is
                    [[page, offset, size], ...], empty where nr_frags is impossible; flags and pp_recycle are -1 where
                    the kernel has no such member

An skb on the frag_list of data that clones share appears once for each of the clones.  A byte of a comm that is not
printable ASCII is the character of the same number.

The truth holds for the moment of the crash.  Where the crash itself works on an skb it holds for the moment before
that: in `reference`, the dump has fault.skb no longer on its queue (its next and prev are 0, the queue's qlen and its
neighbours' links are without it), the socket owned, and wmem_alloc less by the skb's truesize.  A socket's timer may in
rare cases still run between publication and crash; TCP's are backed off by then.
"""

import json
import re
from typing import Any

from errors import LabError
from vm import PANIC

LINKED_TEXT = 0xFFFFFFFF81000000  # where x86-64 kernels are linked: __START_KERNEL
MAX_PER_QUEUE = 200  # as in guest/publish.c
PANIC_MESSAGE = re.compile(r"Kernel panic - not syncing: (.*)")
NMI_TRACE = re.compile(r"NMI backtrace for cpu (\d+)")
PANIC_TASK = re.compile(r"CPU: (\d+) (?:UID: \d+ )?PID: (\d+) Comm: (.*?) (?:Kdump: |Not tainted|Tainted)")

Record = dict[str, Any]


def read_log(lines: list[str], expect: str) -> Record:
    """What the guest said, for the document; LabError where lines are missing or the panic is not the expected one."""
    records = _last_block(lines, "begin", "end")
    if records is None:
        raise LabError("truth", "nothing was published")
    by_kind: dict[str, list[Record]] = {}
    for record in records:
        by_kind.setdefault(record.pop("r"), []).append(record)
    text = int(by_kind["kernel_text"][0]["address"], 16)
    panic = _panic_lines(lines)
    if not re.search(expect, "\n".join(panic), re.DOTALL):
        raise LabError("truth", f"the panic is not the expected one ({expect})", tuple(panic))
    return {
        "kernel": by_kind["kernel"][0]["release"],
        "kaslr_offset": f"0x{text - LINKED_TEXT:016x}",
        "module": by_kind["module"][0],
        "panic": panic[0],
        "call_trace": panic,
        "panic_message": next((found[1] for line in panic if (found := PANIC_MESSAGE.search(line))), None),
        "panic_task": _panic_task(panic),
        "nmi_traces": nmi_traces(panic),
        "earlier_nmi_traces": nmi_traces(lines[: -len(panic)]),
        "fault": next(iter(by_kind.get("fault", [])), None),
        "faults": _faults(_last_block(lines, "begin-faults", "end-faults") or []),
        "cpus": by_kind["cpu"],
        "tasks": _tasks(by_kind),
        "socks": _socks(by_kind),
        "net_queues": _net_queues(by_kind),
        "lock_users": by_kind.get("lock_user", []),
        "hooks": by_kind.get("hook", []),
        "netns": by_kind.get("netns", []),
        "programs": by_kind.get("program", []),
        "filters": by_kind.get("filter", []),
        "files": _files(by_kind),
        "skbs": _skbs(by_kind),
    }


def _last_block(lines: list[str], begin: str, end: str) -> list[Record] | None:
    """The records between the last `begin` and its `end`, which says how many there must be; None without any."""
    records: list[Record] | None = None
    for line in lines:
        _, found, text = line.partition("KDLAB ")
        if not found:
            continue
        try:
            record = json.loads(text)
        except json.JSONDecodeError as error:
            raise LabError("truth", f"a line of the log is damaged ({error})", (line,)) from error
        if record["r"] == begin:
            records = []
        elif records is None:
            continue
        elif record["r"] == end:
            if record["lines"] != len(records):
                raise LabError("truth", f"{record['lines']} lines were published, {len(records)} arrived")
            return records
        else:
            records.append(record)
    if records is not None:
        raise LabError("truth", f"the block that {begin} opens has no end")
    return None


def _panic_lines(lines: list[str]) -> list[str]:
    """The log from the panic's first line on."""
    result: list[str] = []
    for line in lines:
        stamp = re.match(r"\[ *\d+\.\d+\] (.*)", line)
        if not stamp or not (result or PANIC.search(line)):
            continue
        # The PREEMPT_RT of 5.10 has what it panics about in a message of its own.
        if result and result[-1] == "Kernel panic - not syncing:":
            result[-1] += f" {stamp[1]}"
        else:
            result.append(stamp[1])
    if not result:
        raise LabError("truth", "the log shows no panic")
    return result


def _unstamped(line: str) -> str:
    return re.sub(r"^\[ *\d+\.\d+\] ", "", line)


def _panic_task(panic: list[str]) -> Record:
    found = PANIC_TASK.search("\n".join(panic))
    if not found:
        raise LabError("truth", "the panic text names no task", tuple(panic))
    return {"cpu": int(found[1]), "pid": int(found[2]), "comm": found[3]}


def nmi_traces(lines: list[str]) -> list[Record]:
    """Each begins with its own line and ends where the next begins, or the panic's own message comes."""
    traces: list[Record] = []
    inside = False
    for line in map(_unstamped, lines):
        if found := NMI_TRACE.search(line):
            traces.append({"cpu": int(found[1]), "lines": []})
            inside = True
        elif PANIC_MESSAGE.search(line):
            inside = False
        if inside:
            traces[-1]["lines"].append(line)
    return traces


def _faults(records: list[Record]) -> list[Record]:
    """The planted faults, each with its writes and consequences."""
    by_fault: dict[int, list[Record]] = {}
    for record in records:
        by_fault.setdefault(record.pop("fault"), []).append(record)
    return [_fault(planted, rest) for planted, *rest in by_fault.values()]


def _fault(planted: Record, rest: list[Record]) -> Record:
    writes = [_write(record) for record in rest if record["r"] == "planted_write"]
    also = [record for record in rest if record["r"] == "planted_also"]
    first = writes[0] if writes else {"member": None, "before": None, "after": None}
    return {
        **{key: planted[key] for key in ("kind", "label", "queue", "sock", "skb")},
        "rule": planted["rule"].split(),
        "object": planted["objects"][0],
        "objects": planted["objects"],
        **{key: first[key] for key in ("member", "before", "after")},
        "writes": writes,
        "also": [[rule, record["object"]] for record in also for rule in record["rules"].split()],
    }


def _write(record: Record) -> Record:
    """Before and after of what is as large as a member are little-endian numbers; a pointer is an address."""
    result = {key: record[key] for key in ("member", "address", "size", "before", "after")}
    for key in ("before", "after"):
        if record["size"] <= 8:
            value = int.from_bytes(bytes.fromhex(record[key]), "little")
            result[key] = f"0x{value:016x}" if record["size"] == 8 else value
    return result


def _tasks(by_kind: dict[str, list[Record]]) -> list[Record]:
    traces = {record["pid"]: record["frames"] for record in by_kind.get("stack", [])}
    return [{"state": None, "exit_state": None, "cpu": None} | task | {"stack_trace": traces.get(task["pid"])}
            for task in by_kind["task"]]  # fmt: skip


def _skbs(by_kind: dict[str, list[Record]]) -> list[Record]:
    frags = {record["skb"]: record["frags"] for record in by_kind.get("frags", [])}
    return [skb | {"frags": frags.get(skb["skb"], [])} for skb in by_kind.get("skb", [])]


def _net_queues(by_kind: dict[str, list[Record]]) -> list[Record]:
    members = _by_place(by_kind)
    return [queue | {"skbs": members.get(queue["head"], [])} for queue in by_kind.get("net_queue", [])]


def _files(by_kind: dict[str, list[Record]]) -> dict[str, list[str]]:
    files: dict[str, list[str]] = {}
    for line in by_kind.get("line", []):
        files.setdefault(line["file"], []).append(line["text"])
    return files


def _by_place(by_kind: dict[str, list[Record]]) -> dict[str, list[str]]:
    members: dict[str, list[str]] = {}
    for skb in by_kind.get("skb", []):
        members.setdefault(skb["place"], []).append(skb["skb"])
    return members


def _socks(by_kind: dict[str, list[Record]]) -> list[Record]:
    members = _by_place(by_kind)
    queues: dict[str, list[Record]] = {}
    for queue in by_kind.get("queue", []):
        skbs = members.get(queue["head"], [])
        if len(skbs) != min(queue["members"], MAX_PER_QUEUE):
            raise LabError("truth", f"the queue {queue['head']} has {queue['members']} members, {len(skbs)} arrived")
        owner = queue.pop("sock")
        queues.setdefault(owner, []).append(queue | {"skbs": skbs})
    return [sock | {"queues": queues[sock["sock"]]} for sock in by_kind.get("sock", [])]

"""What this kernel's types say of tasks, their stacks and locks: one question each."""

from __future__ import annotations

from collections.abc import Callable

from gdb_kdump.errors import MissingDebugInfo
from gdb_kdump.layout.layout import Layout
from gdb_kdump.layout.members import Member, find_path
from gdb_kdump.layout.table import INIT_STACK


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
        word = find_path(lock, path)
        if word is not None:
            return word, False
    for path in ("rlock.raw_lock.head_tail", "rlock.raw_lock.slock", "raw_lock.slock"):
        word = find_path(lock, path)
        if word is not None:
            return word, True
    return None, False


def task_cpu(layout: Layout) -> tuple[Member | None, Member | None]:
    """Where a task's CPU number is: in its task_struct, or in the struct thread_info at the far end of its stack.

    c65eacbe290b (v4.9) sched/core: Allow putting thread_info into task_struct.
    """
    own = layout.find_member("task_struct.cpu")
    return (own, None) if own is not None else (None, layout.member("thread_info.cpu"))


def thread_size(layout: Layout, find_address: Callable[[str], int | None]) -> int:
    """THREAD_SIZE: the bytes of a task's stack; include/linux/sched.h: union thread_union.

    Where the types have no such union any more, what the linker left for the first task's;
    include/asm-generic/vmlinux.lds.h: INIT_TASK_DATA.  `find_address` gives the address of a symbol.
    """
    stack_type = layout.find_type("union thread_union")
    if stack_type is not None:
        return int(stack_type.sizeof)
    for start, end in INIT_STACK:
        low, high = find_address(start), find_address(end)
        if low is not None and high is not None:
            return high - low
    raise MissingDebugInfo("union thread_union", [end for _, end in INIT_STACK])


def end_of_stack(layout: Layout) -> int:
    """Where from the lowest address of a task's stack on its end is (bytes): after a struct thread_info that is there.

    include/linux/sched/task_stack.h: end_of_stack.
    """
    return 0 if layout.find_member("task_struct.thread_info.flags") is not None else layout.size("thread_info")


def thread_list(layout: Layout) -> tuple[Member | None, Member]:
    """The list of a thread group: its head in signal_struct, and its node in each task_struct.

    Without a head the nodes are a ring that the leader is part of: 0c740d0afc3b (v3.14) introduce for_each_thread().
    """
    head = layout.find_member("signal_struct.thread_head")
    return head, layout.member("task_struct.thread_node" if head is not None else "task_struct.thread_group")


def last_ran(layout: Layout) -> str:
    """The member of task_struct with the run queue's clock (ns) of when a task was last given a CPU.

    sched_info, which crash's `ps -m` shows, is there with CONFIG_SCHED_INFO; without it se.exec_start tells when time
    was last charged to the task.  Raises MissingDebugInfo.
    """
    paths = ("sched_info.last_arrival", "se.exec_start")
    struct = layout.struct("task_struct")
    path = next((path for path in paths if find_path(struct, path) is not None), None)
    if path is None:
        raise MissingDebugInfo("time when a task last ran", [f"task_struct.{path}" for path in paths])
    return path


def graph_stack_is_words(layout: Layout) -> bool:
    """Whether a task's ret_stack is a stack of words and not an array of struct ftrace_ret_stack.

    (v6.11) function_graph: Convert ret_stack to a series of longs.
    """
    return bool(layout.member("task_struct.ret_stack").type.strip_typedefs().target().strip_typedefs().is_scalar)

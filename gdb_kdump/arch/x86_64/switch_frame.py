"""What a sleeping task left on its stack when its CPU switched to another task, and where that goes on."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from gdb_kdump.arch.readers import Memory, Types
from gdb_kdump.arch.x86_64.registers import REGISTERS
from gdb_kdump.errors import MissingDebugInfo
from gdb_kdump.records.threads import SavedFrame

_U64 = (1 << 64) - 1
_FRAME = "inactive_task_frame"
_RETURN = "ret_addr"
_MEMBERS = {**REGISTERS.by_member, _RETURN: "rip"}  # of struct inactive_task_frame
_SWITCHERS = ("__schedule", "schedule")
_LONGEST_FUNCTION = 8192
_CALL = 0xE8


class SwitchFrame:
    """Tells how `thread.sp` of one kernel's tasks leads to the registers of one that sleeps.

    0100301bfdf5 (v4.9) sched/x86: Rewrite the switch_to() code gave that a type, struct inactive_task_frame.
    `thread_size` gives the bytes of a task's stack; it raises MissingDebugInfo.
    """

    def __init__(
        self, memory: Memory, types: Types, find_address: Callable[[str], int | None], thread_size: Callable[[], int]
    ) -> None:
        self._memory = memory
        self._types = types
        self._find_address = find_address
        self._thread_size = thread_size
        self._is_typed = types.find_struct(_FRAME) is not None

    @cached_property
    def frame(self) -> SavedFrame:
        """What stands at thread.sp; raises MissingDebugInfo, Unreadable."""
        if self._is_typed:
            members = [name for name in (*REGISTERS.members, _RETURN) if self._has(name)]
            size = self._types.size(_FRAME)
            offsets = {_MEMBERS[name]: self._types.offset(f"{_FRAME}.{name}") for name in members}
            return SavedFrame(size, offsets, relative={"rsp": size})
        # arch/x86/include/asm/switch_to.h: SAVE_CONTEXT before v4.9: pushf, pushq %rbp.
        return SavedFrame(16, {"rbp": 0}, {"rip": self._return_address()}, {"rsp": 16})

    def _has(self, member: str) -> bool:
        return self._types.find_member(f"{_FRAME}.{member}") is not None

    def find(self, task: int, stack: int, sp: int) -> int | dict[str, int]:
        """Where a sleeping task's frame() is, or its registers where it has none.

        `task` is its struct task_struct *, `stack` the lowest address of its stack, `sp` its thread.sp.
        """
        if self._is_typed or not self._never_ran(stack, sp):
            return sp
        starts = self._find_address("ret_from_fork")
        if starts is None:
            raise MissingDebugInfo("symbol ret_from_fork")
        return {"rip": starts, "rsp": sp}

    def _never_ran(self, stack: int, sp: int) -> bool:
        """Whether a task waits to run for the first time.

        arch/x86/kernel/process_64.c: copy_thread: its sp is that of its struct pt_regs, and ret_from_fork comes next.
        """
        return sp == stack + self._thread_size() - self._types.size("pt_regs")

    def _return_address(self) -> int:
        """Where switch_to() goes on: after its call of __switch_to."""
        find = self._find_address
        named, target = find("thread_return"), find("__switch_to")
        if named is not None:
            return named
        for name in _SWITCHERS if target is not None else ():
            start = find(name)
            after = self._after_call(target, start) if target is not None and start is not None else None
            if after is not None:
                return after
        raise MissingDebugInfo(
            "mark where sleeping tasks go on", ["struct inactive_task_frame", "symbol thread_return"]
        )

    def _after_call(self, target: int, start: int) -> int | None:
        """The address after the first direct call of `target` in the function at `start`, or None."""
        code, _ = self._memory.read_prefix(start, _LONGEST_FUNCTION)
        at = code.find(_CALL)
        while 0 <= at < len(code) - 4:
            after = start + at + 5
            if (after + int.from_bytes(code[at + 1 : at + 5], "little", signed=True)) & _U64 == target:
                return after
            at = code.find(_CALL, at + 1)
        return None

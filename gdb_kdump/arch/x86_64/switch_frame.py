"""What a sleeping task left on its stack when its CPU switched to another task, and where that goes on."""

from __future__ import annotations

from gdb_kdump.errors import MissingDebugInfo
from gdb_kdump.layout.layout import thread_size
from gdb_kdump.records.threads import SavedFrame
from gdb_kdump.session import Session

_U64 = (1 << 64) - 1
# arch/x86/include/asm/switch_to.h: SAVE_CONTEXT before 0100301bfdf5 (v4.9): pushf, pushq %rbp.
_PUSHED = SavedFrame(16, {"rbp": 0})
_SWITCHERS = ("__schedule", "schedule")
_LONGEST_FUNCTION = 8192
_CALL = 0xE8


class SwitchFrame:
    """Tells for one session's kernel how `thread.sp` leads to the registers of a sleeping task.

    0100301bfdf5 (v4.9) sched/x86: Rewrite the switch_to() code gave that a type, struct inactive_task_frame.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.is_typed = session.layout.find_struct("inactive_task_frame") is not None

    def pushed(self) -> SavedFrame:
        """The registers pushed at thread.sp where they have no type; raises MissingDebugInfo, Unreadable."""
        return SavedFrame(_PUSHED.size, _PUSHED.offsets, {"rip": self._return_address()})

    def never_ran(self, stack: int, sp: int) -> bool:
        """Whether a task with that stack (its lowest address) and thread.sp waits to run for the first time.

        arch/x86/kernel/process_64.c: copy_thread: its sp is that of its struct pt_regs, and ret_from_fork comes next.
        """
        size = thread_size(self._session.layout, self._session.debuginfo.find_address)
        return bool(sp == stack + size - self._session.layout.size("pt_regs"))

    def _return_address(self) -> int:
        """Where switch_to() goes on: behind its call of __switch_to."""
        find = self._session.debuginfo.find_address
        named, target = find("thread_return"), find("__switch_to")
        if named is not None:
            return named
        for name in _SWITCHERS if target is not None else ():
            start = find(name)
            found = self._call_of(target, start) if target is not None and start is not None else None
            if found is not None:
                return found
        raise MissingDebugInfo(
            "mark where sleeping tasks go on", ["struct inactive_task_frame", "symbol thread_return"]
        )

    def _call_of(self, target: int, start: int) -> int | None:
        """The address behind the first direct call of `target` in the function at `start`, or None."""
        code, _ = self._session.memory.read_prefix(start, _LONGEST_FUNCTION)
        at = code.find(_CALL)
        while 0 <= at < len(code) - 4:
            behind = start + at + 5
            if (behind + int.from_bytes(code[at + 1 : at + 5], "little", signed=True)) & _U64 == target:
                return behind
            at = code.find(_CALL, at + 1)
        return None

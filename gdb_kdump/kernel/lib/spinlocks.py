"""Whether a lock was held when the kernel stopped: a CPU was then in the middle of what it guards."""

from __future__ import annotations

from gdb_kdump.errors import Unreadable
from gdb_kdump.layout.sched import spinlock_word
from gdb_kdump.session import Session


class Spinlocks:
    """Reads the spinlocks of one session."""

    def __init__(self, session: Session) -> None:
        self._memory = session.memory
        self._word, self._has_tickets = spinlock_word(session.layout)

    def is_held(self, lock: int) -> bool:
        """Whether a `spinlock_t *` is held or waited for; False where the kernel has none (no SMP).

        include/asm-generic/qspinlock.h: queued_spin_is_locked.
        """
        if self._word is None:
            return False
        try:
            data = self._memory.read(lock + self._word.offset, self._word.size)
        except Unreadable:
            return False
        half = len(data) // 2
        return data[:half] != data[half:] if self._has_tickets else any(data)

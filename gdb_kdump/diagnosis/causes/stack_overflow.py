"""stack-overflow: the stack ran into its guard page, mostly by a function that calls itself through others.

arch/x86/mm/fault.c: handle_stack_overflow, kernel/sched/core.c: schedule_debug.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from gdb_kdump.diagnosis.causes.answer import CERTAIN, LIKELY, Case, Cause, Evidence
from gdb_kdump.diagnosis.causes.memory import function_name
from gdb_kdump.diagnosis.trip import find_culprit
from gdb_kdump.kernel.stack.unwind import Frame

_SAYS = re.compile(r"stack guard page was hit|kernel stack overflow|corrupted stack end detected")
_FEWEST = 3  # rounds that are a recursion
_STACK = 1 << 15  # bytes: no kernel's is larger
_LARGE = 2048  # bytes: what no function of the kernel may take; CONFIG_FRAME_WARN


def stack_overflow(case: Case) -> Cause | None:
    """The kernel says so; who called whom in circles is in the trace."""
    says = _SAYS.search(case.trip.text)
    if says is None:
        return None
    frames = [frame for frame in case.trip.outward if not frame.source.inlined]
    evidence = [Evidence(says[0], "klog"), Evidence("the trace", "kbt")]
    rounds, cycle = _recursion(frames)
    if not cycle:
        # Between two stacks there is no size.
        pairs = [pair for pair in zip(frames, frames[1:]) if 0 <= pair[1].sp - pair[0].sp < _STACK]
        large = max(pairs, key=lambda pair: pair[1].sp - pair[0].sp, default=None)
        size = large[1].sp - large[0].sp if large is not None else 0
        took = f"; {function_name(large[0].source)} alone took {size} bytes of it" if large and size >= _LARGE else ""
        culprit = find_culprit(large[:1], "it took most of the stack") if large and took else None
        return Cause("stack-overflow", f"the stack is used up{took}", CERTAIN, tuple(evidence), culprit=culprit)
    names = " <- ".join(function_name(frame.source) for frame in cycle[:8])
    more = " <- ..." if len(cycle) > 8 else ""
    used = frames[-1].sp - frames[0].sp
    culprit = find_culprit(cycle, f"it is in all of the {rounds} rounds")
    message = f"the stack is used up by {rounds} rounds of {names}{more}, {used} bytes in all"
    return Cause("stack-overflow", message, CERTAIN if rounds > _FEWEST else LIKELY, tuple(evidence), None, "", culprit)


def _recursion(frames: Sequence[Frame]) -> tuple[int, Sequence[Frame]]:
    """How often the same functions come again, and the frames of one round, innermost first."""
    counts = Counter(frame.source.function or "" for frame in frames)
    counts[""] = 0
    if max(counts.values()) < _FEWEST:
        return 0, ()
    most = max(counts.values())
    # The first function that is in every round, and the frames up to its next one.
    at = next(number for number, frame in enumerate(frames) if counts[frame.source.function or ""] >= most - 1)
    name = frames[at].source.function or ""
    following = next(number for number in range(at + 1, len(frames)) if (frames[number].source.function or "") == name)
    return counts[name], frames[at:following]

"""States of x86-64: what its registers say of where the unwinder is."""

from __future__ import annotations

from gdb_kdump.arch.state import State

_PRIVILEGE = 3  # the privilege level in cs: 3 in user mode; arch/x86/include/asm/ptrace.h: user_mode


def is_user_selector(selector: int) -> bool:
    """Whether a code or stack segment's selector is one of user mode."""
    return bool(selector & _PRIVILEGE)


def state_of(registers: dict[str, int], interrupted: bool) -> State:
    """The state with these registers, of which there must be rip."""
    in_user_mode = is_user_selector(registers.get("cs", 0))
    # Before v4.9 a system call does not save the user's rsp: SAVE_ARGS.
    return State(registers, interrupted, registers["rip"], registers.get("rsp", 0), in_user_mode)


def after_call(registers: dict[str, int]) -> State:
    """The state of a caller with these registers."""
    return State(registers, False, registers["rip"], registers["rsp"], False)

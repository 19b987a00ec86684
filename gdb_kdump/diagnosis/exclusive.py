"""The sk_buffs that the panic task was about to change, and that nobody else may use then."""

from __future__ import annotations

from gdb_kdump.diagnosis.pointers import variables_in
from gdb_kdump.errors import KdumpError
from gdb_kdump.kernel.panic import Panic
from gdb_kdump.session import Session

_ASSERTS = "pskb_expand_head"  # net/core/skbuff.c; skb_cow, skb_unclone, tcp_fragment and others lead there


class ExclusiveUse:
    """Looks for them in the frames of one session's panic task."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._functions: dict[int, str] | None = None

    def function(self, skb: int) -> str:
        """The function that asserts to be alone with the `struct sk_buff *` skb, and that was at it; "" for none."""
        if self._functions is None:
            self._functions = self._find()
        return self._functions.get(skb, "")

    def _find(self) -> dict[int, str]:
        panic = self._session.once(Panic)
        try:
            pointers = variables_in(panic.task()) if panic.happened() else []
        except KdumpError:
            return {}
        return {one.value: one.function for one in pointers if one.type == "sk_buff" and one.function == _ASSERTS}

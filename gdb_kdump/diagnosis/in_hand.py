"""What the panic task was at with an sk_buff: alone with it, or half through its fragments."""

from __future__ import annotations

from gdb_kdump.diagnosis.pointers import Pointer, variables_in
from gdb_kdump.errors import KdumpError
from gdb_kdump.kernel.panic import Panic
from gdb_kdump.session import Session

_ASSERTS = "pskb_expand_head"  # net/core/skbuff.c; skb_cow, skb_unclone, tcp_fragment and others lead there
_MOST_FRAGS = 64  # MAX_SKB_FRAGS is 45 at most
_RELEASES = "__skb_frag_unref"  # include/linux/skbuff.h: what skb_release_data calls for one fragment after the other


class InHand:
    """Looks for that in the frames of one session's panic task, when it is first asked for."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._pointers: list[Pointer] | None = None

    def function(self, skb: int) -> str:
        """The function that asserts to be alone with the `struct sk_buff *` skb, and that was at it; "" for none."""
        at_it = any(one.value == skb and one.type == "sk_buff" and one.function == _ASSERTS for one in self._found())
        return _ASSERTS if at_it else ""

    def released(self, shinfo: int) -> int:
        """How many fragments of a `struct skb_shared_info *` had been released when the task came to the next one."""
        layout = self._session.layout
        first, size = shinfo + layout.offset("skb_shared_info.frags"), layout.size("skb_frag")
        for one in self._found():
            number, rest = divmod(one.value - first, size)
            if one.function == _RELEASES and one.name == "frag" and not rest and 0 <= number < _MOST_FRAGS:
                return number
        return 0

    def _found(self) -> list[Pointer]:
        if self._pointers is None:
            panic = self._session.once(Panic)
            try:
                self._pointers = variables_in(panic.task()) if panic.happened() else []
            except KdumpError:
                self._pointers = []
        return self._pointers

"""What the walk of a queue reads of each sk_buff anyway."""

from __future__ import annotations

from collections.abc import Iterator

from gdb_kdump.layout.unpacker import Column


class Figures:
    """Figures of sk_buffs in the order of a walk, by column, as a queue can hold hundreds of thousands.

    `nodes` are their addresses (struct sk_buff *), `len`, `data_len` and `truesize` the members (bytes), `shared_info`
    what skb_shinfo() of include/linux/skbuff.h gives (struct skb_shared_info *).
    """

    def __init__(self, lengths: Column, data_lengths: Column, truesizes: Column) -> None:
        """The three are empty columns of the kinds that will come."""
        self.nodes: list[int] = []
        self.len = lengths
        self.data_len = data_lengths
        self.truesize = truesizes
        self.shared_info: list[int] = []
        self._met: set[int] = set()

    def __len__(self) -> int:
        return len(self.nodes)

    def __contains__(self, node: int) -> bool:
        return node in self._met

    def __iter__(self) -> Iterator[tuple[int, int, int, int, int]]:
        """Node, len, data_len, truesize and shared_info of each."""
        return zip(self.nodes, self.len, self.data_len, self.truesize, self.shared_info)

    def add(self, node: int, length: int, data_length: int, truesize: int, shared_info: int) -> None:
        """Add those of one sk_buff, which is new."""
        columns = (self.nodes, self.len, self.data_len, self.truesize, self.shared_info)
        for column, value in zip(columns, (node, length, data_length, truesize, shared_info)):
            column.append(value)
        self._met.add(node)

    def extend(
        self,
        nodes: list[int],
        lengths: Column,
        data_lengths: Column,
        truesizes: Column,
        shared_infos: list[int],
    ) -> bool:
        """Add those of some sk_buffs; where one of them has been met before, or comes twice, return False instead."""
        self._met.update(nodes)
        if len(self._met) < len(self.nodes) + len(nodes):
            self._met = set(self.nodes)
            return False
        self.nodes.extend(nodes)
        self.len.extend(lengths)
        self.data_len.extend(data_lengths)
        self.truesize.extend(truesizes)
        self.shared_info.extend(shared_infos)
        return True

    def cut(self, count: int) -> None:
        """Forget all but the first `count`."""
        self._met.difference_update(self.nodes[count:])
        for column in (self.nodes, self.len, self.data_len, self.truesize, self.shared_info):
            del column[count:]

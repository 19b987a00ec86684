"""Red-black trees, walked with distrust: every node once, no pointer followed blindly; include/linux/rbtree.h."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gdb_kdump import walks
from gdb_kdump.errors import Unreadable, Why
from gdb_kdump.layout.layout import Layout
from gdb_kdump.memory import Memory
from gdb_kdump.records.queue import DeadEnd, TreeNode
from gdb_kdump.text import is_kernel_address

_BLACK = 1  # include/linux/rbtree_augmented.h: RB_BLACK


@dataclass(frozen=True)
class Tree:
    """The nodes of a tree in order, and the pointers that lead to none.  Addresses are those of the objects.

    `stopped` says why the walk was given up, or "".
    """

    nodes: tuple[TreeNode, ...]
    dead_ends: tuple[DeadEnd, ...]
    stopped: str = ""


class RbTrees:
    """Reads the trees of one memory."""

    def __init__(self, memory: Memory, layout: Layout) -> None:
        self._memory = memory
        self._root = layout.offset("rb_root.rb_node")
        self._node = layout.unpacker("rb_node", ("__rb_parent_color", "rb_right", "rb_left"))

    def walk(
        self,
        root: int,
        offset: int,
        looks_right: Callable[[int], bool],
        seq: int | None = None,
        is_object: Callable[[int], bool] | None = None,
    ) -> Tree:
        """The tree at a `struct rb_root *` whose nodes stand at `offset` of their objects; raises Unreadable for root.

        `looks_right` tells of an address, in doubt, whether an object of that kind could be there by what it holds,
        `is_object` by whose memory it is: the pointer to one that was overwritten is right.  `seq` is the offset of a
        u32 in the objects, which is then read too.  Mirrors lib/rbtree.c: rb_first, rb_next.
        """
        descent = _Descent(self, offset, looks_right, seq, is_object)
        first = self._memory.ptr(root + self._root)
        try:
            stopped = descent.follow(first)
        except KeyboardInterrupt:
            stopped = walks.interrupt()
        return Tree(tuple(descent.nodes), tuple(descent.dead_ends), stopped)

    def read(self, addr: int, above: int, offset: int, seq: int | None) -> TreeNode:
        """The node in the object at `addr`, found below `above`; raises Unreadable."""
        word, right, left = self._node.unpack_from(*self._memory.block(addr + offset, self._node.span))
        parent = word & ~3
        number = self._memory.u32(addr + seq) if seq is not None else None
        return TreeNode(addr, above, parent - offset if parent else 0, bool(word & _BLACK), left, right, number)

    def belongs(self, node: TreeNode, offset: int) -> bool:
        """Whether that is a node of this tree at all: what hangs below it, or it itself, says so.

        A node whose parent pointer was overwritten still is one; the object at the end of a wild pointer is none.
        """
        children = [child for child in (node.left, node.right) if child]
        for child in children:
            try:
                word = self._memory.u64(child)
            except Unreadable:
                return False
            if word & ~3 != node.addr + offset:
                return False
        # A leaf has only its parent pointer to show: if that leads to a real parent, it is at home there.
        return bool(children) or not self._is_child_of(node, offset)

    def _is_child_of(self, node: TreeNode, offset: int) -> bool:
        if not is_kernel_address(node.parent) or node.parent & 7:
            return False
        try:
            _, right, left = self._node.unpack_from(*self._memory.block(node.parent + offset, self._node.span))
        except Unreadable:
            return False
        return node.addr + offset in (left, right)


class _Descent:
    """One walk through a tree, in the order of its nodes, with what it came by; the parameters are those of walk()."""

    def __init__(
        self,
        trees: RbTrees,
        offset: int,
        looks_right: Callable[[int], bool],
        seq: int | None,
        is_object: Callable[[int], bool] | None,
    ) -> None:
        self.nodes: list[TreeNode] = []
        self.dead_ends: list[DeadEnd] = []
        self._trees = trees
        self._offset, self._seq = offset, seq
        self._looks_right, self._is_object = looks_right, is_object
        self._met: set[int] = set()

    def follow(self, first: int) -> str:
        """Take all nodes from the `struct rb_node *` of the root on; returns why that was given up, or ""."""
        stack: list[TreeNode] = []
        pending = first, 0, "rb_node"
        while stack or pending[0]:
            while pending[0]:
                if len(self._met) >= walks.max_elements():
                    return walks.too_many("the tree")
                node = self._visit(pending[0] - self._offset, pending[1], pending[2])
                if node is None:
                    break
                stack.append(node)
                pending = node.left, node.addr, "rb_left"
            if not stack:
                break
            node = stack.pop()
            self.nodes.append(node)
            pending = node.right, node.addr, "rb_right"
        return ""

    def _visit(self, addr: int, above: int, member: str) -> TreeNode | None:
        """The node at the end of a pointer, or None and one dead end more."""
        why: Why | None = None
        if addr not in self._met:
            try:
                node = self._read(addr, above)
                if node is not None:
                    self._met.add(addr)
                    return node
                why = Why.CORRUPT
            except Unreadable as error:
                why = error.why
        self.dead_ends.append(DeadEnd(above, member, addr, why))
        return None

    def _read(self, addr: int, above: int) -> TreeNode | None:
        """The node there, None where it is none of this tree; raises Unreadable."""
        if not is_kernel_address(addr) or addr & 7:
            raise Unreadable(addr, Why.UNMAPPED)
        node = self._trees.read(addr, above, self._offset, self._seq)
        if node.parent == above or (self._looks_right(addr) and self._trees.belongs(node, self._offset)):
            return node
        is_overwritten = bool(node.parent) and not is_kernel_address(node.parent)
        return node if is_overwritten and self._is_object is not None and self._is_object(addr) else None

"""The registers of sleeping threads, which are in the dump's memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping


class SavedRegisters(Mapping[str, int]):
    """The registers that a sleeping thread left on its stack, read when they are asked for."""

    def __init__(
        self,
        read: Callable[[int, int], bytes],
        addr: int,
        size: int,
        offsets: dict[str, int],
        fixed: dict[str, int],
        relative: dict[str, int],
    ) -> None:
        self._read, self._addr, self._size, self._offsets = read, addr, size, offsets
        self._known = {**fixed, **{name: addr + offset for name, offset in relative.items()}}
        self._frame: bytes | None = None

    def __getitem__(self, name: str) -> int:
        if name in self._known:
            return self._known[name]
        offset = self._offsets[name]
        if self._frame is None:
            self._frame = self._read(self._addr, self._size)
        data = self._frame[offset : offset + 8]
        if len(data) < 8:  # it lies after a hole
            data = self._read(self._addr + offset, 8)
        if len(data) < 8:
            raise KeyError(name)
        return int.from_bytes(data, "little")

    def __iter__(self) -> Iterator[str]:
        return iter((*self._offsets, *self._known))

    def __len__(self) -> int:
        return len(self._offsets) + len(self._known)

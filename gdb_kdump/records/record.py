"""The decorator of records of which there are many."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:  # it came with Python 3.11, and only type checkers need it

    def dataclass_transform(**_: Any) -> Any:
        return lambda decorator: decorator


T = TypeVar("T")

# Python 3.9 has no slots for dataclasses: there a record takes more memory, and works all the same.
_SLOTS: dict[str, Any] = {"slots": True} if sys.version_info >= (3, 10) else {}


@dataclass_transform(frozen_default=True)
def record(cls: type[T]) -> type[T]:
    """A dataclass that only mypy holds to be frozen: a really frozen one takes ten times as long to make."""
    return dataclass(unsafe_hash=True, **_SLOTS)(cls)

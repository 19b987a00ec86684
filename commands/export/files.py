"""Files that a command writes: new ones, which only their owner can read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedWriter
from pathlib import Path

from gdb_kdump.errors import KdumpError, UsageError, words_of


def named(name: str) -> Path:
    """The file that an operand names, quoted or with `~`."""
    return Path(name.strip("\"'")).expanduser().absolute()


@contextmanager
def new_file(file: Path) -> Iterator[BufferedWriter]:
    """A new file to write to; raises UsageError.  Nothing is overwritten; where writing fails, no file stays behind."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UsageError(f"{file} exists, and is not overwritten: name a new file") from None
    except OSError as error:
        raise UsageError(f"cannot write {file}: {words_of(error)}") from None
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
    except BaseException as error:
        file.unlink(missing_ok=True)
        if isinstance(error, OSError) and not isinstance(error, KdumpError):
            raise UsageError(f"cannot write {file}: {words_of(error)}") from None
        raise

"""A vmlinux from debuginfod: what a server has, how large it is, and debuginfod-find to fetch and keep it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from gdb_kdump.errors import DumpError
from gdb_kdump.installing import how_to_install

_VARIABLE = "DEBUGINFOD_URLS"
_SITE = Path("/etc/debuginfod")  # *.urls: what a login shell makes the variable of, and sudo drops
_FINDER = "debuginfod-find"
_SECONDS = 20
_BUILD_ID = re.compile(r"[0-9a-f]{2,128}")


@dataclass(frozen=True)
class Offer:
    """A server that has a file, and the file's size in bytes where it says it."""

    server: str
    size: int | None


def servers() -> list[str]:
    """The servers of $DEBUGINFOD_URLS, or of /etc/debuginfod where that is not set."""
    urls = os.environ.get(_VARIABLE)
    if urls is None:
        try:
            urls = " ".join(path.read_text(errors="replace") for path in sorted(_SITE.glob("*.urls")))
        except OSError:
            urls = ""
    return [url for url in urls.split() if re.match(r"(https?|file)://", url)]


def cached(build_id: str) -> Path | None:
    """The file that debuginfod-find keeps of a build-id, or None."""
    path = _cache() / build_id / "debuginfo"
    try:
        return path if path.is_file() and path.stat().st_size else None
    except OSError:
        return None


def _cache() -> Path:
    named = os.environ.get("DEBUGINFOD_CACHE_PATH")
    if named:
        return Path(named)
    old = Path("~/.debuginfod_client_cache").expanduser()
    if old.is_dir():
        return old
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "debuginfod_client"


def find_offer(build_id: str, urls: Sequence[str]) -> Offer | None:
    """The first server that may have it: with the size from the headers of an answer of which no more is read."""
    offer = None
    for url in urls:
        if url.startswith("file:"):
            offer = offer or Offer(url, None)
            continue
        address = f"{url.rstrip('/')}/buildid/{build_id}/debuginfo"
        try:
            with urllib.request.urlopen(address, timeout=_SECONDS) as response:
                sizes = (response.headers.get(name) for name in ("X-DEBUGINFOD-SIZE", "Content-Length"))
                size = next((int(size) for size in sizes if size is not None and size.isdecimal()), None)
                return Offer(url, size)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != 404:
                offer = offer or Offer(url, None)
        except TimeoutError:  # it may be unpacking the package meanwhile
            offer = offer or Offer(url, None)
        except (OSError, HTTPException, ValueError):  # it cannot be reached
            continue
    return offer


def fetch(build_id: str, urls: Sequence[str]) -> Path:
    """The file, fetched and kept by debuginfod-find; raises DumpError."""
    if not _BUILD_ID.fullmatch(build_id):
        raise DumpError(f"{build_id!r} is no build-id")
    finder = shutil.which(_FINDER)
    if finder is None:
        raise DumpError(f"{_FINDER} is not here: {how_to_install(['debuginfod'])}")
    environment = {**os.environ, _VARIABLE: " ".join(urls)}
    if sys.stderr.isatty():
        environment.setdefault("DEBUGINFOD_PROGRESS", "1")
    run = subprocess.run(
        [finder, "debuginfo", build_id], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        check=False,
    )  # fmt: skip
    path = run.stdout.strip()
    if run.returncode or not path:
        raise DumpError(
            f"{_FINDER} has not got it from {' '.join(urls)} (status {run.returncode}): what it said is above"
        )
    return Path(path)

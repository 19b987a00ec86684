"""Spans of time for people."""

from __future__ import annotations


def elapsed(nanoseconds: int | None) -> str:
    """A span as crash's `ps -m` shows it, [days hours:minutes:seconds.milliseconds]; "" for None."""
    if nanoseconds is None:
        return ""
    seconds, rest = divmod(nanoseconds, 10**9)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"[{days} {hours:02}:{minutes:02}:{seconds:02}.{rest // 10**6:03}]"

"""Judgement: pure functions over plain records that yield Findings; nothing here reads memory or prints.

A rule takes one record and yields what is wrong with it.  Its docstring names the kernel invariant that it mirrors
and the traps that would make it cry wolf.  To add one: write the function in the file of its subject, append it to
the tuple there, and give it a healthy and a damaged record in tests/rules/test_rules_skb.py.  The rules of the shared
info take it beside its sk_buff.
"""

from __future__ import annotations

from gdb_kdump.errors import Unreadable
from gdb_kdump.records.queue import Queue
from gdb_kdump.records.skb import Skb
from gdb_kdump.records.sock import SockAccounts
from gdb_kdump.rules import offload, overrun, queue, references, shinfo, skb, sock
from gdb_kdump.rules.findings import CORRUPT, Finding
from gdb_kdump.rules.skb import is_consequence

_SKB_RULES = (*skb.RULES, *references.RULES, *offload.RULES)
_SHINFO_RULES = (*shinfo.RULES, *offload.OF_SHINFO)


def judge_skb(record: Skb) -> list[Finding]:
    """What is wrong with an sk_buff and its shared info."""
    return judge_members(record) + judge_shinfo(record)


def judge_members(record: Skb) -> list[Finding]:
    """What is wrong with an sk_buff and what it refers to, but for its shared info."""
    findings = [finding for rule in _SKB_RULES for finding in rule(record)]
    return [finding for finding in findings if not is_consequence(record, finding)] if record.overwritten else findings


def judge_shinfo(record: Skb) -> list[Finding]:
    """What is wrong with the shared info of an sk_buff, and who wrote over it."""
    info = record.shinfo
    if isinstance(info, Unreadable):
        return []
    findings = [finding for rule in _SHINFO_RULES for finding in rule(record, info)]
    if any(finding.severity == CORRUPT for finding in findings):
        findings += overrun.overrun(record)
    return findings


def judge_queue(record: Queue) -> list[Finding]:
    """What is wrong with the linkage of a queue."""
    return [finding for rule in queue.RULES for finding in rule(record)]


def judge_sock(record: SockAccounts) -> list[Finding]:
    """What is wrong between a socket and the sk_buffs on its queues."""
    return [finding for rule in sock.RULES for finding in rule(record)]

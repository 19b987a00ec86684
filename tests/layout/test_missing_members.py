"""A member that the types lack is named with what was looked for, and whatever needs it not still works."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from fixtures.kernels import HERE, KERNELS
from fixtures.kernels.system import System, make_system
from fixtures.kernels.variants import Variation
from fixtures.program import link_kernel
from pytest_gdb_fixtures import Gdb

KERNEL = KERNELS["5.14"]

# The member that is called otherwise, the logical one that is missed, and which commands must do without an answer.
MISSING = {
    "sk_buff truesize": ("sk_buff.truesize", {"skbwalk", "shinfo", "skbcheck", "ktriage"}),
    "sk_buff users": ("sk_buff.users", {"shinfo", "skbcheck", "ktriage"}),
    "skb_shared_info frags": ("skb_shared_info.frags", {"shinfo", "skbcheck", "ktriage"}),
    "sk_buff_head qlen": ("sk_buff_head.qlen", {"skbwalk", "skbcheck"}),
    "sock_common skc_family": ("sock.family", {"ksock", "skbwalk", "skbcheck"}),
    "proto name": ("proto.name", set()),
    "net list": ("net.list", set()),
    "udp_table mask": ("udp_table.mask", set()),
    "page flags": ("page.flags", {"kslab"}),
    "kmem_cache name": ("kmem_cache.name", {"kslab"}),
    "kmem_cache_cpu freelist": ("kmem_cache_cpu.freelist", set()),
    "printk_info text_len": ("printk_info.text_len", {"klog"}),
    "module list": ("module.list", set()),
    "task_struct tasks": ("task_struct.tasks", set()),
    "task_struct comm": ("task_struct.comm", set()),
    "task_struct __state": ("task_struct.state", set()),
    "rq idle": ("rq.idle", set()),
}  # fmt: skip


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> System:
    return make_system(KERNEL, tmp_path_factory.mktemp("system"))


@pytest.mark.parametrize("where", MISSING)
def test_the_others_go_on(where: str, system: System, gdb_run: Gdb, tmp_path: Path) -> None:
    tag, member = where.split()
    variation = Variation(KERNEL, 0)
    variation.edit_member(tag, rf"\b{member}\b", f"called_otherwise_{member}")
    source = tmp_path / "kernel.c"
    source.write_text(variation.source())
    vmlinux = link_kernel(tmp_path, [source], options=["-iquote", str(HERE)])
    at = system.at
    commands = [
        "kinfo", "kps", "klog", "kmod", "ksock", "kslab -l", f"skbwalk {at['udp']:#x}",
        f"shinfo {at['udp.receive0']:#x}", f"skbcheck --sock {at['udp']:#x}", "ktriage",
    ]  # fmt: skip
    run = gdb_run(*[f"{command} --json" for command in commands], vmcore=system.vmcore, vmlinux=vmlinux)
    assert "Traceback" not in run.output and "Python Exception" not in run.output, run.output
    logical, without = MISSING[where]
    failed = set(re.findall(r"^(\w+): the debug information has no ", run.stderr, re.MULTILINE))
    assert failed == without, run.stderr
    assert f"(tried: {tag}.{member}" in run.output or logical in run.output, run.output
    answers = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    assert len(answers) == len(commands) - len(without), run.output

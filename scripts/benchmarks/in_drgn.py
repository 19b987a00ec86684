"""Run by drgn's Python: in_drgn.py VMCORE traces, or VMCORE walk SOCK; writes to $BENCH_RESULT as in_gdb.py does."""

import os
import sys
import time
from collections.abc import Callable

from drgn import MissingDebugInfoError, Object, Program, offsetof
from drgn.helpers.linux.sched import task_cpu  # noqa: F401

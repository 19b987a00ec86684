"""The GDB commands, one file each: the only code of gdb-kdump that formats output.  Imported as gdb_kdump.commands."""

from __future__ import annotations

import gdb
from gdb.unwinder import register_unwinder

from gdb_kdump.commands import refusals
from gdb_kdump.commands.base import show_notices
from gdb_kdump.commands.functions import FUNCTIONS, Function
from gdb_kdump.commands.kbt import Kbt
from gdb_kdump.commands.kinfo import Kinfo
from gdb_kdump.commands.klock import Klock
from gdb_kdump.commands.klog import Klog
from gdb_kdump.commands.kmod import Kmod
from gdb_kdump.commands.knet import Knet
from gdb_kdump.commands.kps import Kps
from gdb_kdump.commands.krd import Krd
from gdb_kdump.commands.kreport import Kreport
from gdb_kdump.commands.ksearch import Ksearch
from gdb_kdump.commands.kslab import Kslab
from gdb_kdump.commands.ksock import Ksock
from gdb_kdump.commands.kstruct import Kstruct
from gdb_kdump.commands.ktriage import Ktriage
from gdb_kdump.commands.kwalk import Kwalk
from gdb_kdump.commands.kwhat import Kwhat
from gdb_kdump.commands.settings import SETTINGS
from gdb_kdump.commands.shinfo import Shinfo
from gdb_kdump.commands.skbcheck import Skbcheck
from gdb_kdump.commands.skbwalk import Skbwalk
from gdb_kdump.commands.target import TargetKdump
from gdb_kdump.target.connection import forget
from gdb_kdump.target.frame_filter import ModuleFrameFilter
from gdb_kdump.target.unwinder import KernelUnwinder

COMMANDS = (
    TargetKdump,
    Kinfo,
    Kps,
    Kbt,
    Kstruct,
    Shinfo,
    Skbwalk,
    Skbcheck,
    Klog,
    Ktriage,
    Kmod,
    Kslab,
    Ksock,
    Kwalk,
    Kwhat,
    Ksearch,
    Krd,
    Klock,
    Knet,
    Kreport,
)

_registered = False


def register() -> None:
    """Register every command with GDB; harmless when repeated."""
    global _registered
    if _registered:
        return
    for command in (*COMMANDS, *SETTINGS):
        command()
    for name, help, body in FUNCTIONS:
        Function(name, help, body)
    refusals.register()
    ModuleFrameFilter(gdb.write)
    register_unwinder(None, KernelUnwinder(), replace=True)  # type: ignore[arg-type]  # the stubs want a function
    gdb.events.connection_removed.connect(lambda event: forget(event.connection))
    # For GDB's own commands; the stubs give it an argument, GDB gives it none.
    gdb.events.before_prompt.connect(show_notices)  # type: ignore[arg-type]
    _registered = True

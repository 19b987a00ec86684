"""set kdump ..., show kdump ...: the settings of gdb-kdump."""

from __future__ import annotations

import gdb

from gdb_kdump import session, walks
from gdb_kdump.kernel.module.symbols import ModuleSymbols


class SetKdump(gdb.Command):
    """Change the settings of gdb-kdump."""

    def __init__(self) -> None:
        super().__init__("set kdump", gdb.COMMAND_DATA, gdb.COMPLETE_NONE, True)


class ShowKdump(gdb.Command):
    """Show the settings of gdb-kdump."""

    def __init__(self) -> None:
        super().__init__("show kdump", gdb.COMMAND_DATA, gdb.COMPLETE_NONE, True)


class MaxElements(gdb.Parameter):
    """The most elements of one list, tree, table or queue of the kernel that a command walks.
    Damaged memory is full of lists without an end and of counts that nothing ever had.  A walk that comes to this
    limit says so, and shows what it has; Ctrl-C stops it earlier."""

    set_doc = "Set the most elements of one list, tree, table or queue that is walked."
    show_doc = "Show the most elements of one list, tree, table or queue that is walked."

    def __init__(self) -> None:
        super().__init__("kdump max-elements", gdb.COMMAND_DATA, gdb.PARAM_ZINTEGER)
        self.value: int = walks.DEFAULT_MAX_ELEMENTS

    def get_set_string(self) -> str:
        """Take the new value over; raises gdb.GdbError for one that is no limit."""
        if self.value < 1:
            wrong, self.value = self.value, walks.max_elements()
            raise gdb.GdbError(f"kdump max-elements must be at least 1, not {wrong}")
        walks.set_max_elements(self.value)
        opened = session.find_current()
        if opened is not None:
            opened.forget_walks(ModuleSymbols)
        return ""

    def get_show_string(self, value: str) -> str:
        """The sentence for `show kdump max-elements`."""
        return f"Walks take at most {value} elements of one list, tree, table or queue."


class Payload(gdb.Parameter):
    """Whether skbcheck and ktriage draw the bytes around the end of an sk_buff's buffer whose shared info is corrupt.
    They are what overwrote it, and with that a part of what the machine had sent or received: switch them off for a
    text that others shall read.  Commands that are asked for bytes (kstruct -r, skbwalk --pcap, x) show them anyway."""

    set_doc = "Set whether the bytes around a corrupt shared info are shown."
    show_doc = "Show whether the bytes around a corrupt shared info are shown."

    def __init__(self) -> None:
        super().__init__("kdump payload", gdb.COMMAND_DATA, gdb.PARAM_BOOLEAN)
        self.value = True

    def get_set_string(self) -> str:
        """Take any value without a word."""
        return ""

    def get_show_string(self, value: str) -> str:
        """The sentence for `show kdump payload`."""
        return f"Showing the bytes around a corrupt shared info is {value}."


SETTINGS = (SetKdump, ShowKdump, MaxElements, Payload)

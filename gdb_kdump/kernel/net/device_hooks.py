"""What the readers of functions that hang in network devices have in common."""

from __future__ import annotations

from gdb_kdump.kernel.module.code import CodeOwners
from gdb_kdump.kernel.net.devices import NetDevices
from gdb_kdump.kernel.net.namespaces import Nets
from gdb_kdump.session import Session


class DeviceHooks:
    """A reader of one session's hooks: with the devices, their namespaces, and whose code a function is."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._layout = session.layout
        self._code = session.once(CodeOwners)
        self._devices = session.once(NetDevices)
        self._nets = session.once(Nets)

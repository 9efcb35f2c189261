"""Verbs: the only list of what a running stack can be asked, and what each answers.

A verb takes named arguments, checks their types against its signature, and answers with something
JSON can say. Names of verbs and of what they answer are the interface; see also the README.
"""

import errno
import inspect
import os
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import Any

from fusedm.block import BlockDevice
from fusedm.block.errors import ControlError, StackError
from fusedm.control.device_commands import DeviceVerbs
from fusedm.control.key_commands import KeyVerbs
from fusedm.control.looking import Looking, Verifying
from fusedm.control.nbd_commands import NbdVerbs
from fusedm.control.protocol import Request
from fusedm.control.telling import Telling
from fusedm.control.wire import decode_arguments
from fusedm.export import Servers
from fusedm.host.mounts import mount_at
from fusedm.stack import Stack, format_spec
from fusedm.stores import WaitingStore

Json = dict[str, Any]


class Commands:
    """The verbs of one stack; stop is called to have the daemon end.

    Without a mount, mount_point is the socket by whose path the stack is found.
    """

    def __init__(
        self,
        stack: Stack,
        mount_point: Path,
        stop: Callable[[], None],
        has_lane: bool = True,
        servers: Servers | None = None,
        has_mount: bool = True,
    ) -> None:
        servers = servers if servers is not None else Servers(stack.system)
        devices, telling = DeviceVerbs(stack), Telling(stack.system, mount_point, has_mount)
        looking = Looking(stack, has_lane)
        self._names = stack.system.names
        #: What carries out each.
        self.verbs: dict[str, Callable[..., object]] = {
            **_methods("", StackVerbs(stack, mount_point if has_mount else None, stop, servers)),
            **_methods("nbd.", NbdVerbs(servers)),
            **_methods("dm.", stack.dm),
            **_methods("key.", KeyVerbs(stack)),
            **_methods("verify.", Verifying(stack)),
            "ls": telling.ls,
            "file": telling.file,
            "disk.add": devices.add_disk,
            "disk.remove": stack.remove_disk,
            "disk.show": telling.disk,
            "disk.losepower": stack.lose_power,
            "disk.loseengine": stack.lose_engine,
            "disk.gainengine": devices.gain_engine,
            "disk.resetengine": stack.reset_engine,
            "dm.show": telling.mapped,
            "key.remove": stack.remove_key,
            "view.add": devices.add_view,
            "view.remove": stack.system.remove_view,
            "view.show": telling.view,
            "why": looking.why,
            "why.table": looking.swap,
            "explain": looking.explain,
        }

    async def dispatch(self, request: Request) -> object:
        """Carry out a request, after what was asked of files before it.

        Raises: FusedmError; ControlError for an unknown verb or arguments it does not take.
        """
        verb = self.verbs.get(request.verb)
        if verb is None:
            raise ControlError(f"verb {request.verb!r} is unknown")
        await self._names.catch_up()
        result = verb(**decode_arguments(request.verb, verb, request.args))
        return await result if inspect.isawaitable(result) else result


def _methods(prefix: str, verbs: object) -> dict[str, Callable[..., object]]:
    """The public methods of an object as verbs."""
    names = [name for name in vars(type(verbs)) if not name.startswith("_")]
    return {prefix + name: getattr(verbs, name) for name in names}


class StackVerbs:
    """The verbs on the stack as a whole; each public method is one. It may have no mount."""

    def __init__(
        self, stack: Stack, mount_point: Path | None, stop: Callable[[], None], servers: Servers
    ) -> None:
        self._stack = stack
        self._servers = servers
        self._system = stack.system
        self._mount_point = mount_point
        self._stop = stop
        mounted = mount_at(str(mount_point)) if mount_point is not None else None
        #: The number of its file system, by which it is found when it is mounted there no more.
        self._device = mounted.device if mounted is not None else None

    def status(self) -> Json:
        """What is running and how much of it."""
        system = self._system
        devices: Iterable[BlockDevice] = chain(system.disks.values(), system.mapped.values())
        stores = {name: disk.store for name, disk in system.disks.items()}
        states = [f"{n}: {s.state}" for n, s in stores.items() if isinstance(s, WaitingStore)]
        return {
            "mount_point": str(self._mount_point) if self._mount_point is not None else None,
            "nbd": [server["address"] for server in self._servers.list()],
            "device": self._device,
            "pid": os.getpid(),
            "strict": "linux" if system.strict else None,
            "disks": len(system.disks),
            "mapped": len(system.mapped),
            "keys": len(system.keys),
            "views": len(system.views),
            "suspended": [name for name, mapped in system.mapped.items() if mapped.suspended],
            "in_flight": sum(device.stats.in_flight for device in devices),
        } | ({"stores": states} if states else {})

    def save(self, folder: str | None = None) -> str:
        """The stack file that brings up the stack as it is now, to be kept in a folder.

        Without one its paths are absolute.
        """
        return format_spec(self._stack.spec(Path(folder) if folder is not None else None))

    def stop(self, force: bool = False) -> None:
        """End the daemon; files that are open refuse it, unless forced."""
        open_now = [
            name for name in self._system.names.created if self._system.names.open_count(name)
        ]
        if open_now and not force:
            raise StackError(f"{', '.join(open_now)}: open", errno.EBUSY)
        self._stop()

"""The daemon behind dmsetup: one for each user and folder of nodes, there while a device is.

It is started by the first device and ends with the last one. Both happen under a lock, so that no
device is made in a daemon that is about to end.
"""

import errno
import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fusedm.block.device_mapper import DeviceInfo, Number
from fusedm.block.errors import ControlError, FusedmError, StackError
from fusedm.control import Client, MapperClient, bring_down, lock_path, stack_at
from fusedm.dmsetup.server_socket import is_server_missing
from fusedm.host import mounts, nodes
from fusedm.host.mounts import run_tool
from fusedm.host.run_folder import run_folder, run_folders
from fusedm.system import MAPPED_MAJOR

#: How long starting it may take before it is given up.
START_SECONDS = 60.0


class Session:
    """What one command asks of the daemon, which need not be there."""

    def __init__(self, dev_dir: str = "", mount_point: str = "") -> None:
        self.dev_dir = dev_dir or nodes.dev_dir()
        self.mount_point = mount_point or place_of(self.dev_dir)
        self.records = Path(self.mount_point).parent
        self.mapper = MapperClient(self.call)
        self._found_root: str | None = None
        self._client: Client | None = None

    def call(self, verb: str, **args: object) -> Any:
        """Have a verb of the daemon carried out.

        Raises: FusedmError as it refuses; ENXIO if there is none, since then there is no device.
        """
        try:
            return self._connected().call(verb, **args)
        except ControlError:
            self.close()
            raise
        except FusedmError:
            raise
        except BaseException:  # What comes now is not the answer to what is asked next.
            self.close()
            raise

    def _connected(self) -> Client:
        if self._client is not None and not self._client.is_open:
            self.close()
        if self._client is None:
            try:
                self._client = Client(self.mount_point)
            except ControlError as error:
                if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
                    raise StackError("there is no device", errno.ENXIO) from None
                raise
        return self._client

    def path(self, told: DeviceInfo) -> str:
        """The file of a device, as it can be opened here: the daemon may be in another namespace.

        Raises: StackError where it cannot.
        """
        return self._root() + told.path

    def _root(self) -> str:
        if self._found_root is None:
            self._found_root = self._connected().root()
        return self._found_root

    def close(self) -> None:
        """Hang up."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def devices(self) -> list[DeviceInfo]:
        """What the daemon tells of every device."""
        try:
            return self.mapper.ls()
        except StackError as error:
            if error.errno != errno.ENXIO:
                raise
            return []

    def create(self, name: str, uuid: str, minor: int | None) -> DeviceInfo:
        """Make a device, in a daemon that is started if there is none.

        Raises: FusedmError.
        """
        with self.locked():
            self._start()
            if os.geteuid() == 0:
                self._root()  # Where it cannot be seen, there would be no node.
            return self.mapper.add(name, uuid=uuid, minor=minor)

    def end_if_empty(self) -> None:
        """End the daemon if no device is left, and clear its folder."""
        with self.locked():
            try:
                count = self.call("status")["mapped"]
            except StackError:
                count = 0
            if not count:
                self._clear()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let nobody else start or end the daemon meanwhile."""
        path = lock_path(self.mount_point)
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                if os.path.samestat(os.fstat(fd), os.stat(path)):
                    break
            except FileNotFoundError:
                pass  # Who had it before has cleared everything.
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)
        try:
            yield
        finally:
            if not os.path.lexists(self.mount_point):
                path.unlink(missing_ok=True)
            os.close(fd)

    def _start(self) -> None:
        stack = stack_at(self.mount_point)
        is_alive = stack is not None and stack.is_alive
        if is_alive and not is_server_missing():
            return
        if not is_alive:
            self._clear()
        os.makedirs(self.mount_point, mode=0o700, exist_ok=True)
        # It gets a process whose command line says nothing: ours may show a table with a key.
        try:
            command = [sys.executable, "-P", "-X", "utf8", "-m", "fusedm.dmsetup", self.dev_dir]
            run_tool(*command, seconds=START_SECONDS)
        except FusedmError as error:
            with suppress(OSError):
                os.rmdir(self.mount_point)
            text = str(error).removeprefix(f"{sys.executable}: ")
            raise ControlError(text, error.errno) from None

    def _clear(self) -> None:
        """End the daemon, or clear what a killed one has left."""
        self.close()
        if stack_at(self.mount_point) is not None or mounts.mount_at(self.mount_point) is not None:
            bring_down(self.mount_point, force=True)
        nodes.clear_stale(self.records)
        with suppress(FileNotFoundError):
            os.rmdir(self.mount_point)


def place_of(dev_dir: str) -> str:
    """Where the daemon for a folder of nodes is mounted: dm in the run folder, or dm and a number.

    One that runs is found in whichever run folder it was started.
    Raises: UsageError if there is no folder to be had.
    """
    if dev_dir == nodes.DEV_DIR:
        name = "dm"
    else:
        name = f"dm-{hashlib.sha256(os.fsencode(dev_dir)).hexdigest()[:12]}"
    for folder in run_folders():
        place = os.path.realpath(folder / name)
        stack = stack_at(place)
        if stack is not None and stack.is_alive:
            return place
    return os.path.realpath(run_folder() / name)


def watch_deferred(session: Session, name: str) -> None:
    """Have a process of its own remove a device once nobody uses it."""
    command = [sys.executable, "-P", "-m", "fusedm.dmsetup", session.dev_dir, name]
    nothing = subprocess.DEVNULL
    subprocess.Popen(
        command, stdin=nothing, stdout=nothing, stderr=nothing, cwd="/", start_new_session=True
    )


def name_of_ours(number: Number) -> str:
    """What the kernel calls the loop device of a device; without one, what it might call it.

    Another block device of this machine may have the number that one without a loop device has.
    """
    known = block_name(number) if number[0] != MAPPED_MAJOR else None
    return known or f"dm-{number[1]}"


def block_name(number: Number) -> str | None:
    """What the kernel calls a block device, as below /sys/block."""
    with suppress(OSError):
        return os.path.basename(os.readlink(f"/sys/dev/block/{number[0]}:{number[1]}"))
    return None

"""Bringing stacks up: what is checked before a daemon starts, here or in its own process."""

import os
from collections.abc import Callable
from pathlib import Path

from fusedm.block.errors import StackError
from fusedm.control.bring import clear_dead
from fusedm.control.daemon import DaemonConfig, run_daemon
from fusedm.control.detached import start_detached
from fusedm.host import mounts
from fusedm.host.kernel_mount import MountOptions
from fusedm.stack import read_spec


def daemon_config(
    stack_file: str, mount_point: str | None, options: MountOptions, nbd_socket: str = ""
) -> DaemonConfig:
    """What is to be served, checked as far as it can be without doing it.

    Without a mount point it is only served at the NBD socket, by whose path it is found then.
    What a killed daemon has left of it is cleared.
    Raises: SpecError; StackError for a mount point that cannot be used.
    """
    spec = read_spec(stack_file)
    where = mount_point if mount_point is not None else nbd_socket
    clear_dead(where)
    if mount_point is not None:
        mounts.check_mount_point(mount_point)
    file = Path(stack_file).resolve()
    return DaemonConfig(
        spec,
        str(file),
        Path(os.path.realpath(where)),
        options,
        file.parent,
        os.path.realpath(nbd_socket) if nbd_socket else "",
        mount_point is not None,
    )


def bring_up(
    stack_file: str, mount_point: str | None, options: MountOptions, nbd_socket: str = ""
) -> None:
    """Have a stack served by a process of its own; returns when it answers.

    Raises: FusedmError; nothing is left then.
    """
    start_detached(daemon_config(stack_file, mount_point, options, nbd_socket))


def serve_here(
    stack_file: str,
    mount_point: str | None,
    options: MountOptions,
    on_ready: Callable[[str], None],
    nbd_socket: str = "",
) -> None:
    """Serve a stack in this process until it has ended; on_ready is given where it is found.

    Raises: FusedmError; nothing is left then.
    """
    config = daemon_config(stack_file, mount_point, options, nbd_socket)

    async def tell() -> None:
        on_ready(str(config.mount_point))

    try:
        run_daemon(config, tell)
    except OSError as error:
        raise StackError(f"{config.mount_point}: {error.strerror or error}", error.errno) from None

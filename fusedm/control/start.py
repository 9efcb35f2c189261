"""Bringing stacks up: what is checked before a daemon starts, here or in its own process."""

import os
from collections.abc import Callable
from pathlib import Path

from fusedm.block.errors import StackError
from fusedm.control.bring import clear_dead
from fusedm.control.daemon import DaemonConfig, run_daemon
from fusedm.control.detached import start_detached
from fusedm.fuse import MountOptions
from fusedm.host import mounts
from fusedm.stack import read_spec


def daemon_config(stack_file: str, mount_point: str, options: MountOptions) -> DaemonConfig:
    """What is to be served, checked as far as it can be without doing it.

    What a killed daemon has left of it is cleared.
    Raises: SpecError; StackError for a mount point that cannot be used.
    """
    spec = read_spec(stack_file)
    clear_dead(mount_point)
    mounts.check_mount_point(mount_point)
    file = Path(stack_file).resolve()
    return DaemonConfig(spec, str(file), Path(os.path.realpath(mount_point)), options, file.parent)


def bring_up(stack_file: str, mount_point: str, options: MountOptions) -> None:
    """Have a stack served by a process of its own; returns when the mount answers.

    Raises: FusedmError; nothing is left then.
    """
    start_detached(daemon_config(stack_file, mount_point, options))


def serve_here(
    stack_file: str, mount_point: str, options: MountOptions, on_ready: Callable[[str], None]
) -> None:
    """Serve a stack in this process until it has ended; on_ready is given the mount point.

    Raises: FusedmError; nothing is left then.
    """
    config = daemon_config(stack_file, mount_point, options)

    async def tell() -> None:
        on_ready(str(config.mount_point))

    try:
        run_daemon(config, tell)
    except OSError as error:
        raise StackError(f"{mount_point}: {error.strerror or error}", error.errno) from None

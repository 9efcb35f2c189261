"""Control: the daemon of a stack, its socket, and bringing it up and down.

The side of the daemon is loaded when somebody asks for it: clients need none of what it runs on.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from fusedm.control.bring import bring_down, bring_down_all
from fusedm.control.client import Client, which_stack
from fusedm.control.mapper_client import MapperClient
from fusedm.control.run_dir import DMSETUP, lock_path, log_path, stack_at

if TYPE_CHECKING:
    from fusedm.control.daemon import DaemonConfig, reap, start_detached
    from fusedm.control.start import bring_up, daemon_config, serve_here

__all__ = [
    "DMSETUP",
    "Client",
    "DaemonConfig",
    "MapperClient",
    "bring_down",
    "bring_down_all",
    "bring_up",
    "daemon_config",
    "lock_path",
    "log_path",
    "reap",
    "serve_here",
    "stack_at",
    "start_detached",
    "which_stack",
]

_DAEMON_SIDE = {
    "DaemonConfig": "daemon",
    "bring_up": "start",
    "daemon_config": "start",
    "reap": "daemon",
    "serve_here": "start",
    "start_detached": "daemon",
}


def __getattr__(name: str) -> object:
    """What is loaded when it is asked for."""
    if name not in _DAEMON_SIDE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_DAEMON_SIDE[name]}"), name)

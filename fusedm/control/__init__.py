"""Control: the daemon of a stack, its socket, and bringing it up and down.

Each side is loaded when somebody asks for it: clients need none of what the daemon runs on.
"""

from typing import TYPE_CHECKING

from fusedm import door

if TYPE_CHECKING:
    from fusedm.control.bring import bring_down, bring_down_all, loops_over, name_in_mount
    from fusedm.control.client import Client, which_stack
    from fusedm.control.daemon import DaemonConfig
    from fusedm.control.detached import reap, start_detached
    from fusedm.control.mapper_client import MapperClient
    from fusedm.control.run_dir import DMSETUP, lock_path, log_path, stack_at
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
    "loops_over",
    "name_in_mount",
    "reap",
    "serve_here",
    "stack_at",
    "start_detached",
    "which_stack",
]

__getattr__ = door(
    __name__,
    {
        "bring": "bring_down bring_down_all loops_over name_in_mount",
        "client": "Client which_stack",
        "daemon": "DaemonConfig",
        "detached": "reap start_detached",
        "mapper_client": "MapperClient",
        "run_dir": "DMSETUP lock_path log_path stack_at",
        "start": "bring_up daemon_config serve_here",
    },
)

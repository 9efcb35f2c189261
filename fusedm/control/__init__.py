"""Control: the daemon of a stack, its socket, and bringing it up and down."""

from fusedm.control.bring import bring_down, bring_down_all, bring_up, daemon_config, serve_here
from fusedm.control.client import Client, which_stack
from fusedm.control.daemon import reap, start_detached
from fusedm.control.run_dir import log_path, run_folder, stack_at

__all__ = [
    "Client",
    "bring_down",
    "bring_down_all",
    "bring_up",
    "daemon_config",
    "log_path",
    "reap",
    "run_folder",
    "serve_here",
    "stack_at",
    "start_detached",
    "which_stack",
]

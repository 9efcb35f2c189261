"""Control: the command line, the daemon and what they say to each other."""

from fusedm.control.cli import main

__all__ = ["main"]

"""The command line, with the demo and `run`."""

from fusedm.cli.main import main

__all__ = ["main"]

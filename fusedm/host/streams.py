"""Standard streams that whoever started this process has closed, as daemons and cron may."""

import io
import os
import sys

_MODES = {"stdin": "r", "stdout": "w", "stderr": "w"}


def open_closed_descriptors() -> None:
    """Lead those of 0 to 2 that are closed to nothing: the next files opened would take them.

    What is printed would go into those files then.
    """
    for number in range(len(_MODES)):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            assert opened == number, "the lowest free descriptor is taken"
            os.set_inheritable(number, True)


def open_closed_streams() -> None:
    """The same, and Python's own streams, which are None for closed descriptors."""
    open_closed_descriptors()
    for number, (name, mode) in enumerate(_MODES.items()):
        if getattr(sys, name) is None:
            raw = io.FileIO(number, mode, closefd=False)
            buffer = io.BufferedReader(raw) if mode == "r" else io.BufferedWriter(raw)
            setattr(sys, name, io.TextIOWrapper(buffer, "utf-8"))

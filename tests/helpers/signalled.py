"""A signal at every place of our own code: just before a line that it executes, counted from 1."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from fusedm.host.interrupts import ENDING_SIGNALS

#: How many of the places are tried, spread over all; make interrupts tries every one.
PLACES = int(os.environ.get("FUSEDM_PLACES", "4"))

#: Runs the command line with a signal before the n-th line of some modules, in this process or in
#: the daemon that is forked from it. With 0 it tells of each line where it is.
_CODE = """
import os, signal, sys
who, number, line, modules, told = sys.argv[1:6]
ours, count = os.getpid(), 0

def is_meant():
    return (os.getpid() == ours) == (who == "us")

def lines(frame, event, _):
    global count
    if event == "line" and is_meant():
        count += 1
        if count == int(line):
            os.kill(os.getpid(), int(number))
        if line == "0":
            with open(told, "a") as file:
                print(frame.f_code.co_qualname, frame.f_lineno, file=file)
    return lines

def calls(frame, event, _):
    code = frame.f_code
    is_function = code.co_flags & 1
    return lines if is_function and code.co_filename.endswith(tuple(modules.split())) else None

from fusedm.cli import main
sys.settrace(calls)
main(sys.argv[6:])
"""


class Signalled:
    """A command line that is signalled in some modules, such as "control/daemon.py"."""

    def __init__(self, folder: Path, who: str, modules: str, *words: str | Path) -> None:
        self._lines = folder / "lines"
        self._head = [sys.executable, "-c", _CODE, who]
        self._tail = [modules, str(self._lines), *map(str, words)]

    def run(self, line: int, number: int = 0) -> "subprocess.CompletedProcess[str]":
        """Run it to its end."""
        command = [*self._head, str(number), str(line), *self._tail]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False, start_new_session=True
        )

    def places(self) -> Iterator[tuple[int, signal.Signals]]:
        """The lines to be tried, once it has been run with line 0, each with a signal."""
        count = len(self._lines.read_text().splitlines())
        tried = min(PLACES, count)
        assert tried > 0
        for index in range(tried):
            line = 1 + index * (count - 1) // max(1, tried - 1)
            yield line, ENDING_SIGNALS[line % len(ENDING_SIGNALS)]

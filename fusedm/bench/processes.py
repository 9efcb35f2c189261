"""Tools and servers that never outlive us: each is told to end by the kernel when we die."""

import os
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fusedm.block.errors import StackError
from fusedm.host.interrupts import held, let_in
from fusedm.host.mounts import run_tool, tool_path
from fusedm.host.process import end_with

#: How long a server may take until it serves, and until it has ended.
READY_SECONDS = 15.0
END_SECONDS = 10.0
POLL_SECONDS = 0.02


def run_tied(*command: str) -> str:
    """What a tool prints, which ends with this process.

    Raises: as run_tool.
    """
    return run_tool(*command, begin=_tied_to(os.getpid()))


def _tied_to(parent: int) -> Callable[[], None]:
    """What a child does before it becomes a tool."""

    def begin() -> None:
        let_in()
        end_with(parent)

    return begin


class Child:
    """A server in the background, ended by its pid and waited for.

    Lives: in a session of its own, so that a terminal's Ctrl-C leaves it to us.
    """

    def __init__(self, command: tuple[str, ...], log: Path) -> None:
        self._name = command[0]
        self._log = log
        environ = {**os.environ, "LC_ALL": "C", "PATH": tool_path(os.environ)}
        with log.open("wb") as said:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env=environ,
                start_new_session=True,
                preexec_fn=_tied_to(os.getpid()),
            )

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def said(self) -> str:
        """All it has printed."""
        return self._log.read_text(errors="replace")

    def wait_until(self, is_ready: Callable[[], bool], seconds: float = READY_SECONDS) -> None:
        """Wait until it serves.

        Raises: StackError with the last line it said if it ends before or takes too long.
        """
        deadline = time.monotonic() + seconds
        while not is_ready():
            code = self._process.poll()
            if code is not None or time.monotonic() >= deadline:
                how = f"is not ready in {seconds:g} s" if code is None else f"ended with {code}"
                last = self.said().strip().splitlines()[-1:]
                raise StackError(": ".join([f"{self._name} {how}", *last]))
            time.sleep(POLL_SECONDS)

    def end(self) -> None:
        """Have it end, killed if it takes too long."""
        self._process.terminate()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(END_SECONDS)


class Children:
    """The servers of a run; the last one started ends first."""

    def __init__(self) -> None:
        self._children: list[Child] = []

    def start(self, *command: str, log: Path) -> Child:
        """Start one; an interrupt comes before or after, and never loses it."""
        with held():
            child = Child(command, log)
            self._children.append(child)
        return child

    def end(self, child: Child) -> None:
        """End one before the others."""
        child.end()
        self._children.remove(child)

    def end_all(self) -> None:
        """End all that are left."""
        while self._children:
            self.end(self._children[-1])

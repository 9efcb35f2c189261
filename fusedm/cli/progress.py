"""Telling a person how far something is: a moving line on a terminal, plain lines elsewhere."""

import os
import time
from typing import TextIO

#: A moving line is drawn again at most this often.
REDRAW_SECONDS = 0.1


class Progress:
    """Steps, lines, and one moving line at a time."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._moves = out.isatty() and os.environ.get("TERM") != "dumb"
        self._drawn = 0.0
        self._is_moving = False

    def step(self, number: str, text: str) -> None:
        """The heading of a step."""
        self.line(f"\n== {number}. {text}")

    def command(self, command: str, result: str) -> None:
        """What a person would type for what was just done, and what came of it."""
        self.line(f"$ {command}\n  -> {result}")

    def line(self, text: str) -> None:
        """A line that stays."""
        self.clear()
        self._out.write(text + "\n")
        self._out.flush()

    def moving(self, text: str, done: int, total: int) -> None:
        """How much of a total is done; nothing where lines cannot move."""
        now = time.monotonic()
        if not self._moves or (now - self._drawn < REDRAW_SECONDS and done < total):
            return
        self._drawn = now
        filled = 24 * done // max(total, 1)
        self._out.write(f"\r\x1b[K  {text} [{'#' * filled}{'.' * (24 - filled)}] {done}/{total}")
        self._out.flush()
        self._is_moving = True

    def clear(self) -> None:
        """Take the moving line away."""
        if self._is_moving:
            self._out.write("\r\x1b[K")
            self._is_moving = False

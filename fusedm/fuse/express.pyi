"""The types of express.pyx."""

from collections.abc import Callable

from fusedm.files import Path

NOTHING_CAME: int
TURN_OVER: int

class Express:
    def __init__(
        self,
        device: int,
        data_size: int,
        find: Callable[[int, int, int], Path | None],
        end_batch: Callable[[], None],
        reply_failed: Callable[[int, int], None],
    ) -> None: ...
    def next(self, spin_seconds: float, turn_seconds: float) -> memoryview | int: ...
    def close(self) -> None: ...

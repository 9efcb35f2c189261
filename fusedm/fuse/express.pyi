"""The types of express.pyx."""

from collections.abc import Callable

from fusedm.files import Gate

NOTHING_CAME: int
AT_REST: int

class Express:
    def __init__(
        self,
        device: int,
        data_size: int,
        gate: Gate,
        find: Callable[[int, int, int, int], bool],
        open_gate: Callable[[], None],
        close_gate: Callable[[], None],
        reply_failed: Callable[[int, int], None],
    ) -> None: ...
    def start(self) -> None: ...
    def next(self, spin_seconds: float) -> memoryview | int: ...
    def is_quiet(self) -> bool: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...

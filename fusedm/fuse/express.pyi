"""The types of express.pyx."""

from collections.abc import Callable

from fusedm.crypto import CompiledCipher

NOTHING_CAME: int
TURN_OVER: int

class Path:
    def __init__(
        self,
        handle: int,
        begin: int,
        end: int,
        fd: int,
        shift: int,
        block_size: int,
        dun_base: int,
        data_unit_size: int,
        zeros_are_holes: bool = True,
    ) -> None: ...
    def set_out(self, cipher: CompiledCipher | None, may_write: bool) -> None: ...
    def come_back(self) -> tuple[int, int, int, int, int, int]: ...

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

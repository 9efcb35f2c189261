"""The types of express.pyx."""

from collections.abc import Callable

from fusedm.crypto import EvpCipher

NOTHING_CAME: int
TURN_OVER: int

class Path:
    begin: int
    end: int
    cipher: EvpCipher | None
    may_write: bool
    reads: int
    read_bytes: int
    read_time: int
    writes: int
    write_bytes: int
    write_time: int
    def __init__(
        self,
        begin: int,
        end: int,
        fd: int,
        shift: int,
        block_size: int,
        dun_base: int,
        data_unit_size: int,
    ) -> None: ...
    def clear(self) -> None: ...

class Express:
    def __init__(
        self,
        device: int,
        data_size: int,
        find: Callable[[int, int, int], Path | None],
        end_batch: Callable[[], None],
        reply_failed: Callable[[int, int], None],
    ) -> None: ...
    @property
    def requests(self) -> memoryview: ...
    def next(self, spin_seconds: float, turn_seconds: float) -> int: ...

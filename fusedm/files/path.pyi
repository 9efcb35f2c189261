"""The types of path.pyx."""

from collections.abc import Sequence

from fusedm.crypto import CompiledCipher

KINDS: tuple[str, str, str]

_Kinds = tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]

class Medium:
    def __init__(self, fd: int, blocks: bool) -> None: ...

class Path:
    def __init__(
        self,
        handle: int,
        begin: int,
        end: int,
        legs: list[tuple[Medium, int]],
        block_size: int,
        origin: int = 0,
        chunk: int = ...,
        is_flush: bool = False,
    ) -> None: ...
    def numbers(self, first: int, zeros_are_holes: bool) -> None: ...
    def ready(
        self,
        cipher: CompiledCipher | None,
        may_read: bool,
        may_write: bool,
        until: int = ...,
        excluded: Sequence[tuple[int, int]] = (),
    ) -> None: ...

class Gate:
    @property
    def bell(self) -> int: ...
    @property
    def is_waited_at(self) -> bool: ...
    def add(self, path: Path) -> bool: ...
    def serves(self, handle: int, kind: int, offset: int, size: int) -> bool | None: ...
    def open(self) -> None: ...
    def close(self) -> bool: ...
    def ring_for_each(self, path: Path) -> None: ...
    def end(self) -> None: ...
    def take_back(
        self, path: Path
    ) -> tuple[list[_Kinds], tuple[int, int, int], list[tuple[int, int]]]: ...
    def silence(self) -> None: ...
    def hush(self) -> None: ...

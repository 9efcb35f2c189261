"""The types of path.pyx."""

from fusedm.crypto import CompiledCipher

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

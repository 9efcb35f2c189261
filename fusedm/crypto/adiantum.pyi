"""The types of adiantum.pyx."""

from collections.abc import Sequence

from fusedm.crypto.compiled import CompiledCipher

Key = bytes | bytearray | memoryview

class Adiantum(CompiledCipher):
    def __init__(self, key: Key, data_unit_size: int) -> None: ...

class AdiantumSectors(Adiantum):
    def __init__(
        self,
        keys: Sequence[memoryview],
        rounds: int,
        iv_mode: str,
        sector_size: int,
        counts_large: bool,
        keeps_zeros: bool,
    ) -> None: ...

def use_code_for_any_processor(for_any: bool) -> None: ...

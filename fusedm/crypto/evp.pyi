"""The types of evp.pyx."""

from collections.abc import Sequence

from fusedm.crypto.compiled import CompiledCipher

Key = bytes | bytearray | memoryview

EVP_MODES: dict[str, tuple[str, str, int]]

class EvpCipher(CompiledCipher):
    def __init__(self, mode: str, key: Key, data_unit_size: int) -> None: ...

class EvpSectors(CompiledCipher):
    def __init__(
        self,
        chain: str,
        keys: Sequence[memoryview],
        iv_mode: str,
        iv_keys: Sequence[Key],
        sector_size: int,
        counts_large: bool,
        keeps_zeros: bool,
    ) -> None: ...

def libcrypto_version() -> str: ...

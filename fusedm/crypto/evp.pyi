"""The types of evp.pyx."""

from fusedm.crypto.compiled import CompiledCipher

EVP_MODES: frozenset[str]

class EvpCipher(CompiledCipher):
    def __init__(
        self, mode: str, key: bytes | bytearray | memoryview, data_unit_size: int
    ) -> None: ...

def libcrypto_version() -> str: ...

"""CBC with ESSIV IVs, on all data units of a call as far as chaining lets it. Pure.

The IV of a data unit is its padded number encrypted under a key made of the key. To decrypt is one
call of the block cipher for all blocks, as the chain is known. To encrypt is sequential within a
data unit.

Source: the kernel's crypto/essiv.c; essiv(cbc(aes),sha256) is AES-128-CBC-ESSIV of blk-crypto.
"""

from collections.abc import Callable
from typing import Protocol

from fusedm.block.crypt_ctx import CryptoConfig
from fusedm.crypto.batches import split_at_batches
from fusedm.crypto.blocks import BLOCK_BYTES, BlockCipher, Blocks, as_blocks


class Chain(Protocol):
    """A CBC encryption under way that began with a zero IV; what it is given continues it."""

    def update(self, data: bytes | memoryview) -> bytes: ...
    def update_into(self, data: memoryview, buf: memoryview) -> int: ...


class CbcEssiv:
    """A block cipher in CBC mode, with IVs encrypted by iv_cipher."""

    def __init__(
        self,
        config: CryptoConfig,
        data: BlockCipher,
        iv_cipher: BlockCipher,
        new_chain: Callable[[], Chain],
    ) -> None:
        self._config = config
        self._data = data
        self._iv_cipher = iv_cipher
        self._new_chain = new_chain

    def encrypt(self, dun: int, src: memoryview, dst: memoryview) -> None:
        """Encrypt each data unit of src into dst."""
        chain = self._new_chain()
        last = 0
        for ivs, part in split_at_batches(self._config, dun, len(src)):
            ivs = self._iv_cipher.encrypt(ivs)
            last = encrypt_chains(chain, ivs, src[part], dst[part], last)

    def decrypt(self, dun: int, src: memoryview, dst: memoryview) -> None:
        """Decrypt each data unit of src into dst."""
        for ivs, part in split_at_batches(self._config, dun, len(src)):
            source, target = as_blocks(src[part], len(ivs)), as_blocks(dst[part], len(ivs))
            decrypt_chains(self._data, self._iv_cipher.encrypt(ivs), source, target)


def encrypt_chains(
    chain: Chain, ivs: Blocks, src: memoryview, dst: memoryview, last: int = 0
) -> int:
    """Encrypt data units in CBC mode, each with its IV; dst may be src.

    One chain serves all of them, as making one costs more than a data unit does: the first block of
    a unit is given to it xored with the last ciphertext block, which undoes that link. Hence last,
    the block that came out of the chain before; the newest is returned.
    """
    size = len(src) // len(ivs)
    firsts = as_blocks(src, len(ivs))[:, 0] ^ ivs
    for index, (low, high) in enumerate(firsts.tolist()):
        start = index * size
        # The last block goes alone: update_into asks for a block's room behind its output.
        middle, end = start + BLOCK_BYTES, start + size - BLOCK_BYTES
        first = (low | high << 64) ^ last
        dst[start:middle] = chain.update(first.to_bytes(BLOCK_BYTES, "little"))
        chain.update_into(src[middle:end], dst[middle : start + size])
        block = chain.update(src[end : start + size])
        dst[end : start + size] = block
        last = int.from_bytes(block, "little")
    return last


def decrypt_chains(data: BlockCipher, ivs: Blocks, source: Blocks, target: Blocks) -> None:
    """Decrypt data units in CBC mode, each with its IV; target may be source."""
    through = data.decrypt(source)
    through[:, 0] ^= ivs
    through[:, 1:] ^= source[:, :-1]
    target[:] = through

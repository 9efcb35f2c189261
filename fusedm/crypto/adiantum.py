"""Adiantum, on all data units of a call at once. Pure.

A data unit is its left part and its last 16 bytes, the right part. The right part gets the hash of
the left one added, goes through the block cipher, and what comes out is the nonce of the keystream
that the left part is xored with; then the hash of the new left part is subtracted. So every bit of
the data unit depends on every other. To decrypt is the same with the block cipher's inverse.

Source: the Adiantum paper (Crowley and Biggers 2018), section 2, and the kernel's
crypto/adiantum.c; adiantum(xchacha12,aes) with 32 bytes of tweak is Adiantum of blk-crypto.
        dm-crypt knows it with xchacha20 too.
"""

from collections.abc import Callable

import numpy as np

from fusedm.block.crypt_ctx import CryptoConfig
from fusedm.crypto import chacha
from fusedm.crypto.batches import split_at_batches
from fusedm.crypto.blocks import BLOCK_BYTES, BlockCipher, Blocks, as_blocks
from fusedm.crypto.chacha import ROUNDS
from fusedm.crypto.nhpoly import MASK_128, NH_KEY_BYTES, NhPoly, poly1305_key

#: Made from a key of 32 bytes.
NewBlockCipher = Callable[[memoryview], BlockCipher]

_RIGHT_WORDS = BLOCK_BYTES // 4
#: What a nonce of XChaCha has behind its first 16 bytes here.
_NONCE_END = np.array([[1, 0]], np.uint32)


class Adiantum:
    """Adiantum under one key, data units numbered as contexts have them.

    Shapes: key is 32 bytes.
    """

    def __init__(self, config: CryptoConfig, key: memoryview, new_cipher: NewBlockCipher) -> None:
        self._config = config
        self._units = AdiantumUnits(config.data_unit_size, key, new_cipher)

    def encrypt(self, dun: int, src: memoryview, dst: memoryview) -> None:
        """Encrypt each data unit of src into dst."""
        for ivs, part in split_at_batches(self._config, dun, len(src)):
            count = len(ivs)
            self._units.encrypt(ivs, as_blocks(src[part], count), as_blocks(dst[part], count))

    def decrypt(self, dun: int, src: memoryview, dst: memoryview) -> None:
        """Decrypt each data unit of src into dst."""
        for ivs, part in split_at_batches(self._config, dun, len(src)):
            count = len(ivs)
            self._units.decrypt(ivs, as_blocks(src[part], count), as_blocks(dst[part], count))


class AdiantumUnits:
    """Adiantum under one key, on many data units at once; target may be source.

    new_cipher makes the block cipher from the key derived for it; rounds are the stream cipher's.
    Shapes: key is 32 bytes; ivs is (unit, 4 limbs), source and target (unit, block, limb).
    """

    def __init__(
        self, unit_size: int, key: memoryview, new_cipher: NewBlockCipher, rounds: int = ROUNDS
    ) -> None:
        self._unit_size = unit_size
        self._rounds = rounds
        # In Python's memory: numpy gives its own back without overwriting it.
        self._stream_key = np.frombuffer(bytes(key), "<u4")
        nonce = np.array([[1, 0, 0, 0, 0, 0]], np.uint32)
        derived = self._stream(nonce, 32 + 16 + 16 + NH_KEY_BYTES).data.cast("B")
        self._block_cipher = new_cipher(derived[:32])
        self._hash = NhPoly(
            unit_size,
            tweak_key=poly1305_key(derived[32:48]),
            message_key=poly1305_key(derived[48:64]),
            nh_key=derived[64:],
        )

    def encrypt(self, ivs: Blocks, source: Blocks, target: Blocks) -> None:
        """Encrypt each data unit of source into target."""
        of_tweaks = self._hash.tweak_hashes(ivs)
        src, dst = _words(source), _words(target)
        middle = self._block_cipher.encrypt(self._plus_hash(src, of_tweaks, 1))
        self._xor_left(src, middle, dst)
        dst[:, -_RIGHT_WORDS:] = middle.view("<u4")
        dst[:, -_RIGHT_WORDS:] = self._plus_hash(dst, of_tweaks, -1).view("<u4")

    def decrypt(self, ivs: Blocks, source: Blocks, target: Blocks) -> None:
        """Decrypt each data unit of source: the same, but for what the nonces are."""
        of_tweaks = self._hash.tweak_hashes(ivs)
        src, dst = _words(source), _words(target)
        middle = self._plus_hash(src, of_tweaks, 1)
        self._xor_left(src, middle, dst)
        dst[:, -_RIGHT_WORDS:] = self._block_cipher.decrypt(middle).view("<u4")
        dst[:, -_RIGHT_WORDS:] = self._plus_hash(dst, of_tweaks, -1).view("<u4")

    def _plus_hash(self, units: chacha.Words, of_tweaks: list[int], sign: int) -> Blocks:
        """The right parts plus (or minus, by sign) the hashes of left parts and tweaks."""
        rights = np.ascontiguousarray(units[:, -_RIGHT_WORDS:]).view("<u8").tolist()
        hashes = self._hash.hashes(units)
        sums = bytearray()
        for (low, high), of_left, of_tweak in zip(rights, hashes, of_tweaks, strict=True):
            total = (low | high << 64) + sign * (of_left + of_tweak)
            sums += (total & MASK_128).to_bytes(BLOCK_BYTES, "little")
        return np.frombuffer(sums, "<u8").reshape(-1, 2)

    def _xor_left(self, source: chacha.Words, middle: Blocks, target: chacha.Words) -> None:
        """The left parts xored with the keystreams whose nonces begin with the encrypted blocks."""
        nonces = np.empty((len(source), 6), np.uint32)
        nonces[:, :4], nonces[:, 4:] = middle.view("<u4"), _NONCE_END
        stream = self._stream(nonces, self._unit_size - BLOCK_BYTES)
        left = slice(None, -_RIGHT_WORDS)
        np.bitwise_xor(source[:, left], stream, out=target[:, left])

    def _stream(self, nonces: chacha.Words, length_bytes: int) -> chacha.Words:
        """The keystream of each nonce: (unit, word)."""
        keys = chacha.hchacha(self._stream_key, nonces[:, :4], self._rounds)
        block_count = -(-length_bytes // chacha.BLOCK_BYTES)
        stream = chacha.chacha(keys, nonces[:, 4:], block_count, self._rounds)
        return stream[:, : length_bytes // 4]


def _words(units: Blocks) -> chacha.Words:
    """Data units as (unit, word), without a copy."""
    return units.reshape(len(units), -1).view("<u4")

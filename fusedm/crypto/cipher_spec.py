"""What a word such as aes-xts-plain64 asks of a cipher made here: chaining, IVs, keys. Pure."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fusedm.block.cipher_word import (
    DIGEST_SIZES,
    STREAM_ROUNDS,
    CipherWord,
    check_cipher_here,
    parse_cipher_word,
)
from fusedm.block.errors import CryptoError

#: Sizes of AES keys in bytes; XTS has two of them. Adiantum has one size of key.
_AES_KEYS = (16, 24, 32)
_ADIANTUM_KEYS = (32,)

#: Digests of the size of an AES key, by their names in the kernel.
DIGESTS: Mapping[str, Callable[[bytes | bytearray | memoryview], bytes]] = {
    "sha256": lambda key: hashlib.sha256(key).digest(),
    "sha3-256": lambda key: hashlib.sha3_256(key).digest(),
    "blake2b-256": lambda key: hashlib.blake2b(key, digest_size=32).digest(),
    "blake2s-256": lambda key: hashlib.blake2s(key).digest(),
    "md5": lambda key: hashlib.md5(key, usedforsecurity=False).digest(),
}


@dataclass(frozen=True, slots=True)
class CipherSpec:
    """A cipher for sectors; digest is that of essiv, iv_mode is empty where there are no IVs.

    rounds are those of adiantum's stream cipher.
    """

    chain: str
    iv_mode: str = ""
    digest: str = ""
    key_count: int = 1
    rounds: int = 0

    @property
    def key_sizes(self) -> tuple[int, ...]:
        """How many bytes all keys together may have."""
        if self.rounds:
            return tuple(size * self.key_count for size in _ADIANTUM_KEYS)
        factor = 2 * self.key_count if self.chain == "xts" else self.key_count
        return tuple(size * factor for size in _AES_KEYS)


def parse_cipher_spec(text: str) -> CipherSpec:
    """The cipher that a word of a table names.

    Raises: CryptoError: EINVAL for a word that makes no sense; ENOENT for a cipher, chaining mode
            or digest that is not known here.
    """
    try:
        word = parse_cipher_word(text)
    except CryptoError as error:
        raise CryptoError(f"{text!r} {error}", error.errno) from None
    return spec_of(word)


def spec_of(word: CipherWord) -> CipherSpec:
    """The same of a word that has been taken apart.

    Raises: as parse_cipher_spec.
    """
    check_cipher_here(word)
    digest = word.iv_options
    if digest and digest not in DIGESTS:
        text = f"digest {digest} has {DIGEST_SIZES[digest]} bytes, which are no key for aes"
        raise CryptoError(text)
    iv_mode = "" if word.chain == "ecb" else word.iv
    return CipherSpec(
        word.chain, iv_mode, digest, word.key_count, STREAM_ROUNDS.get(word.cipher, 0)
    )

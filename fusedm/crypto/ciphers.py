"""Ciphers: keys made ready, in compiled code.

A further mode is one row in block's MODES and one of EVP_MODES, or a module of its own as Adiantum.
"""

from collections.abc import Mapping

from fusedm.block.crypt_ctx import CryptoKey
from fusedm.block.errors import CryptoError
from fusedm.crypto.adiantum import Adiantum, AdiantumSectors
from fusedm.crypto.cipher_spec import DIGESTS, CipherSpec
from fusedm.crypto.compiled import CompiledCipher
from fusedm.crypto.evp import EVP_MODES, EvpCipher, EvpSectors

#: Bytes that modes transform on the spot, where others wait, in half a millisecond; more go to a
#: worker thread, which costs a tenth of that. All other modes are about as fast as copying.
BYTES_ON_THE_SPOT: Mapping[str, int] = {"SM4-XTS": 64 << 10, "Adiantum": 256 << 10}


def make_cipher(key: CryptoKey, takes_weak_keys: bool = False) -> CompiledCipher:
    """A key made ready for use. Weak keys are for hardware as it is: it does not look at keys.

    Raises: CryptoError(EINVAL) for a key the mode refuses, ENOPKG for a mode the library lacks.
    """
    if not takes_weak_keys:
        check_key(key)
    return make_software(key)


def make_software(key: CryptoKey) -> CompiledCipher:
    """The same whatever the key; only to see whether there is software for its mode.

    Raises: CryptoError(ENOPKG).
    """
    config = key.config
    if config.mode not in EVP_MODES:
        return Adiantum(key.raw, config.data_unit_size)
    try:
        return EvpCipher(config.mode, key.raw, config.data_unit_size)
    except CryptoError as error:
        text = f"{config.mode} cannot be done here: {error}"
        raise CryptoError(f"key {key.name!r}: {text}", error.errno) from None


def check_key(key: CryptoKey) -> None:
    """Refuse a key that gives itself away.

    Raises: CryptoError(EINVAL) for an XTS key whose halves are equal.
    Source: the kernel's fallback forbids equal halves (CRYPTO_TFM_REQ_FORBID_WEAK_KEYS).
    """
    half = len(key.raw) // 2
    if key.config.mode.endswith("-XTS") and key.raw[:half] == key.raw[half:]:
        raise CryptoError(
            f"key {key.name!r}: the two halves of an XTS key are equal, which gives its tweak "
            f"away; use {len(key.raw)} random bytes"
        )


def is_slow(mode: str, length_bytes: int) -> bool:
    """Whether transforming so much belongs in a worker thread."""
    return length_bytes > BYTES_ON_THE_SPOT.get(mode, length_bytes)


def make_sector_cipher(
    spec: CipherSpec,
    raw: memoryview,
    sector_size: int,
    counts_large: bool,
    keeps_zeros: bool = False,
) -> CompiledCipher:
    """A cipher of dm-crypt and its keys made ready; counts_large has IVs count sectors, not 512s.

    With keeps_zeros a sector of zeros is not decrypted. As for contexts, no ciphertext looks so.
    Raises: CryptoError(EINVAL) for a wrong number of bytes.
    Source: crypt_setkey; each key has its own digest for essiv, and eboiv takes the first key.
    """
    if len(raw) not in spec.key_sizes:
        sizes = ", ".join(map(str, spec.key_sizes))
        raise CryptoError(f"{len(raw)} bytes of key given, the cipher needs {sizes}")
    size = len(raw) // spec.key_count
    keys = [raw[index * size : (index + 1) * size] for index in range(spec.key_count)]
    iv_mode = spec.iv_mode
    if spec.rounds:
        return AdiantumSectors(keys, spec.rounds, iv_mode, sector_size, counts_large, keeps_zeros)
    iv_keys: list[bytes | memoryview] = []
    if spec.digest:
        iv_keys += [DIGESTS[spec.digest](key) for key in keys]
    elif iv_mode == "eboiv":
        iv_keys += keys[:1] * len(keys)
    return EvpSectors(spec.chain, keys, iv_mode, iv_keys, sector_size, counts_large, keeps_zeros)

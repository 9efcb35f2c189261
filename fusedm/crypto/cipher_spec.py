"""What a word such as aes-xts-plain64 says: block cipher, chaining, IVs, number of keys. Pure.

There are two forms, an old one, `cipher[:keys]-chain-iv[:options]`, and one that names a template
of the kernel's crypto API, `capi:chain(cipher)-iv[:options]`.

Source: crypt_ctr_cipher_old and crypt_ctr_cipher_new in the kernel's drivers/md/dm-crypt.c. Unlike
there, what would be ignored (options of an IV that has none, a further dash) is refused.
"""

import errno
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fusedm.block.errors import CryptoError
from fusedm.block.units import is_power_of_two

#: Sizes of AES keys in bytes; XTS has two of them.
_AES_KEYS = (16, 24, 32)
CHAINS = ("xts", "cbc", "ecb")
#: Adiantum has a stream cipher beside AES, and these words for its rounds; and one size of key.
STREAMS: Mapping[str, int] = {"xchacha12,aes": 12, "xchacha20,aes": 20}
_ADIANTUM = "adiantum"
_ADIANTUM_KEYS = (32,)
#: Its IVs have 32 bytes: essiv and eboiv, which encrypt IVs with AES, make 16.
_ADIANTUM_IVS = ("plain", "plain64", "plain64be", "benbi", "null")
IV_MODES = ("plain", "plain64", "plain64be", "essiv", "benbi", "null", "eboiv")

#: The largest number of keys: loop-AES, for which they were made, has 64.
MAX_KEY_COUNT = 1024

#: Digests of the size of an AES key, by their names in the kernel.
DIGESTS: Mapping[str, Callable[[bytes | bytearray | memoryview], bytes]] = {
    "sha256": lambda key: hashlib.sha256(key).digest(),
    "sha3-256": lambda key: hashlib.sha3_256(key).digest(),
    "blake2b-256": lambda key: hashlib.blake2b(key, digest_size=32).digest(),
    "blake2s-256": lambda key: hashlib.blake2s(key).digest(),
    "md5": lambda key: hashlib.md5(key, usedforsecurity=False).digest(),
}
#: Digests that are known, but make no key for AES.
_UNFIT_DIGESTS = {"sha1": 20, "rmd160": 20, "sha224": 28, "sha384": 48, "sha512": 64}

_KEY_COUNT = re.compile(r"[0-9]{1,4}")
_TEMPLATE = re.compile(r"(?:essiv\((?=.*\),))?(\w+)\((\w+(?:,\w+)?)\)(?:,([\w-]+)\))?")


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
    if text.startswith("capi:"):
        return _parse_template(text.removeprefix("capi:"))
    if "(" in text:
        raise CryptoError("a template such as xts(aes) is written with capi: in front")
    names, *rest = text.split("-", 2)
    cipher, _, count = names.partition(":")
    key_count = _parse_key_count(count) if ":" in names else 1
    chain, ending = (*rest, "", "")[:2]
    if not chain or rest == ["plain"]:
        chain, ending = "cbc", "plain"
    iv_mode, options = _split_options(ending)
    if chain != "ecb" and not iv_mode:
        raise CryptoError(f"{chain} needs an IV mode: {', '.join(IV_MODES)}")
    return _checked(cipher, chain, iv_mode, options, key_count)


def _parse_template(text: str) -> CipherSpec:
    head, _, options = text.rpartition(":") if ":" in text else (text, "", "")
    template, _, iv_mode = head.rpartition("-") if _has_iv_mode(head) else (head, "", "")
    found = _TEMPLATE.fullmatch(template)
    if found is None:
        raise CryptoError(f"{template!r} is no template such as xts(aes) or essiv(cbc(aes),sha256)")
    chain, cipher, digest = found.groups()
    if chain != "ecb" and not iv_mode:
        raise CryptoError(f"{chain} needs an IV mode: {', '.join(IV_MODES)}")
    if digest is not None:
        if iv_mode != "plain64":
            raise CryptoError(f"{template} encrypts IVs of plain64, not of {iv_mode}")
        iv_mode, options = "essiv", digest
    return _checked(cipher, chain, iv_mode, options, 1)


def _has_iv_mode(head: str) -> bool:
    """Whether a dash follows the last bracket; before it, it is part of a digest's name."""
    return "-" in head.rpartition(")")[2]


def _split_options(text: str) -> tuple[str, str]:
    iv_mode, _, options = text.partition(":")
    return iv_mode, options


def _parse_key_count(word: str) -> int:
    count = int(word) if _KEY_COUNT.fullmatch(word) else 0
    if not is_power_of_two(count) or count > MAX_KEY_COUNT:
        text = f"{word!r} keys: their number is a power of two up to {MAX_KEY_COUNT}"
        raise CryptoError(text)
    return count


def _checked(cipher: str, chain: str, iv_mode: str, options: str, key_count: int) -> CipherSpec:
    if chain == _ADIANTUM:
        return _checked_adiantum(cipher, iv_mode, options, key_count)
    if cipher != "aes":
        raise CryptoError(f"cipher {cipher!r} is not known here: use aes", errno.ENOENT)
    if chain not in CHAINS:
        text = f"chaining mode {chain!r} is not known here: use {', '.join((*CHAINS, _ADIANTUM))}"
        raise CryptoError(text, errno.ENOENT)
    if iv_mode and iv_mode not in IV_MODES:
        text = f"IV mode {iv_mode!r} is not known here: use {', '.join(IV_MODES)}"
        raise CryptoError(text)
    if iv_mode == "essiv":
        _check_digest(options)
    elif options:
        raise CryptoError(f"IV mode {iv_mode or 'none'} takes no options, {options!r} given")
    if chain == "ecb":
        if iv_mode == "essiv":
            raise CryptoError("ecb has no IVs that essiv could encrypt")
        iv_mode = ""
    return CipherSpec(chain, iv_mode, options, key_count)


def _checked_adiantum(cipher: str, iv_mode: str, options: str, key_count: int) -> CipherSpec:
    if cipher not in STREAMS:
        text = f"adiantum with {cipher!r} is not known here: use {' or '.join(STREAMS)}"
        raise CryptoError(text, errno.ENOENT)
    if iv_mode not in _ADIANTUM_IVS:
        text = f"adiantum has IVs of {', '.join(_ADIANTUM_IVS)}, not of {iv_mode!r}"
        raise CryptoError(text)
    if options:
        raise CryptoError(f"IV mode {iv_mode} takes no options, {options!r} given")
    return CipherSpec(_ADIANTUM, iv_mode, "", key_count, STREAMS[cipher])


def _check_digest(name: str) -> None:
    if not name:
        raise CryptoError("essiv needs a digest, as in essiv:sha256")
    if name in _UNFIT_DIGESTS:
        text = f"digest {name} has {_UNFIT_DIGESTS[name]} bytes, which are no key for aes"
        raise CryptoError(text)
    if name not in DIGESTS:
        text = f"digest {name!r} is not known here: use {', '.join(DIGESTS)}"
        raise CryptoError(text, errno.ENOENT)

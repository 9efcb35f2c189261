"""The word of a table that names a cipher, such as aes-xts-plain64, taken apart.

There are two forms, an old one, `cipher[:keys]-chain-iv[:options]`, and one that names a template
of the kernel's crypto API, `capi:chain(cipher)-iv[:options]`.

Source: crypt_ctr_cipher_old and crypt_ctr_cipher_new in the kernel's drivers/md/dm-crypt.c.
"""

import errno
import re

from fusedm.block.errors import CryptoError
from fusedm.block.units import is_power_of_two
from fusedm.block.value import value

IV_MODES = (
    *("plain", "plain64", "plain64be", "essiv", "benbi", "null", "eboiv"),
    *("elephant", "lmk", "tcw", "random"),
)
DIGEST_SIZES = {
    "md5": 16,
    "sha1": 20,
    "rmd160": 20,
    "sha224": 28,
    "sha256": 32,
    "sha3-256": 32,
    "blake2b-256": 32,
    "blake2s-256": 32,
    "sha384": 48,
    "sha512": 64,
}

#: What fusedm has of all that. Adiantum has a stream cipher beside AES, with so many rounds, and
#: IVs of 32 bytes, which essiv and eboiv do not make.
_IV_MODES = IV_MODES[:7]
_CHAINS = ("xts", "cbc", "ecb")
STREAM_ROUNDS = {"xchacha12,aes": 12, "xchacha20,aes": 20}
_ADIANTUM_IVS = ("plain", "plain64", "plain64be", "benbi", "null")
#: The largest number of keys: loop-AES, for which they were made, has 64.
MAX_KEY_COUNT = 1024

_KEY_COUNT = re.compile("0*([0-9]{1,10})")
_ESSIV = re.compile(r"essiv\((\w+)\((\w+(?:,\w+)?)\),([\w-]+)\)")
_TEMPLATE = re.compile(r"(\w+)\((.*)\)")


@value
class CipherWord:
    """aes:2-cbc-essiv:sha256, or capi:xts(aes)-plain64. chain is empty if it is not told apart."""

    cipher: str
    key_count: int
    chain: str
    iv: str
    iv_options: str
    is_capi: bool


def parse_cipher_word(text: str) -> CipherWord:
    """The parts of a cipher, whoever has it.

    Raises: CryptoError(EINVAL), which says what the word "has" or "is".
    """
    if text.startswith("capi:"):
        return _parse_capi(text.removeprefix("capi:"))
    if "(" in text:
        raise CryptoError("is a template, which is written with capi: in front")
    cipher, _, rest = text.partition("-")
    name, colon, keys = cipher.partition(":")
    if not name:
        raise CryptoError("has no cipher: use cipher-chainmode-ivmode")
    key_count = _parse_key_count(keys) if colon else 1
    chain, _, iv = rest.partition("-")
    if not chain or rest == "plain":
        return CipherWord(name, key_count, "cbc", "plain", "", False)
    iv_mode, _, iv_options = iv.partition(":")
    return _checked(CipherWord(name, key_count, chain, iv_mode, iv_options, False))


def _parse_key_count(text: str) -> int:
    found = _KEY_COUNT.fullmatch(text)
    if found is None or not is_power_of_two(int(found[1])):
        raise CryptoError(f"has {text!r} keys, which is not a power of two")
    return int(found[1])


def _parse_capi(text: str) -> CipherWord:
    # The IV options follow the last colon, the IV mode the last dash.
    head, colon, iv_options = text.rpartition(":")
    if not colon:
        head, iv_options = text, ""
    template, dash, iv = head.rpartition("-")
    if not dash or ")" in iv:
        template, iv = head, ""
    if not template:
        raise CryptoError("has no cipher: use capi:chainmode(cipher)-ivmode")
    essiv = _ESSIV.fullmatch(template)
    if essiv and iv == "plain64":
        return _checked(CipherWord(essiv[2], 1, essiv[1], "essiv", essiv[3], True))
    found = _TEMPLATE.fullmatch(template)
    chain, cipher = (found[1], found[2]) if found else ("", template)
    return _checked(CipherWord(cipher, 1, chain, iv, iv_options, True))


def _checked(word: CipherWord) -> CipherWord:
    known = ", ".join(IV_MODES)
    if not word.iv and word.chain != "ecb" and not word.is_capi:
        raise CryptoError(f"has no IV mode, which all but ecb need: use one of {known}")
    if word.iv and word.iv not in IV_MODES:
        raise CryptoError(f"has an unknown IV mode: use one of {known}")
    if word.iv == "essiv" and not word.iv_options:
        raise CryptoError("has no digest, which essiv needs: use essiv:sha256")
    return word


def check_cipher_here(word: CipherWord) -> None:
    """Refuse what fusedm does not have.

    Raises: CryptoError: ENOENT for a cipher, chaining mode or digest, EINVAL for what does not go
            together here.
    """
    lacks = _lacks_of_adiantum(word) if word.chain == "adiantum" else _lacks_of_aes(word)
    if not lacks and word.key_count > MAX_KEY_COUNT:
        lacks = errno.EINVAL, f"{word.key_count} keys, more than {MAX_KEY_COUNT}: that"
    if lacks:
        raise CryptoError(f"{lacks[1]} is run by the kernel only", lacks[0])


def _lacks_of_aes(word: CipherWord) -> tuple[int, str] | None:
    if word.cipher != "aes":
        return errno.ENOENT, f"cipher {word.cipher}"
    if word.chain not in _CHAINS:
        return errno.ENOENT, f"chaining mode {word.chain}"
    if word.iv and word.iv not in _IV_MODES:
        return errno.EINVAL, f"IV mode {word.iv}"
    if not word.iv and word.chain != "ecb":
        return errno.EINVAL, f"{word.chain} without an IV mode"
    if word.chain == "ecb" and word.iv == "essiv":
        return errno.EINVAL, "essiv with ecb"
    if word.iv == "essiv" and word.iv_options not in DIGEST_SIZES:
        return errno.ENOENT, f"digest {word.iv_options}"
    if word.iv != "essiv" and word.iv_options:
        return errno.EINVAL, f"option {word.iv_options} of {word.iv or 'no IV'}"
    return None


def _lacks_of_adiantum(word: CipherWord) -> tuple[int, str] | None:
    if word.cipher not in STREAM_ROUNDS:
        return errno.ENOENT, f"adiantum with {word.cipher}"
    if word.iv not in _ADIANTUM_IVS or word.iv_options:
        mode = ":".join(filter(None, (word.iv, word.iv_options)))
        return errno.EINVAL, f"adiantum with IV mode {mode}"
    return None

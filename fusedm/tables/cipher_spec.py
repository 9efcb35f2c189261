"""The cipher of a crypt line taken apart, and what of it fusedm does not have."""

import re
from dataclasses import dataclass

from fusedm.block.units import is_power_of_two
from fusedm.tables.words import whole_number

IV_MODES = (
    "plain",
    "plain64",
    "plain64be",
    "essiv",
    "benbi",
    "null",
    "eboiv",
    "elephant",
    "lmk",
    "tcw",
    "random",
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

#: Bytes of a key of the kernel's block ciphers, before a chaining mode wants more of it.
CIPHERS = {
    "aes": (16, 24, 32),
    "anubis": tuple(range(16, 41, 4)),
    "aria": (16, 24, 32),
    "blowfish": tuple(range(4, 57)),
    "camellia": (16, 24, 32),
    "cast5": tuple(range(5, 17)),
    "cast6": tuple(range(16, 33, 4)),
    "cipher_null": (0,),
    "des": (8,),
    "des3_ede": (24,),
    "fcrypt": (8,),
    "khazad": (16,),
    "seed": (16,),
    "serpent": tuple(range(33)),
    "sm4": (16,),
    "tea": (16,),
    "tnepres": tuple(range(33)),
    "twofish": (16, 24, 32),
    "xeta": (16,),
    "xtea": (16,),
}
#: Chaining modes of one cipher whose keys are as long as the cipher's, or so many times that.
SIMPLE_CHAINS = ("ecb", "cbc", "ctr", "xts", "lrw", "pcbc", "cfb", "ofb", "xctr", "hctr2")
#: What else the kernel's crypto API has names for: adiantum's ciphers, and what is in templates.
_STREAMS = ("xchacha12", "xchacha20")
_OTHERS = (
    "adiantum aegis128 arc4 authenc authencesn ccm chacha20 cmac crc32 crc32c cryptd cts essiv gcm "
    "hmac michael_mic null nhpoly1305 pcrypt poly1305 polyval rfc3686 rfc4106 rfc4309 rfc4543 "
    "rfc7539 rfc7539esp seqiv sm3 streebog256 streebog512 vmac64 wp256 wp384 wp512 xcbc "
    "xxhash64"
)

#: What fusedm's own crypt has.
_FUSEDM_CHAINS = ("xts", "cbc", "ecb")
_FUSEDM_IV_MODES = IV_MODES[:7]
_FUSEDM_STREAMS = ("xchacha12,aes", "xchacha20,aes")
_FUSEDM_ADIANTUM_IVS = ("plain", "plain64", "plain64be", "benbi", "null")
_FUSEDM_KEY_COUNT = 1024

_ESSIV = re.compile(r"essiv\((\w+)\((\w+)\),([\w-]+)\)")
_TEMPLATE = re.compile(r"(\w+)\((.*)\)")


@dataclass(frozen=True)
class Spec:
    """aes:2-cbc-essiv:sha256, or capi:xts(aes)-plain64. chain is empty if it is not told apart."""

    cipher: str
    key_count: int
    chain: str
    iv: str
    iv_options: str
    is_capi: bool


def parse_spec(text: str) -> Spec | str:
    """The parts of a cipher, or what is wrong with it."""
    if text.startswith("capi:"):
        return _parse_capi(text.removeprefix("capi:"))
    cipher, _, rest = text.partition("-")
    name, colon, keys = cipher.partition(":")
    key_count = whole_number(keys) if colon else 1
    if not name:
        return "has no cipher: use cipher-chainmode-ivmode"
    if key_count is None or not is_power_of_two(key_count):
        return "has a number of keys that is not a power of two"
    chain, _, iv = rest.partition("-")
    if not chain or rest == "plain":
        return Spec(name, key_count, "cbc", "plain", "", False)
    iv_mode, _, iv_options = iv.partition(":")
    return _checked(Spec(name, key_count, chain, iv_mode, iv_options, False))


def _parse_capi(text: str) -> Spec | str:
    # The IV options follow the last colon, the IV mode the last dash.
    head, colon, iv_options = text.rpartition(":")
    if not colon:
        head, iv_options = text, ""
    template, dash, iv = head.rpartition("-")
    if not dash or ")" in iv:
        template, iv = head, ""
    essiv = _ESSIV.fullmatch(template)
    if essiv and iv == "plain64":
        return _checked(Spec(essiv[2], 1, essiv[1], "essiv", essiv[3], True))
    found = _TEMPLATE.fullmatch(template)
    chain, cipher = (found[1], found[2]) if found else ("", template)
    return _checked(Spec(cipher, 1, chain, iv, iv_options, True))


def _checked(spec: Spec) -> Spec | str:
    if not spec.iv and spec.chain != "ecb" and not spec.is_capi:
        return f"has no IV mode, which all but ecb need: use one of {', '.join(IV_MODES)}"
    if spec.iv and spec.iv not in IV_MODES:
        return f"has an unknown IV mode: use one of {', '.join(IV_MODES)}"
    if spec.iv == "essiv" and not spec.iv_options:
        return "has no digest, which essiv needs: use essiv:sha256"
    return spec


def unknown_part(spec: Spec) -> str:
    """What of a cipher no kernel has a name for; empty if it may have all of it.

    A name with a dash may be that of a driver, of which there are too many to know. Only a stream
    cipher or a driver stands without brackets.
    """
    known = {*CIPHERS, *SIMPLE_CHAINS, *_STREAMS, *DIGEST_SIZES, *_OTHERS.split()}
    if spec.is_capi:
        names = re.findall(r"[\w-]+", f"{spec.chain} {spec.cipher}")
        fitting = known if spec.chain else {*_STREAMS, "chacha20"}
        wrong = [name for name in names if "-" not in name and name not in fitting]
        if wrong:
            return f"name {wrong[0]}"
    elif spec.chain not in (*SIMPLE_CHAINS, "adiantum"):
        return f"chaining mode {spec.chain}"
    elif wrong := [name for name in spec.cipher.split(",") if name not in (*CIPHERS, *_STREAMS)]:
        return f"cipher {wrong[0]}"
    is_essiv = spec.iv == "essiv"
    return f"digest {spec.iv_options}" if is_essiv and spec.iv_options not in known else ""


def fusedm_lacks(spec: Spec) -> str:
    """What of a cipher fusedm does not have; empty if it has all of it."""
    if spec.chain == "adiantum":
        return _lacks_of_adiantum(spec)
    if spec.cipher != "aes":
        return f"cipher {spec.cipher}"
    if spec.chain not in _FUSEDM_CHAINS:
        return f"chaining mode {spec.chain}"
    if spec.iv and spec.iv not in _FUSEDM_IV_MODES:
        return f"IV mode {spec.iv}"
    if not spec.iv and spec.chain != "ecb":
        return f"{spec.chain} without an IV mode"
    if spec.chain == "ecb" and spec.iv == "essiv":
        return "essiv with ecb"
    if spec.iv == "essiv" and spec.iv_options not in DIGEST_SIZES:
        return f"digest {spec.iv_options}"
    if spec.iv != "essiv" and spec.iv_options:
        return f"option {spec.iv_options} of {spec.iv}"
    return "a key count so large" if spec.key_count > _FUSEDM_KEY_COUNT else ""


def _lacks_of_adiantum(spec: Spec) -> str:
    if spec.cipher not in _FUSEDM_STREAMS:
        return f"adiantum with {spec.cipher}"
    if spec.iv not in _FUSEDM_ADIANTUM_IVS or spec.iv_options:
        return f"adiantum with IV mode {':'.join(filter(None, (spec.iv, spec.iv_options)))}"
    return "a key count so large" if spec.key_count > _FUSEDM_KEY_COUNT else ""

"""The kernel's ciphers of a crypt line: which there are, and how long their keys are."""

import re

from fusedm.block.cipher_word import DIGEST_SIZES, CipherWord

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


def unknown_part(spec: CipherWord) -> str:
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

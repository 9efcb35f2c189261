"""Words that name ciphers."""

import errno

import pytest

from fusedm.block.errors import CryptoError
from fusedm.crypto import CipherSpec, parse_cipher_spec


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("aes-xts-plain64", CipherSpec("xts", "plain64")),
        ("aes-cbc-essiv:sha256", CipherSpec("cbc", "essiv", "sha256")),
        ("aes-xts-essiv:blake2b-256", CipherSpec("xts", "essiv", "blake2b-256")),
        ("aes:64-cbc-plain64be", CipherSpec("cbc", "plain64be", key_count=64)),
        ("aes:1-cbc-eboiv", CipherSpec("cbc", "eboiv")),
        ("aes", CipherSpec("cbc", "plain")),
        ("aes-plain", CipherSpec("cbc", "plain")),
        ("aes:2", CipherSpec("cbc", "plain", key_count=2)),
        ("aes-ecb", CipherSpec("ecb")),
        ("aes-ecb-null", CipherSpec("ecb")),
        ("capi:xts(aes)-plain64", CipherSpec("xts", "plain64")),
        ("capi:cbc(aes)-essiv:sha256", CipherSpec("cbc", "essiv", "sha256")),
        ("capi:cbc(aes)-essiv:sha3-256", CipherSpec("cbc", "essiv", "sha3-256")),
        ("capi:essiv(cbc(aes),sha256)-plain64", CipherSpec("cbc", "essiv", "sha256")),
        ("capi:essiv(cbc(aes),sha3-256)-plain64", CipherSpec("cbc", "essiv", "sha3-256")),
        ("capi:ecb(aes)", CipherSpec("ecb")),
        ("capi:ecb(aes)-null", CipherSpec("ecb")),
        ("xchacha12,aes-adiantum-plain64", CipherSpec("adiantum", "plain64", rounds=12)),
        ("xchacha20,aes:2-adiantum-null", CipherSpec("adiantum", "null", "", 2, 20)),
        ("capi:adiantum(xchacha12,aes)-plain64", CipherSpec("adiantum", "plain64", rounds=12)),
        ("capi:adiantum(xchacha20,aes)-benbi", CipherSpec("adiantum", "benbi", rounds=20)),
    ],
)
def test_a_word_names_a_cipher(text, spec):
    assert parse_cipher_spec(text) == spec


@pytest.mark.parametrize(
    ("text", "number", "says"),
    [
        ("serpent-xts-plain64", errno.ENOENT, "cipher serpent is run by the kernel only"),
        ("aes-lrw-benbi", errno.ENOENT, "chaining mode lrw is run by the kernel only"),
        ("aes-cbc-essiv:tgr192", errno.ENOENT, "digest tgr192 is run by the kernel only"),
        ("aes-cbc-essiv:sha512", errno.EINVAL, "sha512 has 64 bytes, which are no key for aes"),
        ("aes-cbc-essiv", errno.EINVAL, "has no digest, which essiv needs"),
        ("capi:cbc(aes)-essiv", errno.EINVAL, "has no digest, which essiv needs"),
        ("aes-ecb-essiv:sha256", errno.EINVAL, "essiv with ecb is run by the kernel"),
        ("aes-xts", errno.EINVAL, "'aes-xts' has no IV mode, which all but ecb need"),
        ("capi:xts(aes)", errno.EINVAL, "xts without an IV mode is run by the"),
        ("aes-xts-lmk", errno.EINVAL, "IV mode lmk is run by the kernel only"),
        ("aes-xts-plain64-more", errno.EINVAL, "has an unknown IV mode: use one of plain"),
        ("aes-xts-plain64:extra", errno.EINVAL, "option extra of plain64 is run by"),
        ("aes-ecb-:extra", errno.EINVAL, "option extra of no IV is run by"),
        ("aes:3-cbc-plain", errno.EINVAL, "has '3' keys, which is not a power of two"),
        ("aes:0-cbc-plain", errno.EINVAL, "'0' keys"),
        ("aes:-cbc-plain", errno.EINVAL, "'' keys"),
        (
            "aes:2048-cbc-plain",
            errno.EINVAL,
            "2048 keys, more than 1024: that is run by",
        ),
        ("xts(aes)-plain64", errno.EINVAL, "is written with capi: in front"),
        ("capi:aes-xts", errno.EINVAL, "'capi:aes-xts' has an unknown IV mode"),
        ("capi:gcm(aes)-random", errno.ENOENT, "chaining mode gcm is run by the kernel"),
        ("capi:essiv(cbc(aes),sha256)-null", errno.ENOENT, "cipher cbc(aes),sha256 is run by"),
        ("capi:", errno.EINVAL, "'capi:' has no cipher"),
        ("aes-adiantum-plain64", errno.ENOENT, "adiantum with aes is run by the kernel"),
        ("xchacha8,aes-adiantum-plain64", errno.ENOENT, "adiantum with xchacha8,aes is run by"),
        ("xchacha12,aes-xts-plain64", errno.ENOENT, "cipher xchacha12,aes is run by the"),
        ("xchacha12,aes-adiantum", errno.EINVAL, "has no IV mode, which all but ecb need"),
        ("xchacha12,aes-adiantum-eboiv", errno.EINVAL, "adiantum with IV mode eboiv is run by"),
        (
            "xchacha12,aes-adiantum-plain64:x",
            errno.EINVAL,
            "adiantum with IV mode plain64:x is",
        ),
        (
            "capi:essiv(adiantum(xchacha12,aes),sha256)-plain64",
            errno.EINVAL,
            "adiantum with IV mode essiv:sha256 is run by the kernel only",
        ),
        ("", errno.EINVAL, "'' has no cipher: use cipher-chainmode-ivmode"),
    ],
)
def test_a_word_that_names_none_is_refused(text, number, says):
    with pytest.raises(CryptoError) as caught:
        parse_cipher_spec(text)
    assert says in str(caught.value)
    assert caught.value.errno == number


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("aes-cbc-plain", (16, 24, 32)),
        ("aes-xts-plain64", (32, 48, 64)),
        ("aes:4-xts-plain64", (128, 192, 256)),
    ],
)
def test_the_sizes_of_keys_are_those_of_aes_for_each_key(text, sizes):
    assert parse_cipher_spec(text).key_sizes == sizes

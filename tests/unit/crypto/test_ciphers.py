"""Software ciphers against published vectors and the reference."""

import hashlib
import json
from pathlib import Path

import pytest

from fusedm.block import MODES, CryptoConfig, CryptoKey
from fusedm.block.errors import CryptoError
from fusedm.crypto.ciphers import CIPHERS, make_cipher
from tests.helpers import reference_xts
from tests.helpers.builders import MODE, make_key, pattern

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "aes_256_xts.json").read_text())
official = pytest.mark.parametrize("vector", VECTORS["official"], ids=lambda v: v["name"])
derived = pytest.mark.parametrize("vector", VECTORS["derived"], ids=lambda v: v["name"])


def encrypt(key, dun, data):
    result = memoryview(bytearray(len(data)))
    make_cipher(key).encrypt(dun, memoryview(data), result)
    return bytes(result)


def decrypt(key, dun, data):
    result = memoryview(bytearray(len(data)))
    make_cipher(key).decrypt(dun, memoryview(data), result)
    return bytes(result)


@official
def test_the_reference_gives_published_ciphertexts(vector):
    key, iv, plaintext, ciphertext = (
        bytes.fromhex(vector[name]) for name in ("key", "iv", "plaintext", "ciphertext")
    )
    dun = int.from_bytes(iv, "little")
    assert reference_xts.encrypt(key, len(plaintext), dun, plaintext) == ciphertext
    assert reference_xts.decrypt(key, len(plaintext), dun, ciphertext) == plaintext


def test_the_cipher_gives_the_published_ciphertext_of_a_whole_data_unit():
    vector = VECTORS["official"][0]
    key = CryptoKey("ieee", CryptoConfig(MODE, 512, 16), bytes.fromhex(vector["key"]))
    plaintext, ciphertext = (bytes.fromhex(vector[name]) for name in ("plaintext", "ciphertext"))
    assert encrypt(key, 0xFF, plaintext) == ciphertext
    assert decrypt(key, 0xFF, ciphertext) == plaintext


@derived
def test_cipher_and_reference_give_the_derived_ciphertexts(vector):
    data = bytes((7 * index + 3) % 256 for index in range(vector["length"]))
    raw, unit = bytes(range(64)), vector["data_unit_size"]
    ours = encrypt(CryptoKey("k", CryptoConfig(MODE, unit, 16), raw), vector["dun"], data)
    assert hashlib.sha256(ours).hexdigest() == vector["sha256"]
    assert reference_xts.encrypt(raw, unit, vector["dun"], data) == ours


def test_transforming_in_place_is_the_same():
    key, data = make_key(), pattern(1536)
    buffer = memoryview(bytearray(data))
    make_cipher(key).encrypt(7, buffer, buffer)
    assert bytes(buffer) == encrypt(key, 7, data)
    make_cipher(key).decrypt(7, buffer, buffer)
    assert bytes(buffer) == data


def test_the_source_is_left_alone():
    data = pattern(1024)
    before = bytes(data)
    encrypt(make_key(), 0, data)
    assert data == before


def test_a_key_with_equal_halves_is_refused_without_its_bytes():
    key = CryptoKey("weak", CryptoConfig(MODE, 512, 8), b"\xab" * 64)
    with pytest.raises(CryptoError, match="key 'weak': the two halves of an XTS key are") as caught:
        make_cipher(key)
    assert "abab" not in str(caught.value)


def test_a_wiped_key_makes_no_cipher():
    key = make_key()
    key.wipe()
    with pytest.raises(CryptoError):
        make_cipher(key)


def test_a_cipher_outlives_the_wiping_of_its_key():
    key, data = make_key(), pattern(512)
    cipher, want = make_cipher(key), encrypt(key, 3, data)
    key.wipe()
    result = memoryview(bytearray(512))
    cipher.encrypt(3, memoryview(data), result)
    assert bytes(result) == want


def test_every_mode_has_a_cipher():
    assert set(CIPHERS) == set(MODES)

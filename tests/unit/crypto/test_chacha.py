"""Keystreams of many nonces at once, against the reference's one by one."""

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from fusedm.crypto.chacha import BLOCK_BYTES, chacha, hchacha
from tests.helpers import reference_adiantum
from tests.helpers.builders import pattern


def words(data, shape):
    return np.frombuffer(data, "<u4").astype(np.uint32).reshape(shape)


@pytest.mark.parametrize(("count", "block_count"), [(1, 1), (1, 64), (5, 3), (17, 8)])
@pytest.mark.parametrize("rounds", [12, 20])
def test_the_keystreams_are_those_of_the_reference(count, block_count, rounds):
    key, nonces = bytes(pattern(32)), bytes(pattern(24 * count, seed=1))
    as_words = words(nonces, (count, 6))
    keys = hchacha(words(key, 8), as_words[:, :4], rounds)
    streams = chacha(keys, as_words[:, 4:], block_count, rounds)
    assert streams.shape == (count, block_count * BLOCK_BYTES // 4)
    for index in range(count):
        nonce = nonces[24 * index : 24 * index + 24]
        want = reference_adiantum.xchacha(key, nonce, block_count * BLOCK_BYTES, rounds)
        assert streams[index].tobytes() == want


def test_key_and_nonces_are_left_alone():
    key, nonces = words(bytes(32), 8), words(bytes(pattern(48)), (2, 6))
    before = nonces.tobytes()
    chacha(hchacha(key, nonces[:, :4]), nonces[:, 4:], 2)
    assert (key.tobytes(), nonces.tobytes()) == (bytes(32), before)


def test_twenty_rounds_are_the_librarys_chacha20():
    key, nonce = bytes(pattern(32)), bytes(pattern(8, seed=3))
    # The library's nonce begins with the counter.
    library = Cipher(algorithms.ChaCha20(key, bytes(8) + nonce), None).encryptor()
    found = chacha(words(key, (1, 8)), words(nonce, (1, 2)), 3, 20)
    assert found.tobytes() == library.update(bytes(3 * BLOCK_BYTES))

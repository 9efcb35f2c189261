"""Keystreams of many nonces at once, against the reference's one by one."""

import numpy as np
import pytest

from fusedm.crypto.chacha import BLOCK_BYTES, chacha12, hchacha12
from tests.helpers import reference_adiantum
from tests.helpers.builders import pattern


def words(data, shape):
    return np.frombuffer(data, "<u4").astype(np.uint32).reshape(shape)


@pytest.mark.parametrize(("count", "block_count"), [(1, 1), (1, 64), (5, 3), (17, 8)])
def test_the_keystreams_are_those_of_the_reference(count, block_count):
    key, nonces = bytes(pattern(32)), bytes(pattern(24 * count, seed=1))
    as_words = words(nonces, (count, 6))
    keys = hchacha12(words(key, 8), as_words[:, :4])
    streams = chacha12(keys, as_words[:, 4:], block_count)
    assert streams.shape == (count, block_count * BLOCK_BYTES // 4)
    for index in range(count):
        nonce = nonces[24 * index : 24 * index + 24]
        want = reference_adiantum.xchacha12(key, nonce, block_count * BLOCK_BYTES)
        assert streams[index].tobytes() == want


def test_key_and_nonces_are_left_alone():
    key, nonces = words(bytes(32), 8), words(bytes(pattern(48)), (2, 6))
    before = nonces.tobytes()
    chacha12(hchacha12(key, nonces[:, :4]), nonces[:, 4:], 2)
    assert (key.tobytes(), nonces.tobytes()) == (bytes(32), before)

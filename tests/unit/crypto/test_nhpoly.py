"""Hashes of many data units at once, against the reference's one by one."""

import numpy as np
import pytest

from fusedm.crypto.nhpoly import NH_KEY_BYTES, NhPoly, poly1305_key
from tests.helpers import reference_adiantum
from tests.helpers.builders import pattern

TWEAK_KEY, MESSAGE_KEY = bytes(pattern(16, seed=1)), bytes(b"\xff" * 16)
NH_KEY = bytes(pattern(NH_KEY_BYTES, seed=2))


def hasher(unit_size):
    return NhPoly(
        unit_size,
        poly1305_key(memoryview(TWEAK_KEY)),
        poly1305_key(memoryview(MESSAGE_KEY)),
        memoryview(NH_KEY),
    )


def reference(data):
    chunks = [data[at : at + 1024] for at in range(0, len(data), 1024)]
    of_chunks = b"".join(reference_adiantum.nh(NH_KEY, chunk) for chunk in chunks)
    return reference_adiantum.poly1305(MESSAGE_KEY, of_chunks)


@pytest.mark.parametrize(
    ("unit_size", "count"), [(32, 1), (512, 3), (1024, 40), (4096, 5), (32768, 2)]
)
def test_data_are_hashed_without_their_last_16_bytes(unit_size, count):
    data = bytes(pattern(unit_size * count))
    found = hasher(unit_size).hashes(np.frombuffer(data, "<u4").reshape(count, -1))
    assert found == [
        reference(data[at : at + unit_size - 16]) for at in range(0, len(data), unit_size)
    ]


def test_words_that_are_all_ones_do_not_overflow():
    data = b"\xff" * 4096
    found = hasher(4096).hashes(np.frombuffer(data, "<u4").reshape(1, -1))
    assert found == [reference(data[:-16])]


@pytest.mark.parametrize("unit_size", [512, 65536])
def test_tweaks_are_hashed_with_the_length_of_the_data(unit_size):
    tweaks = [bytes(pattern(32, seed)) for seed in range(3)] + [b"\xff" * 32]
    found = hasher(unit_size).tweak_hashes(np.frombuffer(b"".join(tweaks), "<u8").reshape(4, 4))
    bits = (8 * (unit_size - 16)).to_bytes(16, "little")
    assert found == [reference_adiantum.poly1305(TWEAK_KEY, bits + tweak) for tweak in tweaks]

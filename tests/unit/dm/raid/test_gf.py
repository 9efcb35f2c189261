"""The compiled sums of products against a slow reference, with and without AVX2."""

import random
from collections.abc import Iterator

import pytest

from fusedm.dm.raid.gf import add_products, use_code_for_any_processor
from tests.helpers.reference_parity import p_of, product, q_of

#: Whole vectors, their ends, more than a piece, and what is done without the GIL.
SIZES = [0, 1, 15, 16, 31, 32, 33, 512, 8192 + 40, 1 << 16]


@pytest.fixture(params=[False, True], ids=["this processor", "any processor"], autouse=True)
def code(request: pytest.FixtureRequest) -> Iterator[None]:
    use_code_for_any_processor(request.param)
    yield
    use_code_for_any_processor(False)


@pytest.mark.parametrize("size", SIZES)
def test_p_and_q_are_those_of_the_reference(size):
    some = random.Random(size)
    data = [some.randbytes(size) for _ in range(5)]
    p, q = bytearray(size), bytearray(size)
    add_products([p, q], data, [bytes([1] * 5), bytes([1, 2, 4, 8, 16])])
    if size > 8192:  # The reference is slow.
        data = [each[-600:] for each in data]
        p, q = p[-600:], q[-600:]
    assert (p, q) == (p_of(data), q_of(data, range(5)))


def test_every_product_is_that_of_the_reference():
    every = bytes(range(256))
    for factor in range(256):
        target = bytearray(256)
        add_products([target], [every], [bytes([factor])])
        assert list(target) == [product(byte, factor) for byte in every]


def test_sums_are_added_to_what_a_target_has():
    target = bytearray(b"\x0f" * 100)
    add_products([target], [b"\xff" * 100, memoryview(b"\x01" * 100)], [b"\x01\x02"])
    assert target == bytes([0x0F ^ 0xFF ^ 0x02]) * 100


def test_without_a_target_nothing_is_done():
    add_products([], [b"abc"], [])


def test_without_a_source_a_target_stays_as_it_is():
    target = bytearray(b"abc")
    add_products([target], [], [b""])
    assert target == b"abc"


def test_buffers_of_several_lengths_are_refused():
    with pytest.raises(ValueError, match="a buffer of 3 bytes beside one of 4"):
        add_products([bytearray(4)], [b"abc"], [b"\x01"])


def test_factors_are_one_for_each_source_of_each_target():
    with pytest.raises(ValueError, match="3 factors for 2 targets of 2 sources"):
        add_products([bytearray(4), bytearray(4)], [b"abcd", b"abcd"], [b"\x01", b"\x01\x02"])


def test_a_target_that_cannot_be_written_is_refused():
    with pytest.raises(BufferError):
        add_products([b"abcd"], [b"abcd"], [b"\x01"])

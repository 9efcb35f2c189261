"""The compiled sums of products against the reference, with and without AVX2."""

import random
from collections.abc import Iterator

import pytest

from fusedm.dm.raid.gf import sum_products, use_code_for_any_processor
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
    sum_products([p, q], data, [bytes([1] * 5), bytes([1, 2, 4, 8, 16])])
    assert (p, q) == (p_of(data), q_of(data, range(5)))


def test_every_product_is_that_of_the_reference():
    every = bytes(range(256))
    for factor in range(256):
        target = bytearray(256)
        sum_products([target], [every], [bytes([factor])])
        assert list(target) == [product(byte, factor) for byte in every]


def test_what_a_target_had_before_does_not_count():
    target = bytearray(b"\x0f" * 100)
    sum_products([target], [b"\xff" * 100, memoryview(b"\x01" * 100)], [b"\x01\x02"])
    assert target == bytes([0xFF ^ 0x02]) * 100


def test_without_a_target_nothing_is_done():
    sum_products([], [b"abc"], [])


def test_a_sum_of_nothing_is_zero():
    target = bytearray(b"abc")
    sum_products([target], [], [b""])
    assert target == bytes(3)


def test_buffers_of_several_lengths_are_refused():
    with pytest.raises(ValueError, match="a buffer of 3 bytes beside one of 4"):
        sum_products([bytearray(4)], [b"abc"], [b"\x01"])


def test_factors_are_one_for_each_source_of_each_target():
    with pytest.raises(ValueError, match="3 factors for 2 targets of 2 sources"):
        sum_products([bytearray(4), bytearray(4)], [b"abcd", b"abcd"], [b"\x01", b"\x01\x02"])


def test_a_target_that_cannot_be_written_is_refused():
    with pytest.raises(BufferError):
        sum_products([b"abcd"], [b"abcd"], [b"\x01"])

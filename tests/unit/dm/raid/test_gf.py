"""The compiled sums of products against the reference, with and without AVX2."""

import random
from collections.abc import Iterator

import pytest

from fusedm.dm.raid.gf import (
    differing,
    not_zero,
    sum_pieces,
    sum_products,
    use_code_for_any_processor,
)
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


@pytest.mark.parametrize("size", [1, 31, 64, 4096 + 40])
def test_each_piece_has_its_own_factors(size):
    data = [random.Random(number).randbytes(4 * size) for number in range(3)]
    factors = [bytes(random.Random(size).choices([0, 1, 7, 200], k=6)) for _ in range(3)]
    targets = [bytearray(4 * size), bytearray(4 * size)]
    sum_pieces(targets, data, list(zip([size, 2 * size, size], factors, strict=True)))
    at = 0
    for length, own in zip([size, 2 * size, size], factors, strict=True):
        want = [bytearray(length), bytearray(length)]
        parts = [each[at : at + length] for each in data]
        sum_products(want, parts, [own[:3], own[3:]])
        assert [each[at : at + length] for each in targets] == want
        at += length


def test_pieces_of_another_length_than_the_buffers_are_refused():
    for lengths in ([1, 2], [3, 2]):
        pieces = [(length, b"\x01") for length in lengths]
        with pytest.raises(ValueError, match=f"pieces of {sum(lengths)} bytes of buffers of 4"):
            sum_pieces([bytearray(4)], [b"abcd"], pieces)


def test_factors_of_a_piece_are_one_for_each_source_of_each_target():
    with pytest.raises(ValueError, match="1 factors for 1 targets of 2 sources"):
        sum_pieces([bytearray(4)], [b"abcd", b"abcd"], [(2, b"\x01\x01"), (2, b"\x01")])


@pytest.mark.parametrize("at", [0, 7, 8, 15, 16, 19])
def test_steps_with_another_byte_than_zero_are_found(at):
    data = bytearray(20)
    assert (not_zero(data, 8), not_zero(b"", 8)) == ([], [])
    assert (differing(data, bytes(20), 8), differing(b"", b"", 8)) == ([], [])
    data[at] = 1
    assert not_zero(data, 8) == [at - at % 8]
    assert differing(memoryview(data), bytes(20), 8) == [at - at % 8]


def test_what_differs_has_one_length():
    with pytest.raises(ValueError, match="3 bytes beside 4"):
        differing(b"abc", b"abcd", 8)


def test_a_piece_of_a_negative_length_is_refused():
    with pytest.raises(ValueError, match="a piece of -1 bytes"):
        sum_pieces([bytearray(4)], [b"abcd"], [(5, b"\x01"), (-1, b"\x01")])

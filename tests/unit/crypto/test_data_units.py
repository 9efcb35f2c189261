"""Data units that are holes, among those that are decrypted."""

from itertools import product

import pytest

from fusedm.block import CryptContext
from fusedm.crypto import decrypt_data
from fusedm.crypto.ciphers import make_cipher
from tests.helpers import reference_xts
from tests.helpers.builders import make_key, pattern

#: The units from the third on need more than 64 bits.
DUN = (1 << 64) - 2


@pytest.mark.parametrize(
    ("unit", "holes"),
    [
        *((512, holes) for holes in product([False, True], repeat=4)),
        (4096, (True, False, False, True)),
        (65536, (False, True)),
    ],
)
def test_units_of_zeros_stay_zeros_and_the_others_are_decrypted(
    unit: int, holes: tuple[bool, ...]
) -> None:
    """At the start, in the middle, at the end, all and none of them."""
    key, data = make_key(unit=unit, dun_bytes=16), medium_with(unit, holes)
    decrypted = memoryview(bytearray(data))
    decrypt_data(make_cipher(key), CryptContext(key, DUN, zeros_are_holes=True), decrypted)
    plain = reference_xts.decrypt(bytes(key.raw), unit, DUN, data)
    wanted = [
        bytes(unit) if hole else plain[at * unit : (at + 1) * unit] for at, hole in enumerate(holes)
    ]
    assert decrypted == b"".join(wanted)


@pytest.mark.parametrize("holes", [(True, True), (False, True), (True, False), (False, False)])
def test_without_holes_zeros_are_decrypted_like_anything_else(holes: tuple[bool, ...]) -> None:
    key, data = make_key(unit=512, dun_bytes=16), medium_with(512, holes)
    decrypted = memoryview(bytearray(data))
    decrypt_data(make_cipher(key), CryptContext(key, DUN), decrypted)
    assert decrypted == reference_xts.decrypt(bytes(key.raw), 512, DUN, data)


def test_a_unit_that_is_not_all_zeros_is_no_hole() -> None:
    key, data = make_key(unit=512, dun_bytes=16), bytes(511) + b"\1"
    decrypted = memoryview(bytearray(data))
    decrypt_data(make_cipher(key), CryptContext(key, DUN, zeros_are_holes=True), decrypted)
    assert decrypted == reference_xts.decrypt(bytes(key.raw), 512, DUN, data)


def test_no_data_hold_no_units() -> None:
    key = make_key()
    context = CryptContext(key, 0, zeros_are_holes=True)
    decrypt_data(make_cipher(key), context, memoryview(bytearray()))


def medium_with(unit: int, holes: tuple[bool, ...]) -> bytes:
    """Units of zeros and of something that is none."""
    some = (bytes(unit) if hole else bytes(pattern(unit, at)) for at, hole in enumerate(holes))
    return b"".join(some)

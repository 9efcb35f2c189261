"""From a data unit number to an IV, from a buffer to its data units, and the holes among these."""

from itertools import product

import pytest

from fusedm.block import CryptContext
from fusedm.crypto import decrypt_data
from fusedm.crypto.batches import BATCH_BYTES, iv_array, split_at_batches
from fusedm.crypto.ciphers import ENGINE, SOFTWARE, CipherKind
from fusedm.crypto.data_units import iv_bytes, split_at_data_units
from tests.helpers import reference_xts
from tests.helpers.builders import MODE, make_key, pattern

CONFIG = make_key(unit=1024).config

#: The units from the third on need more than 64 bits.
DUN = (1 << 64) - 2


@pytest.mark.parametrize(
    ("dun", "iv"),
    [
        (0, "00" * 16),
        (0x0102, "0201" + "00" * 14),
        ((1 << 64) - 1, "ff" * 8 + "00" * 8),
        (1 << 64, "00" * 8 + "01" + "00" * 7),
        ((1 << 128) - 1, "ff" * 16),
    ],
)
def test_the_iv_is_the_dun_in_little_endian(dun, iv):
    assert iv_bytes(MODE, dun).hex() == iv


def test_a_dun_larger_than_the_iv_is_a_bug():
    with pytest.raises(OverflowError):
        iv_bytes(MODE, 1 << 128)


@pytest.mark.parametrize(("mode", "size"), [(MODE, 16), ("Adiantum", 32)])
@pytest.mark.parametrize("bits", [0, 16, 64, 100, 128, 192, 255])
@pytest.mark.parametrize("before", [0, 1, 2, 3])
def test_the_array_of_ivs_is_that_of_each_dun(mode, size, bits, before):
    dun = (1 << min(bits, 8 * size - 1)) - min(before, 1 << bits)
    ivs = iv_array(mode, dun, 3)
    assert ivs.shape == (3, size // 8)
    assert ivs.tobytes() == b"".join(iv_bytes(mode, dun + index) for index in range(3))


def test_the_last_duns_of_a_mode_have_ivs():
    assert iv_array("Adiantum", (1 << 256) - 2, 2).tobytes() == b"\xfe" + b"\xff" * 63


def test_a_run_of_duns_past_the_iv_is_a_bug():
    with pytest.raises(OverflowError):
        iv_array(MODE, (1 << 128) - 1, 2)


def test_batches_cover_the_buffer_and_their_duns_count_up():
    batches = list(split_at_batches(CONFIG, 255, 2 * BATCH_BYTES + 1024))
    ends = [BATCH_BYTES, 2 * BATCH_BYTES, 2 * BATCH_BYTES + 1024]
    assert [part for _, part in batches] == [
        slice(start, end) for start, end in zip([0, *ends], ends, strict=False)
    ]
    units = BATCH_BYTES // 1024
    assert [len(ivs) for ivs, _ in batches] == [units, units, 1]
    assert [int(ivs[0, 0]) for ivs, _ in batches] == [255, 255 + units, 255 + 2 * units]


def test_part_of_a_unit_in_a_batch_is_a_bug():
    with pytest.raises(AssertionError, match="512 is not a multiple of 1024"):
        list(split_at_batches(CONFIG, 0, 512))


def test_units_are_adjacent_and_their_duns_count_up():
    units = list(split_at_data_units(CONFIG, 255, 3072))
    assert [unit for _, unit in units] == [slice(0, 1024), slice(1024, 2048), slice(2048, 3072)]
    assert [int.from_bytes(iv, "little") for iv, _ in units] == [255, 256, 257]


def test_part_of_a_unit_is_a_bug():
    with pytest.raises(AssertionError, match="512 is not a multiple of 1024"):
        list(split_at_data_units(CONFIG, 0, 512))


# Holes.


@pytest.mark.parametrize("kind", [ENGINE, SOFTWARE], ids=["engine", "software"])
@pytest.mark.parametrize(
    ("unit", "holes"),
    [
        *((512, holes) for holes in product([False, True], repeat=4)),
        (4096, (True, False, False, True)),
        (65536, (False, True)),
    ],
)
def test_units_of_zeros_stay_zeros_and_the_others_are_decrypted(
    kind: CipherKind, unit: int, holes: tuple[bool, ...]
) -> None:
    """At the start, in the middle, at the end, all and none of them."""
    key, data = make_key(unit=unit, dun_bytes=16), medium_with(unit, holes)
    decrypted = memoryview(bytearray(data))
    decrypt_data(kind.make(key), CryptContext(key, DUN, zeros_are_holes=True), decrypted)
    plain = reference_xts.decrypt(bytes(key.raw), unit, DUN, data)
    wanted = [
        bytes(unit) if hole else plain[at * unit : (at + 1) * unit] for at, hole in enumerate(holes)
    ]
    assert decrypted == b"".join(wanted)


@pytest.mark.parametrize("kind", [ENGINE, SOFTWARE], ids=["engine", "software"])
@pytest.mark.parametrize("holes", [(True, True), (False, True), (True, False), (False, False)])
def test_without_holes_zeros_are_decrypted_like_anything_else(
    kind: CipherKind, holes: tuple[bool, ...]
) -> None:
    key, data = make_key(unit=512, dun_bytes=16), medium_with(512, holes)
    decrypted = memoryview(bytearray(data))
    decrypt_data(kind.make(key), CryptContext(key, DUN), decrypted)
    assert decrypted == reference_xts.decrypt(bytes(key.raw), 512, DUN, data)


def test_a_unit_that_is_not_all_zeros_is_no_hole() -> None:
    key, data = make_key(unit=512, dun_bytes=16), bytes(511) + b"\1"
    decrypted = memoryview(bytearray(data))
    decrypt_data(SOFTWARE.make(key), CryptContext(key, DUN, zeros_are_holes=True), decrypted)
    assert decrypted == reference_xts.decrypt(bytes(key.raw), 512, DUN, data)


def test_no_data_hold_no_units() -> None:
    key = make_key()
    context = CryptContext(key, 0, zeros_are_holes=True)
    decrypt_data(SOFTWARE.make(key), context, memoryview(bytearray()))


def medium_with(unit: int, holes: tuple[bool, ...]) -> bytes:
    """Units of zeros and of something that is none."""
    some = (bytes(unit) if hole else bytes(pattern(unit, at)) for at, hole in enumerate(holes))
    return b"".join(some)

"""Bios: splitting, remapping and following each other."""

import pytest

from fusedm.block import FLUSH, Bio, CryptContext, Op
from tests.helpers.builders import make_key, read_bio, write_bio

KEY = make_key(unit=1024)


def test_making_a_bio_counts_its_sectors():
    assert write_bio(8, bytes(1536)).sector_count == 3
    assert read_bio(8, 1024)[0].end_sector == 10


@pytest.mark.parametrize(
    ("op", "has_data", "changes"),
    [
        (Op.READ, True, False),
        (Op.WRITE, True, True),
        (Op.FLUSH, False, False),
        (Op.DISCARD, False, True),
        (Op.WRITE_ZEROES, False, True),
    ],
)
def test_what_each_operation_brings_and_does(op, has_data, changes):
    assert (op.has_data, op.changes_medium) == (has_data, changes)


def test_split_advances_the_dun():
    front, back = write_bio(8, bytes(4096), KEY, 5).split(4)
    assert (front.sector, front.sector_count, front.crypt) == (8, 4, CryptContext(KEY, 5))
    assert (back.sector, back.sector_count, back.crypt) == (12, 4, CryptContext(KEY, 7))


def test_split_shares_the_buffer():
    bio, data = read_bio(0, 1024)
    _, back = bio.split(1)
    back.data[0] = 7
    assert data[512] == 7


def test_a_bio_without_data_splits_too():
    front, back = Bio(Op.DISCARD, 10, 6).split(2)
    assert (front, back) == (Bio(Op.DISCARD, 10, 2), Bio(Op.DISCARD, 12, 4))


def test_splitting_within_a_data_unit_is_a_bug():
    with pytest.raises(AssertionError, match="512 is not a multiple of 1024"):
        write_bio(0, bytes(2048), KEY).split(1)


@pytest.mark.parametrize("count", [-1, 0, 4, 5])
def test_both_halves_of_a_split_have_sectors(count):
    with pytest.raises(AssertionError, match=f"{count} of 4"):
        Bio(Op.DISCARD, 0, 4).split(count)


def test_remap_changes_the_sector_only():
    bio = write_bio(8, bytes(1024), KEY, 5)
    moved = bio.remap(100)
    assert moved.sector == 100
    assert moved.data is bio.data
    assert moved.crypt is bio.crypt


def test_other_data_come_without_context():
    bounce = memoryview(bytearray(1024))
    below = write_bio(8, bytes(1024), KEY, 5).with_data(bounce)
    assert below == Bio(Op.WRITE, 8, 2, bounce, is_encrypted=True)


def test_a_mark_of_ciphertext_stays_through_splits_and_moves():
    below = write_bio(8, bytes(1024)).with_data(memoryview(bytearray(1024)))
    assert [part.is_encrypted for part in (*below.split(1), below.remap(3))] == [True] * 3
    assert below.crypt is None


def test_other_data_have_the_same_length():
    with pytest.raises(AssertionError, match="512 bytes for 1024"):
        write_bio(8, bytes(1024)).with_data(memoryview(bytes(512)))


def test_what_follows_a_bio():
    bio = write_bio(8, bytes(2048), KEY, 5)
    assert bio.is_followed_by(write_bio(12, bytes(1024), KEY, 7))
    assert write_bio(8, bytes(512)).is_followed_by(write_bio(9, bytes(512)))


def test_what_does_not_follow_a_bio():
    bio = write_bio(8, bytes(2048), KEY, 5)
    assert not bio.is_followed_by(write_bio(13, bytes(1024), KEY, 7))
    assert not bio.is_followed_by(write_bio(12, bytes(1024), KEY, 8))
    assert not bio.is_followed_by(write_bio(12, bytes(1024)))
    assert not bio.is_followed_by(read_bio(12, 1024, KEY, 7)[0])
    assert not write_bio(8, bytes(512)).is_followed_by(write_bio(9, bytes(1024), KEY))


def test_a_bio_prints_as_operation_and_sectors():
    assert str(Bio(Op.WRITE_ZEROES, 3, 4)) == "write zeroes of sectors 3..7"


def test_a_flush_has_no_place():
    assert (FLUSH.sector, FLUSH.sector_count, len(FLUSH.data), FLUSH.crypt) == (0, 0, 0, None)

"""What is special to linear; the rest is in tests/contracts/test_every_target.py."""

import pytest

from fusedm.block import Bio, CryptContext, CryptoConfig, CryptoKey, Op
from fusedm.block.errors import BlockIOError, Status
from fusedm.dm import Remap, Target, parse_table
from tests.helpers.devices import RecordingDevice, lookup_in

D0 = RecordingDevice("d0", 4096)


def make(words: str) -> Target:
    return parse_table(f"0 1024 linear {words}", lookup_in(D0), lambda: 0.0).entries[0].target


@pytest.mark.parametrize("op", [Op.DISCARD, Op.WRITE_ZEROES])
def test_every_operation_goes_to_its_place_in_the_device(op):
    assert make("d0 100").map(Bio(op, 5, 50)) == Remap(D0, Bio(op, 105, 50))


def test_remapping_does_not_change_the_dun():
    key = CryptoKey("k", CryptoConfig("AES-256-XTS", 512, 8), bytes(64))
    bio = Bio.write(5, memoryview(bytes(1024)), CryptContext(key, 7))
    action = make("d0 100").map(bio)
    assert action == Remap(D0, Bio.write(105, bio.data, CryptContext(key, 7)))


@pytest.mark.parametrize("error", [None, BlockIOError(Status.MEDIUM, "d0", "broken")])
def test_what_the_device_says_is_passed_on(error):
    assert make("d0 100").end_io(Bio(Op.DISCARD, 5, 50), error) is error


def test_it_has_no_status():
    assert make("d0 100").status() == []

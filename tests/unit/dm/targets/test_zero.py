"""What is special to zero; the rest is in tests/contracts/test_every_target.py."""

import pytest

from fusedm.block import FLUSH, Bio, Op
from fusedm.block.errors import Status
from fusedm.dm import Complete, Fail, Target, parse_table
from tests.helpers.devices import lookup_in


def make() -> Target:
    return parse_table("0 1024 zero", lookup_in(), lambda: 0.0).entries[0].target


@pytest.mark.parametrize(
    "bio",
    [
        Bio.read(0, memoryview(bytearray(512))),
        Bio.write(0, memoryview(bytes(512))),
        Bio(Op.DISCARD, 0, 8),
        FLUSH,
    ],
    ids=str,
)
def test_nothing_goes_anywhere(bio):
    assert make().map(bio) == Complete()


def test_write_zeroes_is_not_supported():
    assert make().map(Bio(Op.WRITE_ZEROES, 0, 8)) == Fail(Status.NOTSUPP)


def test_it_uses_no_device():
    assert list(make().devices()) == []

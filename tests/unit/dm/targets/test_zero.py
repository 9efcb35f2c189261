"""What is special to zero; the rest is in tests/contracts/test_every_target.py."""

import pytest

from fusedm.block import FLUSH, Bio, Op
from fusedm.dm import Complete, Target, parse_table
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


def test_it_uses_no_device():
    assert list(make().devices()) == []

"""Values: what is equal is the same key, and nothing can be put into them that is not theirs."""

import pytest

from fusedm.block import Bio, Op
from fusedm.block.value import value


@value
class Pair:
    """Two of anything."""

    first: object
    second: object = None


def test_values_compare_by_what_they_say():
    assert Pair(1) == Pair(1, None)
    assert Pair(1) != Pair(2)
    assert {Pair(1): "one"}[Pair(1)] == "one"


def test_values_have_no_other_attributes():
    with pytest.raises(AttributeError):
        Pair(1).third = 3


def test_operations_are_keys_and_there_is_one_of_each():
    assert {op: op.value for op in Op} == {Op(op.value): op.value for op in Op}
    assert Bio(Op.READ, 0, 8) == Bio(Op("read"), 0, 8)

"""The first error is the one that is raised; what fails in undoing is told after it."""

import pytest

from fusedm.block.errors import StackError
from fusedm.host.undoing import notes, undone_by


def failing(text: str) -> None:
    raise StackError(text)


def test_an_error_of_the_block_is_raised_with_that_of_undoing_as_a_note():
    with pytest.raises(StackError, match="first") as raised, undone_by(lambda: failing("second")):
        failing("first")
    assert notes(raised.value) == ["and then: second"]


def test_an_interrupt_is_not_lost_either():
    with pytest.raises(KeyboardInterrupt) as raised, undone_by(lambda: failing("second")):
        raise KeyboardInterrupt
    assert notes(raised.value) == ["and then: second"]


def test_what_fails_in_undoing_alone_is_raised():
    done = []
    with pytest.raises(StackError, match="^second$"), undone_by(lambda: failing("second")):
        done.append("block")
    assert done == ["block"]


def test_it_is_undone_once_either_way():
    done = []
    with undone_by(lambda: done.append("undone")):
        done.append("block")
    with pytest.raises(StackError) as raised, undone_by(lambda: done.append("undone")):
        failing("first")
    assert done == ["block", "undone", "undone"]
    assert notes(raised.value) == []

"""Names: free or taken, open or not, and that a rename takes everything along."""

import errno

import pytest

from fusedm.block.errors import StackError
from fusedm.system.name_table import NameTable


def test_a_claimed_name_is_taken_until_it_is_released():
    names = NameTable()
    names.claim("disk", "a")
    with pytest.raises(StackError, match="^name 'a' is taken$") as caught:
        names.claim("view", "a")
    assert caught.value.errno == errno.EEXIST
    names.release("a")
    names.claim("view", "a")


def test_opens_are_counted():
    names = NameTable()
    names.claim("disk", "a")
    names.opened("a")
    names.opened("a")
    names.closed("a")
    assert names.open_count("a") == 1


def test_a_rename_takes_times_and_opens_along():
    names = NameTable()
    names.claim("disk", "a")
    names.opened("a")
    names.written["a"] = 1.0
    names.note_write("a")
    assert names.written["a"] > 1.0
    before = names.created["a"], names.written["a"], names.open_count("a")
    names.rename("a", "b")
    assert (names.created["b"], names.written["b"], names.open_count("b")) == before
    names.check_free("disk", "a")


def test_a_rename_is_expected_only_while_a_verb_does_it() -> None:
    names = NameTable()
    with names.renaming("a", "b"):
        assert names.is_renaming("a", "b")
        assert not names.is_renaming("b", "a")
    assert not names.is_renaming("a", "b")

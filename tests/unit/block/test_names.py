"""What may be a name and what may not."""

import errno

import pytest

from fusedm.block.errors import StackError
from fusedm.block.names import MAX_NAME_BYTES, check_name


@pytest.mark.parametrize(
    "name", ["data", "0", "a.b", ".hidden", "-x", "größe", "a\\b", '"', "n" * MAX_NAME_BYTES]
)
def test_ordinary_names_are_accepted(name: str) -> None:
    check_name("disk", name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("", "disk name is empty"),
        (".", "disk name '.' is reserved"),
        ("..", "disk name '..' is reserved"),
        ("control", "disk name 'control' is reserved"),
        ("a/b", "disk name 'a/b' contains '/'"),
        ("a b", "disk name 'a b' contains ' '"),
        ("a\tb", r"disk name 'a\tb' contains '\t'"),
        ("a\nb", r"disk name 'a\nb' contains '\n'"),
        ("a\0b", r"disk name 'a\x00b' contains '\x00'"),
        ("a\x7fb", r"disk name 'a\x7fb' contains '\x7f'"),
        ("a\u00a0b", r"disk name 'a\xa0b' contains '\xa0'"),
        ("a\u202eb", r"disk name 'a\u202eb' contains '\u202e'"),
        ("a\ud800b", r"disk name 'a\ud800b' contains '\ud800'"),
    ],
)
def test_a_name_that_is_no_file_name_is_refused(name: str, text: str) -> None:
    with pytest.raises(StackError) as caught:
        check_name("disk", name)
    assert str(caught.value) == text
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("name", ["n" * 128, "ö" * 64])
def test_a_name_of_128_bytes_is_refused_and_not_repeated(name: str) -> None:
    with pytest.raises(StackError) as caught:
        check_name("key", name)
    assert str(caught.value) == "key name of 128 bytes is longer than 127 bytes"

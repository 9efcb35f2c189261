"""The words of the NBD protocol: sizes of messages, and errors both ways."""

import errno
from struct import Struct

import pytest

from fusedm.nbd import errno_of_wire, wire_of_errno, words


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        (words.GREETING, 18),
        (words.CLIENT_FLAGS, 4),
        (words.OPTION, 16),
        (words.OPTION_REPLY, 20),
        (words.EXPORT, 10),
        (words.INFO_EXPORT, 12),
        (words.INFO_BLOCK_SIZE, 14),
        (words.REQUEST, 28),
        (words.SIMPLE_REPLY, 16),
        (words.STRUCTURED_REPLY, 20),
        (words.CHUNK_HOLE, 12),
        (words.CHUNK_ERROR, 6),
        (words.EXTENT, 8),
    ],
)
def test_a_message_has_the_size_that_the_protocol_gives_it(shape: Struct, size: int) -> None:
    assert shape.size == size


def test_the_magic_numbers_are_the_letters_they_stand_for() -> None:
    assert words.GREETING_MAGIC.to_bytes(8, "big") == b"NBDMAGIC"
    assert words.OPTION_MAGIC.to_bytes(8, "big") == b"IHAVEOPT"


@pytest.mark.parametrize(
    "number", ["EPERM", "EIO", "ENOMEM", "EINVAL", "ENOSPC", "EOVERFLOW", "EOPNOTSUPP", "ESHUTDOWN"]
)
def test_an_errno_of_the_protocol_comes_back_as_it_was(number: str) -> None:
    assert errno_of_wire(wire_of_errno(getattr(errno, number))) == getattr(errno, number)


def test_a_read_only_medium_is_told_as_not_permitted() -> None:
    assert wire_of_errno(errno.EROFS) == 1


def test_a_full_quota_is_told_as_no_space() -> None:
    assert errno_of_wire(wire_of_errno(errno.EDQUOT)) == errno.ENOSPC


def test_an_errno_without_a_word_is_told_as_an_io_error() -> None:
    assert wire_of_errno(errno.ETIMEDOUT) == 5


def test_an_error_that_the_protocol_does_not_know_is_an_invalid_argument() -> None:
    assert errno_of_wire(9999) == errno.EINVAL

"""Errors carry one line of text and one errno."""

import errno
import os

import pytest

from fusedm.block import errors
from fusedm.block.errors import (
    BlockIOError,
    CryptoError,
    DeviceSuspended,
    FusedmError,
    KeyBusy,
    SpecError,
    StackError,
    Status,
    TableError,
    WouldBlock,
)


def test_a_block_io_error_names_device_text_and_reason():
    error = BlockIOError(Status.NOSPC, "d0", "write of sectors 0..8")
    assert str(error) == f"d0: write of sectors 0..8: {os.strerror(errno.ENOSPC)}"
    assert error.errno == errno.ENOSPC


def test_a_block_io_error_keeps_a_stores_errno():
    assert BlockIOError(errno.EDQUOT, "d0", "x").errno == errno.EDQUOT


@pytest.mark.parametrize(
    ("status", "number"),
    [
        (Status.IOERR, errno.EIO),
        (Status.INVAL, errno.EINVAL),
        (Status.NOTSUPP, errno.EOPNOTSUPP),
        (Status.TARGET, errno.EREMOTEIO),
        (Status.MEDIUM, errno.ENODATA),
        (Status.PROTECTION, errno.EILSEQ),
        (Status.TIMEOUT, errno.ETIMEDOUT),
        (Status.AGAIN, errno.EAGAIN),
        (Status.OFFLINE, errno.ENODEV),
    ],
)
def test_statuses_have_the_kernels_errnos(status, number):
    assert status.value == number


def test_an_error_is_einval_unless_said_otherwise():
    assert CryptoError("x").errno == errno.EINVAL
    assert StackError("x", errno.EBUSY).errno == errno.EBUSY


def test_a_busy_key_is_ebusy():
    assert KeyBusy("x").errno == errno.EBUSY


def test_a_table_error_names_line_and_target():
    error = TableError(3, "linear", "offset: 'x' is not a number", errno.ENXIO)
    assert str(error) == "table line 3: linear: offset: 'x' is not a number"
    assert (error.line, error.target, error.errno) == (3, "linear", errno.ENXIO)


def test_a_table_error_without_line_or_target_is_about_the_table():
    assert str(TableError(0, "", "is empty")) == "table: is empty"


def test_a_spec_error_points_at_its_place():
    error = SpecError("a.toml", 2, "unknown key", "siez = 1", 0)
    assert str(error) == "a.toml:2: unknown key\n    siez = 1\n    ^"


def test_a_spec_error_about_a_whole_file_has_no_caret():
    assert str(SpecError("a.toml", 0, "is a directory")) == "a.toml: is a directory"


def test_would_block_is_no_error_a_user_sees():
    assert not issubclass(WouldBlock, FusedmError)


async def test_a_suspended_device_says_how_to_wait():
    async def wait():
        return None

    assert await DeviceSuspended(wait).wait() is None
    assert issubclass(DeviceSuspended, WouldBlock)


def test_every_exception_is_a_user_error_or_an_answer():
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, Exception)]
    assert len(classes) > 8
    assert all(issubclass(c, FusedmError | WouldBlock) for c in classes)

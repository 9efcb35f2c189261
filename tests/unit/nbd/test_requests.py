"""Requests as they come, and which are refused whatever the device would say."""

import errno

import pytest

from fusedm.nbd.requests import (
    MAX_DATA_BYTES,
    Agreed,
    Asked,
    Exported,
    check_request,
    parse_request,
)
from fusedm.nbd.words import REQUEST, REQUEST_MAGIC, Command, CommandFlag, ExportFlag

SIZE = 1 << 30
BASIC = ExportFlag.HAS_FLAGS | ExportFlag.SEND_FLUSH | ExportFlag.SEND_FUA
ALL = BASIC | ExportFlag.SEND_TRIM | ExportFlag.SEND_WRITE_ZEROES | ExportFlag.SEND_CACHE
AGREED = Agreed(Exported(SIZE, ALL, 512), structured=True, tells_holes=True)


def asked(command: int, offset: int = 0, length: int = 512, flags: int = 0) -> Asked:
    return Asked(command, flags, 7, offset, length)


def test_a_request_is_read():
    header = REQUEST.pack(REQUEST_MAGIC, 3, Command.TRIM, 1 << 63, 4096, 1 << 31)
    assert parse_request(header) == Asked(Command.TRIM, 3, 1 << 63, 4096, 1 << 31)


def test_what_begins_otherwise_is_no_request():
    with pytest.raises(OSError, match="0x1"):
        parse_request(REQUEST.pack(1, 0, Command.READ, 0, 0, 512))


def test_a_write_of_more_data_than_agreed_on_cannot_be_followed():
    with pytest.raises(OSError, match=str(MAX_DATA_BYTES + 1)):
        parse_request(REQUEST.pack(REQUEST_MAGIC, 0, Command.WRITE, 0, 0, MAX_DATA_BYTES + 1))


@pytest.mark.parametrize(
    ("request_", "payload", "buffer"),
    [
        (asked(Command.READ), 0, 512),
        (asked(Command.WRITE), 512, 512),
        (asked(Command.TRIM), 0, 0),
        (asked(Command.READ, length=1 << 31), 0, MAX_DATA_BYTES),
        (asked(99), 0, 0),
    ],
)
def test_it_is_known_how_much_it_takes(request_: Asked, payload: int, buffer: int):
    assert (request_.payload_bytes, request_.buffer_bytes) == (payload, buffer)


GOOD = [
    asked(Command.READ, flags=CommandFlag.DF | CommandFlag.FUA),
    asked(Command.READ, SIZE - MAX_DATA_BYTES, MAX_DATA_BYTES),
    asked(Command.WRITE, SIZE - 1, 1, CommandFlag.FUA),
    asked(Command.FLUSH, length=0),
    asked(Command.TRIM, 3, SIZE - 3),
    asked(Command.CACHE),
    asked(Command.WRITE_ZEROES, 0, SIZE, CommandFlag.NO_HOLE | CommandFlag.FUA),
    asked(Command.BLOCK_STATUS, 0, SIZE, CommandFlag.REQ_ONE),
]


@pytest.mark.parametrize("request_", GOOD, ids=lambda one: Command(one.command).name)
def test_what_may_be_is_carried_out(request_: Asked):
    assert check_request(request_, AGREED) is None


BAD = [
    (asked(9), errno.EINVAL, "command 9"),
    (asked(Command.RESIZE), errno.EINVAL, "command 8"),
    (asked(Command.WRITE, flags=CommandFlag.DF), errno.EINVAL, "flags 0x4"),
    (asked(Command.WRITE, flags=1 << 9), errno.EINVAL, "flags 0x200"),
    (asked(Command.WRITE_ZEROES, flags=CommandFlag.FAST_ZERO), errno.EINVAL, "flags 0x10"),
    (asked(Command.READ, length=0), errno.EINVAL, "no bytes"),
    (asked(Command.READ, SIZE), errno.EINVAL, "past the end"),
    (asked(Command.READ, (1 << 64) - 1), errno.EINVAL, "past the end"),
    (asked(Command.WRITE, SIZE - 511), errno.ENOSPC, "past the end"),
    (asked(Command.TRIM, SIZE - 511), errno.ENOSPC, "past the end"),
    (asked(Command.BLOCK_STATUS, SIZE - 511), errno.EINVAL, "past the end"),
    (asked(Command.READ, 0, MAX_DATA_BYTES + 1), errno.EINVAL, "more than"),
]


@pytest.mark.parametrize(("request_", "number", "text"), BAD)
def test_what_cannot_be_is_refused(request_: Asked, number: int, text: str):
    refusal = check_request(request_, AGREED)
    assert refusal is not None
    assert refusal.errno == number
    assert text in refusal.text


@pytest.mark.parametrize("command", [Command.WRITE, Command.TRIM, Command.WRITE_ZEROES])
def test_nothing_is_changed_through_what_is_read_only(command: Command):
    agreed = Agreed(Exported(SIZE, ALL | ExportFlag.READ_ONLY, 512))
    refusal = check_request(asked(command), agreed)
    assert refusal is not None
    assert refusal.errno == errno.EPERM


@pytest.mark.parametrize("command", [Command.TRIM, Command.WRITE_ZEROES, Command.CACHE])
def test_what_was_not_offered_is_refused(command: Command):
    refusal = check_request(asked(command), Agreed(Exported(SIZE, BASIC, 512)))
    assert refusal is not None
    assert command.name in refusal.text


def test_holes_are_told_only_where_that_was_agreed_on():
    refusal = check_request(asked(Command.BLOCK_STATUS), Agreed(AGREED.export, structured=True))
    assert refusal is not None
    assert "base:allocation" in refusal.text

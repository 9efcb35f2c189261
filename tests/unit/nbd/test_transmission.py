"""A client's side of the transmission: what comes is exactly what was asked for, or an error."""

import errno
from struct import pack

import pytest

from fusedm.nbd import Export, Request, Transmission, words
from fusedm.nbd.words import Chunk, Command, ExportFlag, ExtentFlag
from tests.helpers import nbd_replies as replies

SIZE = 1 << 30
STRUCTURED = Export(SIZE, ExportFlag.HAS_FLAGS, is_structured=True, allocation=7)
SIMPLE = Export(SIZE, ExportFlag.HAS_FLAGS)
EVERY_SPLIT = (1, 7, 16, 20, 27, 28, 29, 1000, 1 << 30)


def read(length: int = 4096, offset: int = 8192) -> Request:
    return Request(Command.READ, 0, offset, length, memoryview(bytearray(b"\xee" * length)))


def of(command: int) -> Request:
    return Request(command, 0, 0, 0)


def feed(transmission: Transmission, data: bytes, step: int = 1 << 30) -> list[Request]:
    """Have the data come in pieces of at most step bytes."""
    ended: list[Request] = []
    while data:
        space = transmission.space()
        count = min(len(space), len(data), step)
        space[:count] = data[:count]
        data = data[count:]
        transmission.received(count, ended)
    return ended


def begun(export: Export, *requests: Request) -> Transmission:
    transmission = Transmission(export)
    for request in requests:
        transmission.begin(request)
    return transmission


def pattern(length: int) -> bytes:
    return bytes(1 + i % 251 for i in range(length))


def test_a_request_begins_with_what_it_is() -> None:
    transmission = Transmission(SIMPLE)
    transmission.begin(of(Command.FLUSH))
    header = transmission.begin(Request(Command.WRITE, 1, 0x1000, 512, memoryview(bytes(512))))
    assert header == pack(">IHHQQI", 0x25609513, 1, 1, 2, 0x1000, 512)


def test_the_oldest_in_flight_is_the_one_that_began_first() -> None:
    first, second = read(), read()
    transmission = Transmission(SIMPLE)
    assert transmission.oldest() is None
    for at, request in ((5.0, first), (6.0, second)):
        request.sent_at = at
        transmission.begin(request)
    assert transmission.oldest() == 5.0
    feed(transmission, replies.simple(1, data=bytes(4096)))
    assert transmission.oldest() == 6.0


@pytest.mark.parametrize("step", EVERY_SPLIT)
def test_data_come_whole_however_they_are_torn(step: int) -> None:
    for length in (1, 512, 20_000, *((100_000, 300_000) if step > 100 else ())):
        content = pattern(length)
        request = read(length)
        ended = feed(begun(SIMPLE, request), replies.simple(1, data=content), step)
        assert ended == [request]
        assert request.data == content
        again = read(length)
        ended = feed(begun(STRUCTURED, again), replies.data(1, 8192, content), step)
        assert ended == [again]
        assert again.data == content


@pytest.mark.parametrize("step", EVERY_SPLIT)
def test_chunks_may_come_in_any_order_and_holes_are_zeros(step: int) -> None:
    request = read(90_000)
    ended = feed(
        begun(STRUCTURED, request),
        replies.data(1, 8192 + 80_000, pattern(10_000), is_last=False)
        + replies.data(1, 8192, pattern(1000), is_last=False)
        + replies.hole(1, 8192 + 1000, 79_000, is_last=False)
        + replies.none(1),
        step,
    )
    assert ended == [request]
    assert request.data == pattern(1000) + bytes(79_000) + pattern(10_000)


@pytest.mark.parametrize("step", EVERY_SPLIT)
def test_replies_may_come_in_any_order_and_chunks_of_several_in_turns(step: int) -> None:
    first, second, flush = read(), read(), of(Command.FLUSH)
    ended = feed(
        begun(STRUCTURED, first, second, flush),
        replies.data(2, 8192, pattern(96), is_last=False)
        + replies.none(3)
        + replies.data(1, 8192, pattern(4096), is_last=False)
        + replies.data(2, 8192 + 96, pattern(4000))
        + replies.none(1),
        step,
    )
    assert ended == [flush, second, first]
    assert first.data == pattern(4096)
    assert second.data == pattern(96) + pattern(4000)


def test_a_hundred_replies_come_at_once() -> None:
    requests = [read(1000) for _ in range(100)]
    stream = b"".join(replies.data(i + 1, 8192, pattern(1000)) for i in range(100))
    assert feed(begun(STRUCTURED, *requests), stream) == requests
    assert all(request.data == pattern(1000) for request in requests)


def test_a_header_torn_by_the_end_of_what_is_received_at_once_is_taken_whole() -> None:
    requests = [of(Command.FLUSH) for _ in range(8000)]
    stream = b"".join(replies.none(i + 1) for i in range(8000))
    assert feed(begun(STRUCTURED, *requests), stream) == requests


def test_what_changes_may_be_answered_simply_and_in_chunks() -> None:
    requests = [of(Command.WRITE), of(Command.FLUSH), of(Command.WRITE_ZEROES)]
    stream = replies.simple(3) + replies.none(1) + replies.simple(2)
    assert len(feed(begun(STRUCTURED, *requests), stream)) == 3
    assert [request.error for request in requests] == [0, 0, 0]


def test_an_extent_is_told() -> None:
    request = Request(Command.BLOCK_STATUS, 8, 0, 1 << 20)
    assert feed(begun(STRUCTURED, request), replies.extent(1, 4096, ExtentFlag.ZERO)) == [request]
    assert request.extent == (4096, ExtentFlag.ZERO)


@pytest.mark.parametrize(
    "answer",
    [
        replies.error(1, 28, b"full"),
        replies.error_at(1, 28, 8192),
        replies.chunk(1, words.CHUNK_IS_ERROR + 99, words.CHUNK_ERROR.pack(28, 0) + b"more"),
        replies.error(1, 28, is_last=False) + replies.none(1),
        replies.error(1, 28, is_last=False) + replies.error(1, 5),
        replies.data(1, 8192, pattern(9), is_last=False) + replies.error(1, 28),
    ],
)
def test_an_error_of_any_kind_ends_a_request_with_its_first_errno(answer: bytes) -> None:
    request = read()
    assert feed(begun(STRUCTURED, request), answer) == [request]
    assert request.error == errno.ENOSPC


def test_a_simple_error_ends_a_request_without_data() -> None:
    first, second = read(), read()
    stream = replies.simple(1, 5) + replies.simple(2, data=pattern(4096))
    assert feed(begun(SIMPLE, first, second), stream) == [first, second]
    assert (first.error, second.error) == (errno.EIO, 0)
    assert first.data == b"\xee" * 4096


def test_a_request_that_begins_anew_has_forgotten_what_came_before() -> None:
    request = read()
    stream = replies.data(1, 8192, pattern(9), is_last=False) + replies.error(1, 5, is_last=False)
    feed(begun(STRUCTURED, request), stream)
    feed(begun(STRUCTURED, request), replies.data(1, 8192, pattern(4096)))
    assert request.error == 0
    assert request.data == pattern(4096)


DATA, HOLE = Chunk.OFFSET_DATA, Chunk.OFFSET_HOLE
TOO_LONG_TEXT = words.CHUNK_ERROR.pack(5, 9) + b"short"

BROKEN = {
    "another beginning": (SIMPLE, pack(">IIQ", 1, 0, 1)),
    "chunks unasked": (SIMPLE, replies.none(1)),
    "no such request": (SIMPLE, replies.simple(9)),
    "no such request, in a chunk": (STRUCTURED, replies.none(9)),
    "a simple reply to a read": (STRUCTURED, replies.simple(1, data=pattern(4096))),
    "data before": (STRUCTURED, replies.data(1, 8191, pattern(10))),
    "data after": (STRUCTURED, replies.data(1, 8192 + 4000, pattern(97))),
    "too many data": (STRUCTURED, replies.data(1, 8192, pattern(4097))),
    "no data": (STRUCTURED, replies.data(1, 8192, b"")),
    "data without an offset": (STRUCTURED, replies.chunk(1, DATA, b"1234") + bytes(8)),
    "too few data": (STRUCTURED, replies.data(1, 8192, pattern(4095))),
    "no data at all": (STRUCTURED, replies.none(1)),
    "data twice": (
        STRUCTURED,
        replies.data(1, 8192, pattern(100), False) + replies.data(1, 8291, pattern(100), False),
    ),
    "data twice, the later first": (
        STRUCTURED,
        replies.data(1, 8292, pattern(100), False) + replies.hole(1, 8192, 101, False),
    ),
    "a hole after": (STRUCTURED, replies.hole(1, 8192, 4097)),
    "an empty hole": (STRUCTURED, replies.hole(1, 8192, 0)),
    "a hole of a wrong shape": (STRUCTURED, replies.chunk(1, HOLE, bytes(11))),
    "an end that is none": (STRUCTURED, replies.chunk(1, Chunk.NONE, is_last=False)),
    "an end with more": (STRUCTURED, replies.chunk(1, Chunk.NONE, b"more")),
    "an unknown kind": (STRUCTURED, replies.chunk(1, 99)),
    "an endless chunk": (STRUCTURED, pack(">IHHQI", 0x668E33EF, 1, 0x8001, 1, 1 << 30)),
    "an error that is none": (STRUCTURED, replies.error(1, 0)),
    "a short error": (STRUCTURED, replies.chunk(1, Chunk.ERROR, bytes(5))),
    "an error with a longer text": (STRUCTURED, replies.chunk(1, Chunk.ERROR, TOO_LONG_TEXT)),
    "an error with a shorter text": (
        STRUCTURED,
        replies.chunk(1, Chunk.ERROR, words.CHUNK_ERROR.pack(5, 1) + b"long"),
    ),
    "an unknown error with a longer text": (
        STRUCTURED,
        replies.chunk(1, words.CHUNK_IS_ERROR + 99, TOO_LONG_TEXT),
    ),
    "extents for a read": (STRUCTURED, replies.extent(1, 4096, 0)),
    "data for a flush": (STRUCTURED, replies.data(2, 0, pattern(9))),
    "a hole for a flush": (STRUCTURED, replies.hole(2, 0, 9)),
    "a simple reply for extents": (STRUCTURED, replies.simple(3)),
    "no extent": (STRUCTURED, replies.none(3)),
    "an empty extent": (STRUCTURED, replies.extent(3, 0, 0)),
    "another context": (STRUCTURED, replies.extent(3, 4096, 0, context=8)),
    "two extents": (
        STRUCTURED,
        replies.extent(3, 4096, 0, is_last=False) + replies.extent(3, 4096, 0),
    ),
    "half an extent": (STRUCTURED, replies.chunk(3, Chunk.BLOCK_STATUS, bytes(8))),
}


@pytest.mark.parametrize("step", [1, 1 << 30])
@pytest.mark.parametrize(("export", "stream"), BROKEN.values(), ids=BROKEN)
def test_what_was_not_asked_for_ends_the_connection(
    export: Export, stream: bytes, step: int
) -> None:
    extents = Request(Command.BLOCK_STATUS, 8, 0, 1 << 20)
    transmission = begun(export, read(), of(Command.FLUSH), extents)
    with pytest.raises(OSError, match=".") as broken:
        feed(transmission, stream, step)
    assert broken.value.errno == errno.EPROTO


def test_what_ended_before_a_broken_reply_has_ended() -> None:
    ended: list[Request] = []
    flush = of(Command.FLUSH)
    transmission = begun(STRUCTURED, flush)
    stream = replies.none(1) + replies.none(1)
    transmission.space()[: len(stream)] = stream
    with pytest.raises(OSError, match="not in flight"):
        transmission.received(len(stream), ended)
    assert ended == [flush]

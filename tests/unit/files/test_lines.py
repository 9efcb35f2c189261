"""Lines: requests that workers send to an NBD server, and what of it counts."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from fusedm.files.path import Lines
from fusedm.nbd import Command, words
from tests.helpers import nbd_replies as replies

MAX_LINES = 8

#: What a server does with a request: its command, cookie, offset, length and data.
Answer = Callable[[socket.socket, int, int, int, int, bytes], None]


def received(server: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = server.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return data


@contextmanager
def lines_to(
    answer: Answer, seconds: float = 20, most: int = 1 << 20, keeps: bool = True
) -> Iterator[Lines]:
    """Lines, one of which leads to a thread that answers."""
    client, server = socket.socketpair()

    def serve() -> None:
        try:
            while True:
                header = words.REQUEST.unpack(received(server, words.REQUEST.size))
                _, flags, command, cookie, offset, length = header
                assert flags == 0
                data = received(server, length) if command == Command.WRITE else b""
                answer(server, command, cookie, offset, length, data)
        except (EOFError, OSError):
            pass

    thread = threading.Thread(target=serve)
    thread.start()
    lines = Lines(seconds, most, keeps)
    lines.add(client.detach())
    try:
        yield lines
    finally:
        lines.drop()
        server.close()
        thread.join()


def memory(pieces: int | None = None) -> Answer:
    """A server that has a memory, and perhaps says all in pieces of so many bytes."""
    content = bytearray(1 << 20)

    def answer(
        server: socket.socket, command: int, cookie: int, offset: int, length: int, data: bytes
    ) -> None:
        if command == Command.WRITE:
            content[offset : offset + length] = data
            reply = replies.simple(cookie)
        else:
            reply = replies.simple(cookie, data=bytes(content[offset : offset + length]))
        for start in range(0, len(reply), pieces or len(reply)):
            server.sendall(reply[start : start + (pieces or len(reply))])

    return answer


def always(reply: Callable[[int, int], bytes]) -> Answer:
    def answer(
        server: socket.socket, command: int, cookie: int, offset: int, length: int, data: bytes
    ) -> None:
        server.sendall(reply(cookie, length))

    return answer


@pytest.mark.parametrize("pieces", [None, 1, 15, 16, 17])
@pytest.mark.parametrize("length", [1, 512, 5000])
def test_what_is_written_reads_back(length: int, pieces: int | None) -> None:
    with lines_to(memory(pieces)) as lines:
        data, buffer = os.urandom(length), bytearray(length)
        assert lines.write(4096, data)
        assert lines.read_into(4096, buffer)
        assert buffer == data
        assert lines.missing == MAX_LINES - 1


def test_more_than_a_socket_holds_goes_too() -> None:
    with lines_to(memory()) as lines:
        data, buffer = os.urandom(1 << 20), bytearray(1 << 20)
        assert lines.write(0, data)
        assert lines.read_into(0, buffer)
        assert buffer == data


def test_acknowledged_writes_are_kept_in_order_until_they_are_taken() -> None:
    with lines_to(memory()) as lines:
        for offset, data in ((512, b"one"), (0, b"two"), (512, b"three")):
            assert lines.write(offset, data)
        assert lines.taken() == [(512, b"one"), (0, b"two"), (512, b"three")]
        assert lines.taken() == []


def test_nothing_is_kept_where_nothing_can_be_flushed() -> None:
    with lines_to(memory(), keeps=False) as lines:
        assert lines.write(0, b"data")
        assert lines.taken() == []


def test_no_more_is_kept_than_there_is_room_for() -> None:
    data = bytes(1 << 20)
    with lines_to(memory()) as lines:
        written = 0
        while lines.write(0, data):
            written += 1
            assert written < 40
        assert len(lines.taken()) == written
        assert lines.write(0, data)


def test_an_error_is_for_somebody_else_and_the_line_goes_on() -> None:
    with lines_to(always(lambda cookie, _: replies.simple(cookie, 5))) as lines:
        assert not lines.read_into(0, bytearray(512))
        assert not lines.write(0, bytes(512))
        assert lines.taken() == []
        assert lines.missing == MAX_LINES - 1


@pytest.mark.parametrize(
    "reply",
    [
        lambda cookie, length: replies.simple(cookie + 1, data=bytes(length)),
        lambda cookie, length: replies.none(cookie) + bytes(length),
        lambda cookie, length: bytes(16 + length),
        lambda cookie, length: replies.simple(cookie, 5, bytes(length)),
    ],
    ids=["for another", "in chunks", "of no kind", "an error with data"],
)
def test_a_wrong_reply_ends_the_line(reply: Callable[[int, int], bytes]) -> None:
    with lines_to(always(reply)) as lines:
        assert not lines.read_into(0, bytearray(4096))
        assert lines.missing == MAX_LINES


@pytest.mark.parametrize("count", [0, 5, 16, 100])
def test_a_reply_that_is_cut_ends_the_line(count: int) -> None:
    def answer(
        server: socket.socket, command: int, cookie: int, offset: int, length: int, data: bytes
    ) -> None:
        server.sendall(replies.simple(cookie, data=bytes(length))[:count])
        server.shutdown(socket.SHUT_RDWR)

    with lines_to(answer) as lines:
        assert not lines.read_into(0, bytearray(4096))
        assert lines.missing == MAX_LINES
        assert not lines.read_into(0, bytearray(4096))


@pytest.mark.parametrize("is_dripping", [False, True])
def test_a_reply_that_takes_too_long_ends_the_line(is_dripping: bool) -> None:
    stopped = threading.Event()

    def answer(
        server: socket.socket, command: int, cookie: int, offset: int, length: int, data: bytes
    ) -> None:
        while not stopped.wait(0.05):
            if is_dripping:
                server.sendall(replies.simple(cookie)[:1])

    with lines_to(answer, seconds=0.2) as lines:
        assert not lines.write(0, bytes(512))
        stopped.set()
        assert lines.missing == MAX_LINES
        assert lines.taken() == []


def test_what_is_acknowledged_after_all_were_dropped_does_not_count() -> None:
    has_come, may_answer = threading.Event(), threading.Event()

    def answer(
        server: socket.socket, command: int, cookie: int, offset: int, length: int, data: bytes
    ) -> None:
        has_come.set()
        server.sendall(replies.simple(cookie)[:8])
        may_answer.wait()

    with lines_to(answer) as lines:
        outcomes: list[bool] = []
        writer = threading.Thread(target=lambda: outcomes.append(lines.write(0, bytes(512))))
        writer.start()
        has_come.wait()
        lines.drop()
        writer.join()
        may_answer.set()
        assert outcomes == [False]
        assert lines.taken() == []
        assert lines.missing == MAX_LINES


def test_what_is_too_long_for_the_server_is_not_sent() -> None:
    with lines_to(memory(), most=4096) as lines:
        assert not lines.write(0, bytes(4097))
        assert not lines.read_into(0, bytearray(4097))
        assert lines.write(0, bytes(4096))


def test_a_connection_too_many_is_closed() -> None:
    lines = Lines(1, 4096, True)
    pairs = [socket.socketpair() for _ in range(MAX_LINES + 1)]
    for client, _ in pairs:
        lines.add(client.detach())
    assert lines.missing == 0
    assert pairs[-1][1].recv(1) == b""
    lines.drop()
    assert all(server.recv(1) == b"" for _, server in pairs)
    for _, server in pairs:
        server.close()

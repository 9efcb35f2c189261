"""What an NBD store does when its server, or the way there, fails."""

import errno
import os

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fusedm.block.errors import StoreError
from fusedm.nbd import Command, ExportFlag
from fusedm.stores import open_nbd
from tests.helpers import nbd_replies as replies
from tests.helpers.nbd_fake import ALL, SIZE, Conversation, Got, fake_server
from tests.helpers.nbd_store import connections, content, opened, requests, some, until


async def silence(conversation: Conversation, got: Got) -> bool:
    return True


async def test_without_an_answer_everything_in_flight_fails_and_no_buffer_is_touched(
    autojump_clock: trio.testing.MockClock,
) -> None:
    failures: list[OSError] = []
    buffers = [bytearray(b"\xee" * 4096) for _ in range(3)]
    conversations: list[Conversation] = []

    async def late(conversation: Conversation, got: Got) -> bool:
        conversations.append(conversation)
        header = replies.data(got.cookie, got.offset, bytes(got.length))
        await conversation.send(header[:100])
        await trio.sleep_forever()
        return True

    async with fake_server(hook=late) as server, opened(server, 3) as store:

        async def read(buffer: bytearray) -> None:
            try:
                await store.read_into(0, memoryview(buffer))
            except OSError as error:
                failures.append(error)

        before = trio.current_time()
        async with trio.open_nursery() as nursery:
            for buffer in buffers:
                nursery.start_soon(read, buffer)
        assert 3 <= trio.current_time() - before < 4
        assert [failure.errno for failure in failures] == [errno.ETIMEDOUT] * 3
        assert "no answer for 3 s" in store.state or store.state == "connected"
        at_failure = [bytes(buffer) for buffer in buffers]
        assert sorted(buffer.count(0) for buffer in at_failure) == [0, 0, 72]
        server.hook = late
        await trio.sleep(5)
        assert [bytes(buffer) for buffer in buffers] == at_failure


async def test_a_server_that_stops_reading_ends_a_large_write_by_the_timeout(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def stop(conversation: Conversation, got: Got) -> bool:
        await trio.sleep_forever()
        return True

    async with fake_server(size=8 << 20, hook=stop) as server, opened(server, 3) as store:
        data = some(1 << 20)
        numbers = []

        async def write(place: int) -> None:
            try:
                await store.write(place << 20, data)
            except OSError as error:
                numbers.append(error.errno)

        async with trio.open_nursery() as nursery:
            for place in range(4):
                nursery.start_soon(write, place)
        assert numbers == [errno.ETIMEDOUT] * 4


async def test_what_the_server_says_is_received_while_it_does_not_read() -> None:
    wakes = trio.Event()

    async def one_at_a_time(conversation: Conversation, got: Got) -> bool:
        if got.command == Command.WRITE:
            await wakes.wait()
        return False

    async with fake_server(size=8 << 20, hook=one_at_a_time) as server, opened(server) as store:
        server.memory[:] = os.urandom(8 << 20)
        expected = bytes(server.memory[4 << 20 : 8 << 20])
        data = some(4 << 20)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.write, 0, data)
            await requests(server, 1)
            nursery.start_soon(store.write, 0, data)
            wakes.set()
            assert await content(store, 4 << 20, 4 << 20) == expected


async def test_a_server_that_is_away_for_too_long_fails_what_waits_and_what_comes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with fake_server() as server, opened(server, 3) as store:
        await server.stop()
        numbers: list[int | None] = []

        async def write() -> None:
            try:
                await store.write(0, some(512))
            except OSError as error:
                numbers.append(error.errno)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(write)
        before = trio.current_time()
        await write()
        assert trio.current_time() == before
        assert numbers == [errno.ETIMEDOUT] * 4
        assert store.state.startswith("failed since ")
        await server.start()
        await trio.sleep(6)
        assert store.state == "connected"
        await store.write(0, some(512))


@pytest.mark.parametrize("away_seconds", [0.4, 1.7, 2.6])
async def test_who_waits_for_a_server_is_there_when_it_is_back(
    away_seconds: float, autojump_clock: trio.testing.MockClock
) -> None:
    async with fake_server() as server, opened(server, 3) as store:
        await server.stop()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.write, 0, some(512))
            await trio.sleep(away_seconds)
            await server.start()
        assert store.state == "connected"


async def test_a_server_that_hangs_up_at_once_is_not_asked_without_a_pause(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with fake_server() as server, opened(server, 30) as store:
        server.handshake_bytes = 0
        server.cut()
        await trio.sleep(20)
        assert store.state.endswith(": the server hangs up while the export is being opened")
        assert 5 <= server.connected_count <= 15


async def test_an_export_that_has_changed_is_not_used() -> None:
    async with fake_server() as server, opened(server) as store:
        server.size //= 2
        server.cut()
        await until(lambda: "the export is not what it was" in store.state)
        server.size *= 2
        assert await content(store, 0, 512) == bytes(512)


HANDSHAKE_BYTES = range(0, 18 + 20 + 20 + 19 + 20 + 20 + 12 + 20, 3)


@pytest.mark.parametrize("count", HANDSHAKE_BYTES)
async def test_a_handshake_that_is_cut_anywhere_is_an_error_and_then_one_more_attempt(
    count: int,
) -> None:
    async with fake_server(handshake_bytes=count) as server:
        with pytest.raises(StoreError, match="hangs up while|Connection reset|Broken pipe"):
            await open_nbd(server.uri, None, False)
        server.handshake_bytes = None
        async with opened(server) as store:
            server.handshake_bytes = count
            server.cut()
            await trio.sleep(0.01)
            server.handshake_bytes = None
            assert await content(store, 0, 512) == bytes(512)


async def test_a_handshake_that_does_not_end_is_ended(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with fake_server(greeting=b"NBD") as server:
        with pytest.raises(StoreError, match="no answer while connecting") as refused:
            await open_nbd(f"{server.uri}&timeout=3", None, False)
        assert refused.value.errno == errno.ETIMEDOUT


async def test_another_protocol_is_told() -> None:
    async with fake_server(greeting=b"HTTP/1.1 400 Bad Request\r\n") as server:
        with pytest.raises(StoreError, match="this is no NBD server"):
            await open_nbd(server.uri, None, False)


WRONG = {
    "of another request": lambda _, got: replies.none(got.cookie + 1000),
    "of no kind": lambda _, got: b"\0" * 40,
    "too long": lambda _, got: replies.data(got.cookie, got.offset, bytes(got.length + 1)),
    "too short": lambda _, got: replies.data(got.cookie, got.offset, bytes(got.length - 1)),
    "elsewhere": lambda _, got: replies.data(got.cookie, got.offset + 512, bytes(got.length)),
    "twice": lambda conversation, got: 2 * conversation.answer(got),
    "of an unknown kind": lambda _, got: replies.chunk(got.cookie, 77),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
async def test_a_wrong_reply_ends_the_connection_and_the_next_one_brings_the_data(
    wrong: object,
) -> None:
    was_wrong = False

    async def hook(conversation: Conversation, got: Got) -> bool:
        nonlocal was_wrong
        if not was_wrong:
            was_wrong = True
            await conversation.send(wrong(conversation, got))  # type: ignore[operator]  # one of WRONG
            return True
        return False

    async with fake_server(hook=hook) as server, opened(server) as store:
        server.memory[:] = os.urandom(SIZE)
        for _ in range(2):
            assert await content(store, 512, 4096) == server.memory[512 : 512 + 4096]
        assert server.connected_count == 2


async def test_replies_may_be_torn_late_and_in_any_order() -> None:
    waiting: list[bytes] = []

    async def backwards(conversation: Conversation, got: Got) -> bool:
        waiting.append(conversation.answer(got))
        if len(waiting) == 8:
            stream = b"".join(reversed(waiting))
            waiting.clear()
            for start in range(0, len(stream), 97):
                await conversation.send(stream[start : start + 97])
                await trio.lowlevel.checkpoint()
        return True

    async with fake_server(hook=backwards) as server, opened(server) as store:
        server.memory[:] = os.urandom(SIZE)

        async def read(place: int) -> None:
            assert await content(store, place * 4096, 4096) == server.memory[place * 4096 :][:4096]

        async with trio.open_nursery() as nursery:
            for place in range(16):
                nursery.start_soon(read, place)


async def test_a_mistake_of_ours_ends_a_connection_and_not_the_program(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def mistaken(*_: object) -> None:
        monkeypatch.undo()
        raise RuntimeError("a bug")

    async with fake_server() as server, opened(server) as store:
        monkeypatch.setattr("fusedm.nbd.transmission.Transmission.received", mistaken)
        assert await content(store, 0, 512) == bytes(512)
        assert server.connected_count == 2
    assert "an NBD connection ends by a mistake of ours" in caplog.text


MULTI = ALL | ExportFlag.CAN_MULTI_CONN


async def test_a_server_that_lets_us_has_four_connections() -> None:
    async with fake_server(flags=MULTI) as server, opened(server) as store:
        await connections(server, 4)
        gate = trio.Event()

        async def hold(conversation: Conversation, got: Got) -> bool:
            await gate.wait()
            return False

        await wait_all_tasks_blocked(0.01)
        server.hook = hold
        async with trio.open_nursery() as nursery:
            for place in range(8):
                nursery.start_soon(content, store, place * 512, 512)
            await requests(server, 4)
            assert len(server.conversations) == 4
            gate.set()


async def test_a_connection_that_is_lost_takes_the_others_with_it() -> None:
    async with fake_server(flags=MULTI) as server, opened(server) as store:
        await connections(server, 4)
        await store.write(0, some(512))
        server.conversations[2].scope.cancel()
        await connections(server, 8)
        assert len(server.of(Command.WRITE)) == 2
        assert await content(store, 0, 512) == server.memory[:512]


async def test_a_server_that_lets_us_have_one_connection_only_is_used_by_one() -> None:
    async with fake_server(flags=MULTI) as server:
        store = await open_nbd(server.uri, None, False)
        server.handshake_bytes = 30
        for place in range(100):
            await store.write(place * 512, some(512))
        assert store.state == "connected"
        assert len(server.conversations) < 4
        await store.aclose()


@pytest.mark.parametrize("way", ["in flight", "away", "idle"])
async def test_closing_ends_what_waits(way: str, autojump_clock: trio.testing.MockClock) -> None:
    async with fake_server(hook=silence) as server:
        store = await open_nbd(f"{server.uri}&timeout=3", None, False)
        numbers: list[int | None] = []

        async def read() -> None:
            try:
                await store.read_into(0, memoryview(bytearray(512)))
            except OSError as error:
                numbers.append(error.errno)

        async with trio.open_nursery() as nursery:
            if way == "away":
                await server.stop()
                await wait_all_tasks_blocked()
            if way != "idle":
                nursery.start_soon(read)
                await wait_all_tasks_blocked()
            before = trio.current_time()
            await store.aclose()
            assert trio.current_time() == before
        assert numbers == [errno.ESHUTDOWN] * (way != "idle")


async def test_what_was_acknowledged_is_durable_after_closing() -> None:
    async with fake_server() as server:
        store = await open_nbd(server.uri, None, False)
        data = some(512)
        await store.write(0, data)
        await store.aclose()
        assert server.durable[:512] == data


@pytest.mark.parametrize("way", ["silent", "away", "cut"])
async def test_closing_is_bounded_and_says_what_may_be_lost(
    way: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with fake_server() as server:
        store = await open_nbd(f"{server.uri}&timeout=3", None, False)
        await store.write(0, some(512))
        server.hook = silence
        if way == "away":
            await server.stop()
        elif way == "cut":
            server.cut()
        before = trio.current_time()
        with pytest.raises(OSError, match="timed out") as failed:
            await store.aclose()
        assert failed.value.errno == errno.ETIMEDOUT
        assert trio.current_time() - before <= 3.1
        assert store.state == "closed"
        await store.aclose()


async def test_closing_says_once_that_writes_were_lost() -> None:
    async with fake_server() as server:
        store = await open_nbd(server.uri, None, False)
        await store.write(0, some(512))

        async def refuse(conversation: Conversation, got: Got) -> bool:
            if got.command == Command.WRITE:
                await conversation.send(replies.simple(got.cookie, 5))
            return got.command == Command.WRITE

        server.hook = refuse
        server.cut()
        with pytest.raises(OSError, match="acknowledged writes were lost"):
            await store.aclose()


async def test_cancelling_does_not_take_a_buffer_back_before_its_time() -> None:
    gate = trio.Event()

    async def hold(conversation: Conversation, got: Got) -> bool:
        await gate.wait()
        return False

    async with fake_server(hook=hold) as server, opened(server) as store:
        buffer = bytearray(b"\xee" * 512)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.read_into, 0, memoryview(buffer))
            await requests(server, 1)
            nursery.cancel_scope.cancel()
            gate.set()
        assert buffer == bytes(512)

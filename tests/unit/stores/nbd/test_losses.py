"""What an NBD store does for requests and writes that are lost with a connection or a server."""

import errno

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fusedm.files.path import Lines
from fusedm.nbd import Command, ExportFlag
from tests.helpers import nbd_replies as replies
from tests.helpers.nbd_fake import ALL, SIZE, Conversation, Got, fake_server
from tests.helpers.nbd_store import content, opened, requests, some, until


def only_once(command: Command) -> tuple[list[Got], object]:
    """A hook that leaves the first such request without an answer."""
    held: list[Got] = []

    async def hook(conversation: Conversation, got: Got) -> bool:
        if got.command == command and not held:
            held.append(got)
            return True
        return False

    return held, hook


@pytest.mark.parametrize(
    "command", [Command.READ, Command.WRITE, Command.FLUSH, Command.WRITE_ZEROES]
)
async def test_what_was_in_flight_when_the_connection_is_cut_is_sent_again(
    command: Command,
) -> None:
    held, hook = only_once(command)
    data = some(4096)
    buffer = bytearray(4096)
    async with fake_server(hook=hook) as server, opened(server) as store:
        server.memory[:4096] = bytes(data)
        calls = {
            Command.READ: lambda: store.read_into(0, memoryview(buffer)),
            Command.WRITE: lambda: store.write(8192, data),
            Command.FLUSH: store.flush,
            Command.WRITE_ZEROES: lambda: store.discard(0, 4096),
        }
        async with trio.open_nursery() as nursery:
            nursery.start_soon(calls[command])
            await requests(server, 1)
            server.cut()
        assert len(server.of(command)) == 2
        assert store.state == "connected"
        await store.flush()
    assert command != Command.READ or buffer == data
    assert command != Command.WRITE or server.durable[8192:12288] == data
    assert command != Command.WRITE_ZEROES or not any(server.memory[:4096])


async def test_what_a_server_that_is_about_to_end_refuses_is_for_the_next_one() -> None:
    has_refused = False

    async def refuse_once(conversation: Conversation, got: Got) -> bool:
        nonlocal has_refused
        is_first, has_refused = not has_refused, True
        if is_first:
            await conversation.send(replies.simple(got.cookie, 108))
        return is_first

    data = some(512)
    async with fake_server(hook=refuse_once) as server, opened(server) as store:
        await store.write(0, data)
        assert server.memory[:512] == data
        assert server.connected_count == 2


async def test_what_comes_while_the_server_is_away_waits_for_it() -> None:
    async with fake_server() as server, opened(server) as store:
        await server.stop()
        await wait_all_tasks_blocked(0.01)
        assert store.state.startswith("reconnecting since ")
        assert store.state.endswith((": the server has hung up", ": No such file or directory"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.write, 0, some(512))
            await trio.sleep(0.05)
            await server.start()
        assert server.memory[:512] != bytes(512)
        assert store.state == "connected"


async def test_acknowledged_writes_are_there_after_a_server_died_with_them() -> None:
    data = some(100 * 512)
    async with fake_server() as server, opened(server) as store:
        await store.write(0, data)
        await store.flush()
        await store.write(512, data[:512])
        await store.discard(1024, 512)
        await store.write(512, data[512:1024])
        await server.stop(with_loss=True)
        assert server.memory[1024:1536] == data[1024:1536]
        await server.start()
        expected = data[:1024].tobytes() + bytes(512) + data[1536:].tobytes()
        assert await content(store, 0, len(data)) == expected
        await store.flush()
        assert server.durable[: len(data)] == expected


async def test_what_workers_have_written_is_there_after_a_server_died_with_it() -> None:
    flags = ALL | ExportFlag.CAN_MULTI_CONN
    first, second, third = some(4096), some(4096), some(4096)
    async with fake_server(flags=flags) as server, opened(server) as store:
        assert store.has_lines
        lines = store.lines(Lines)
        assert store.lines(Lines) is lines
        await until(lambda: not lines.missing)
        assert await trio.to_thread.run_sync(lines.write, 0, first)
        await store.flush()
        assert await trio.to_thread.run_sync(lines.write, 4096, first)
        await store.write(8192, second)
        await store.write(4096, second)
        assert await trio.to_thread.run_sync(lines.write, 8192, third)
        await server.stop(with_loss=True)
        assert server.memory == first.tobytes() + bytes(SIZE - 4096)
        await server.start()
        expected = first.tobytes() + second.tobytes() + third.tobytes()
        assert await content(store, 0, 12288) == expected
        await until(lambda: not lines.missing)
        buffer = bytearray(12288)
        assert await trio.to_thread.run_sync(lines.read_into, 0, memoryview(buffer))
        assert buffer == expected
    assert server.durable[:12288] == expected


async def test_lines_are_given_up_with_the_connections() -> None:
    flags = ALL | ExportFlag.CAN_MULTI_CONN
    async with fake_server(flags=flags) as server, opened(server) as store:
        lines = store.lines(Lines)
        await until(lambda: not lines.missing)
        await server.stop()
        await until(lambda: store.state != "connected")
        assert lines.missing == 8
        assert not await trio.to_thread.run_sync(lines.write, 0, some(512))
        await server.start()
        await until(lambda: not lines.missing)
    assert lines.missing == 8


async def test_a_server_that_takes_one_connection_has_no_lines() -> None:
    async with fake_server() as server, opened(server) as store:
        assert not store.has_lines


async def test_what_was_flushed_is_not_sent_again() -> None:
    async with fake_server() as server, opened(server) as store:
        await store.write(0, some(512))
        await store.flush()
        await store.write(512, some(512))
        server.cut()
        await content(store, 0, 512)
        assert [got.offset for got in server.of(Command.WRITE)] == [0, 512, 512]
        server.cut()
        await content(store, 0, 512)
        assert [got.offset for got in server.of(Command.WRITE)] == [0, 512, 512, 512]


async def test_a_server_that_refuses_what_it_lost_makes_one_flush_fail() -> None:
    async with fake_server() as server, opened(server) as store:
        await store.write(0, some(512))

        async def refuse(conversation: Conversation, got: Got) -> bool:
            if got.command == Command.WRITE:
                await conversation.send(replies.simple(got.cookie, 28))
            return got.command == Command.WRITE

        server.hook = refuse
        server.cut()
        await content(store, 0, 512)
        with pytest.raises(OSError, match="acknowledged writes were lost") as failed:
            await store.flush()
        assert failed.value.errno == errno.ENOSPC
        await store.flush()


async def test_a_cut_while_writes_are_sent_again_is_one_more_cut() -> None:
    held, hook = only_once(Command.WRITE)
    async with fake_server() as server, opened(server) as store:
        data = some(512)
        await store.write(0, data)
        server.hook = hook  # type: ignore[assignment]  # a hook
        await server.stop(with_loss=True)
        await server.start()
        await until(lambda: bool(held))
        server.cut()
        assert await content(store, 0, 512) == data


async def test_a_server_that_does_not_answer_what_is_sent_again_is_left(
    autojump_clock: trio.testing.MockClock,
) -> None:
    held, hook = only_once(Command.WRITE)
    async with fake_server() as server, opened(server, 2) as store:
        data = some(512)
        await store.write(0, data)
        server.hook = hook  # type: ignore[assignment]  # a hook
        await server.stop(with_loss=True)
        await server.start()
        await trio.sleep(5)
        assert held
        assert await content(store, 0, 512) == data


async def test_a_request_that_ends_every_connection_fails_at_last() -> None:
    async def hang_up(conversation: Conversation, got: Got) -> bool:
        if got.command == Command.WRITE:
            raise EOFError
        return False

    async with fake_server(hook=hang_up) as server, opened(server) as store:
        with pytest.raises(OSError, match=".") as failed:
            await store.write(0, some(512))
        assert failed.value.errno == errno.EIO
        assert len(server.of(Command.WRITE)) == 5
        assert await content(store, 0, 512) == bytes(512)

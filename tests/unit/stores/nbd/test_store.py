"""An NBD store over a server that does as it is told: what is asked of the server, and when."""

import errno

import pytest
import trio

from fusedm.block.errors import StoreError
from fusedm.nbd.words import Command, CommandFlag, ExportFlag
from fusedm.stores import open_nbd
from tests.helpers import nbd_replies as replies
from tests.helpers.nbd_fake import ALL, SIZE, Conversation, Got, fake_server
from tests.helpers.nbd_store import content, opened, some


async def test_a_store_is_what_the_server_says() -> None:
    async with fake_server(block_sizes=(4096, 4096, 65536)) as server, opened(server) as store:
        assert (store.size, store.logical_block_size, store.read_only) == (SIZE, 4096, False)
        assert (store.allocated_bytes, store.state) == (SIZE, "connected")


async def test_a_store_has_blocks_of_512_bytes_where_the_server_has_smaller_ones() -> None:
    async with fake_server(block_sizes=(1, 4096, 65536)) as server, opened(server) as store:
        assert store.logical_block_size == 512


@pytest.mark.parametrize("settings", [{}, {"has_go": False}, {"is_structured": False}])
async def test_what_is_written_reads_back(settings: dict[str, bool]) -> None:
    data = some(100_000)
    async with fake_server(**settings) as server, opened(server) as store:
        await store.write(512, data)
        assert await content(store, 0, 100_512 + 512) == bytes(512) + data + bytes(512)


async def test_a_request_above_the_maximum_is_sent_in_pieces() -> None:
    data = some(70_000 - 70_000 % 512)
    async with fake_server(block_sizes=(512, 4096, 32768)) as server, opened(server) as store:
        await store.write(0, data)
        assert await content(store, 0, len(data)) == data
        for command in (Command.WRITE, Command.READ):
            assert [got.length for got in server.of(command)] == [32768, 32768, len(data) - 65536]


async def test_a_piece_that_fails_fails_the_whole() -> None:
    async def fail_second(conversation: Conversation, got: Got) -> bool:
        if got.offset == 32768:
            await conversation.send(replies.error(got.cookie, 28))
        return got.offset == 32768

    sizes = (512, 4096, 32768)
    async with fake_server(block_sizes=sizes, hook=fail_second) as server, opened(server) as store:
        with pytest.raises(OSError, match=".") as failed:
            await store.write(0, some(65536))
        assert failed.value.errno == errno.ENOSPC


async def test_a_discard_may_leave_holes_and_zeros_written_may_not() -> None:
    async with fake_server() as server, opened(server) as store:
        await store.write(0, some(65536))
        await store.discard(0, 4096)
        await store.write_zeroes(8192, 4096)
        assert [got.flags for got in server.of(Command.WRITE_ZEROES)] == [0, CommandFlag.NO_HOLE]
        assert not server.of(Command.TRIM)
        assert await content(store, 0, 4096) == bytes(4096)


async def test_zeros_are_written_where_the_server_knows_no_better() -> None:
    flags = ALL & ~ExportFlag.SEND_WRITE_ZEROES
    async with fake_server(size=4 << 20, flags=flags) as server, opened(server) as store:
        data = some(3 << 20)
        await store.write(0, data)
        await store.discard(4096, 2 << 20)
        end = 4096 + (2 << 20)
        assert (
            await content(store, 0, 3 << 20) == data[:4096].tobytes() + bytes(2 << 20) + data[end:]
        )
        assert not server.of(Command.TRIM)


async def test_many_zeros_are_asked_for_in_pieces() -> None:
    async with fake_server(size=65 << 20) as server, opened(server) as store:
        await store.discard(0, 65 << 20)
        lengths = [got.length >> 20 for got in server.of(Command.WRITE_ZEROES)]
        assert lengths == [32, 32, 1]


async def test_a_durable_write_is_one_with_fua() -> None:
    async with fake_server() as server, opened(server) as store:
        await store.write(0, some(4096), durably=True)
        assert server.of(Command.WRITE)[0].flags == CommandFlag.FUA
        assert not server.of(Command.FLUSH)
        assert server.durable[:4096] == server.memory[:4096]


async def test_a_durable_write_is_flushed_where_the_server_has_no_fua() -> None:
    async with fake_server(flags=ALL & ~ExportFlag.SEND_FUA) as server, opened(server) as store:
        await store.write(0, some(4096), durably=True)
        assert [got.command for got in server.got] == [Command.WRITE, Command.FLUSH]


async def test_a_server_that_has_no_flush_is_not_asked_for_one() -> None:
    async with fake_server(flags=ExportFlag.HAS_FLAGS) as server, opened(server) as store:
        await store.write(0, some(4096), durably=True)
        await store.flush()
        assert [got.command for got in server.got] == [Command.WRITE]
        assert store._link.kept().size == 0


async def test_what_is_kept_for_a_flush_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusedm.stores.nbd.store.MAX_UNFLUSHED_BYTES", 65536)
    async with fake_server() as server, opened(server) as store:
        async with trio.open_nursery() as nursery:
            for place in range(64):
                nursery.start_soon(store.write, place * 8192, some(8192))
        assert store._link.kept().size <= 65536
        assert 1 <= len(server.of(Command.FLUSH)) < 64


async def test_extents_say_where_data_and_holes_are() -> None:
    turn = 1 << 16
    async with fake_server() as server, opened(server) as store:
        assert await store.seek_data(0) == 0
        assert await store.seek_data(100) == 100
        assert await store.seek_hole(100) == turn
        assert await store.seek_data(turn + 700) == 2 * turn
        assert await store.seek_hole(turn + 700) == turn + 700
        assert await store.seek_data(SIZE - 5) == SIZE
        assert await store.seek_data(SIZE) == SIZE
        assert await store.seek_hole(SIZE) == SIZE
        assert all(got.flags == CommandFlag.REQ_ONE for got in server.of(Command.BLOCK_STATUS))
        assert all(got.offset % 512 == 0 for got in server.of(Command.BLOCK_STATUS))


async def test_a_search_that_takes_too_long_says_that_the_rest_is_data(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fusedm.stores.nbd.store.MAX_STATUS_REQUESTS", 1)
    async with fake_server() as server, opened(server) as store:
        assert await store.seek_hole(0) == SIZE
        assert await store.seek_data(1 << 16) == 2 << 16


async def test_without_extents_all_is_data() -> None:
    async with fake_server(has_allocation=False) as server, opened(server) as store:
        assert await store.seek_data(5) == 5
        assert await store.seek_data(SIZE) == SIZE
        assert await store.seek_hole(5) == SIZE


async def test_a_read_only_export_is_a_read_only_store() -> None:
    async with fake_server(flags=ALL | ExportFlag.READ_ONLY) as server, opened(server) as store:
        assert store.read_only
        for change in (
            store.write(0, some(512)),
            store.discard(0, 512),
            store.write_zeroes(0, 512),
        ):
            with pytest.raises(OSError, match="Read-only"):
                await change
        await store.flush()
        assert not server.got


async def test_a_store_opened_for_reading_only_changes_nothing() -> None:
    async with fake_server() as server, opened(server, read_only=True) as store:
        with pytest.raises(OSError, match="Read-only"):
            await store.write(0, some(512))
        assert not server.got


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EPERM, errno.EINVAL])
async def test_the_servers_errno_reaches_the_caller(number: int) -> None:
    async def refuse(conversation: Conversation, got: Got) -> bool:
        await conversation.send(replies.error(got.cookie, number, b"no"))
        return True

    async with fake_server(hook=refuse) as server, opened(server) as store:
        for call in (
            store.read_into(0, memoryview(bytearray(512))),
            store.write(0, some(512)),
            store.flush(),
            store.discard(0, 512),
            store.write_zeroes(0, 512),
            store.seek_data(0),
        ):
            with pytest.raises(OSError, match=".") as failed:
                await call
            assert failed.value.errno == number
        assert store.state == "connected"


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (SIZE + 512, "size 1049088 is above its 1048576 bytes"),
        (1000, "size 1000 is not a whole number of 512-byte blocks"),
        (0, "size 0 is not in 1"),
    ],
)
async def test_a_size_that_the_export_cannot_have_is_refused(size: int, text: str) -> None:
    async with fake_server() as server:
        with pytest.raises(StoreError) as refused:
            await open_nbd(server.uri, size, False)
        assert text in str(refused.value)


async def test_a_smaller_size_is_the_front_of_the_export() -> None:
    async with fake_server() as server:
        store = await open_nbd(server.uri, SIZE // 2, False)
        assert store.size == SIZE // 2
        assert await store.seek_hole(SIZE // 2 - 512) <= SIZE // 2
        await store.aclose()


async def test_a_uri_that_means_nothing_is_refused() -> None:
    with pytest.raises(StoreError, match="is not an absolute path"):
        await open_nbd("nbd+unix:///d?socket=relative", None, False)


async def test_a_server_that_is_not_there_is_told_by_name() -> None:
    with pytest.raises(StoreError, match="NBD export 'd' at /no/such: No such file") as refused:
        await open_nbd("nbd+unix:///d?socket=/no/such", None, False)
    assert refused.value.errno == errno.ENOENT


async def test_a_port_where_nobody_listens_is_told_by_name() -> None:
    with pytest.raises(StoreError, match="at localhost:1: .*Connection refused") as refused:
        await open_nbd("nbd://localhost:1/d", None, False)
    assert refused.value.errno == errno.ECONNREFUSED


async def test_a_name_that_no_host_can_have_is_refused() -> None:
    with pytest.raises(StoreError, match="is no name of a host"):
        await open_nbd(f"nbd://{'a' * 70}/d", None, False)


async def test_a_closed_store_fails_and_says_so() -> None:
    async with fake_server() as server:
        store = await open_nbd(server.uri, None, False)
        await store.aclose()
        await store.aclose()
        assert store.state == "closed"
        with pytest.raises(OSError, match=".") as failed:
            await store.write(0, some(512))
        assert failed.value.errno == errno.ESHUTDOWN
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert server.got[-1].command == Command.DISCONNECT

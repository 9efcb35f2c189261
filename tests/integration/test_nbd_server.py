"""The NBD server over a stack in memory: every command, every way to go, who else is there."""

import errno
import struct

import pytest
import trio

from fusedm.block.errors import StackError
from fusedm.export import Address, ServerSpec, connection, servers
from fusedm.export.carrying_out import MAX_EXTENTS, PIECE_BYTES
from fusedm.export.room import MAX_IN_HAND
from fusedm.nbd import words
from fusedm.nbd.words import Command, CommandFlag, ExportFlag, Option, OptionReply
from tests.helpers.builders import pattern
from tests.helpers.nbd import MIB, served, until

PAGE = 4096
HOLE = 3


@pytest.fixture(autouse=True, params=["threads", "tasks"])
def way(request, monkeypatch) -> str:
    """Who takes the requests of a client first."""
    if request.param == "tasks":
        monkeypatch.setattr("fusedm.export.reading.MAX_READERS", 0)
    return request.param


@pytest.mark.parametrize("structured", [True, False])
@pytest.mark.parametrize("name", ["d0", "m", "v", "disks/d0", "/mapper/m", "views/v"])
async def test_what_is_written_is_read_back(tmp_path, name: str, structured: bool):
    async with served(tmp_path) as nbd:
        client = await nbd.client(name, structured=structured)
        data = pattern(3 * PAGE)
        await client.write(PAGE, data)
        await client.write(100, b"unaligned", fua=True)
        assert await client.read(PAGE, len(data)) == data
        assert await client.read(99, 11) == b"\0unaligned\0"


async def test_what_a_view_shows_is_encrypted_below(tmp_path):
    async with served(tmp_path) as nbd:
        view, disk = await nbd.client("v"), await nbd.client("d1")
        await view.write(0, pattern(PAGE))
        assert pattern(PAGE)[:64] not in await disk.read(0, PAGE)


@pytest.mark.parametrize("name", ["none", "views/d0", "", "disks/", "d0/d0"])
async def test_a_name_that_is_none_is_unknown(tmp_path, name: str):
    async with served(tmp_path) as nbd:
        client = await nbd.connect()
        await client.greet()
        text = struct.pack(">I", len(name)) + name.encode() + b"\0\0"
        assert (await client.option(Option.GO, text))[0][0] == OptionReply.ERR_UNKNOWN


async def test_only_what_was_named_is_exported_and_needs_no_name_if_it_is_one(tmp_path):
    async with served(tmp_path, names=("m",)) as nbd:
        client = await nbd.connect()
        await client.greet()
        told = await client.option(Option.LIST)
        assert [data[4:] for kind, data in told if kind == OptionReply.SERVER] == [b"m"]
        await client.go("")
        assert client.size == 4 * MIB


async def test_what_is_not_there_cannot_be_exported(tmp_path):
    async with served(tmp_path) as nbd:
        with pytest.raises(StackError, match="'nobody'"):
            await nbd.servers.start(ServerSpec(Address(path=str(tmp_path / "x")), ("nobody",)))


@pytest.mark.parametrize("structured", [True, False])
async def test_errors_are_told_and_the_connection_goes_on(tmp_path, structured: bool):
    async with served(tmp_path) as nbd:
        client = await nbd.client("bad", structured=structured)
        for command in (Command.READ, Command.WRITE):
            data = bytes(PAGE) if command == Command.WRITE else b""
            reply = await client.do(command, 0, PAGE, data=data)
            assert reply.error == errno.EIO
            assert ("bad" in reply.text) is structured
        assert (await client.do(99, 0, 512)).error == errno.EINVAL


async def test_past_the_end_there_is_nothing(tmp_path):
    async with served(tmp_path) as nbd:
        client = await nbd.client("d0")
        assert (await client.do(Command.READ, client.size - 1, 2)).error == errno.EINVAL
        assert (await client.do(Command.WRITE, client.size - 1, data=b"ab")).error == errno.ENOSPC
        assert await client.read(client.size - 1, 1) == b"\0"


@pytest.mark.parametrize(("name", "server_ro"), [("fixed", False), ("d0", True)])
async def test_nobody_writes_to_what_is_read_only(tmp_path, name: str, server_ro: bool):
    async with served(tmp_path, read_only=server_ro) as nbd:
        client = await nbd.client(name)
        assert client.flags & ExportFlag.READ_ONLY
        assert (await client.do(Command.WRITE, 0, data=bytes(512))).error == errno.EPERM
        assert await client.read(0, 512) == bytes(512)


@pytest.mark.parametrize("flags", [0, CommandFlag.NO_HOLE, CommandFlag.FUA])
@pytest.mark.parametrize("command", [Command.TRIM, Command.WRITE_ZEROES])
@pytest.mark.parametrize("name", ["d0", "v"])
async def test_what_is_zeroed_reads_as_zeros(tmp_path, name: str, command: int, flags: int):
    async with served(tmp_path) as nbd:
        client = await nbd.client(name)
        await client.write(0, pattern(4 * PAGE))
        if command == Command.TRIM and flags == CommandFlag.NO_HOLE:
            assert (await client.do(command, 0, PAGE, flags=flags)).error == errno.EINVAL
            return
        assert not (await client.do(command, 100, 2 * PAGE, flags=flags)).error
        expected = pattern(4 * PAGE)
        assert await client.read(0, 4 * PAGE) == (
            expected[:100] + bytes(2 * PAGE) + expected[100 + 2 * PAGE :]
        )


async def test_holes_are_told(tmp_path):
    async with served(tmp_path) as nbd:
        client = await nbd.client("v")
        await client.write(MIB, pattern(PAGE))
        told = await client.do(Command.BLOCK_STATUS, 0, client.size)
        assert told.extents == ((MIB, HOLE), (PAGE, 0), (client.size - MIB - PAGE, HOLE))
        one = await client.do(Command.BLOCK_STATUS, 0, 2 * MIB, flags=CommandFlag.REQ_ONE)
        assert one.extents == ((MIB, HOLE),)
        inside = await client.do(Command.BLOCK_STATUS, MIB, PAGE)
        assert inside.extents == ((PAGE, 0),)


async def test_extents_of_one_answer_are_bounded(tmp_path):
    async with served(tmp_path) as nbd:
        client = await nbd.client("d0")
        for offset in range(0, client.size, 2 * PAGE):
            await client.write(offset, b"x" * PAGE)
        told = await client.do(Command.BLOCK_STATUS, 0, client.size)
        assert len(told.extents) == min(MAX_EXTENTS, client.size // PAGE)


async def test_a_long_read_comes_in_pieces_with_its_holes(tmp_path):
    async with served(tmp_path) as nbd:
        client = await nbd.client("d0")
        data = pattern(3 * PIECE_BYTES)
        await client.write(MIB // 2, data)
        reply = await client.do(Command.READ, 0, client.size)
        assert reply.data == bytes(MIB // 2) + data + bytes(client.size - len(data) - MIB // 2)
        assert reply.holes == 2
        assert reply.chunks == 2 + 4
        whole = await client.do(Command.READ, 0, client.size, flags=CommandFlag.DF)
        assert (whole.data, whole.chunks) == (reply.data, 1)


async def test_a_long_read_may_fail_in_the_middle(tmp_path):
    toml = 'version = 1\n[disks.d0]\nsize = "8MiB"\nstore = "memory:"\n[mapper.half]\n'
    toml += "table = '''\n0 8192 linear d0 0\n8192 8192 error\n'''\n"
    async with served(tmp_path, toml) as nbd:
        client = await nbd.client("half")
        await client.write(0, pattern(PAGE))
        reply = await client.do(Command.READ, 0, 8 * MIB)
        assert reply.error == errno.EIO
        assert reply.data[:PAGE] == pattern(PAGE)
        assert await client.read(0, PAGE) == pattern(PAGE)


async def test_cache_and_flush_are_done(tmp_path):
    async with served(tmp_path) as nbd:
        client = await nbd.client("d1")
        await client.write(0, pattern(PAGE))
        assert not (await client.do(Command.CACHE, 0, 3 * MIB)).error
        assert not (await client.do(Command.FLUSH)).error


@pytest.mark.parametrize("how", ["flush", "fua", "zeroes"])
async def test_what_is_durable_outlasts_power_loss(tmp_path, how: str):
    async with served(tmp_path) as nbd:
        client = await nbd.client("d2")
        await client.write(0, pattern(PAGE), fua=how == "fua")
        await client.write(PAGE, pattern(PAGE), fua=how == "zeroes")
        if how == "flush":
            assert not (await client.do(Command.FLUSH)).error
        if how == "zeroes":
            done = await client.do(Command.WRITE_ZEROES, PAGE, PAGE, flags=CommandFlag.FUA)
            assert not done.error
        await nbd.stack.lose_power("d2", "nothing")
        assert await client.read(0, PAGE) == pattern(PAGE)
        if how == "zeroes":
            assert await client.read(PAGE, PAGE) == bytes(PAGE)


# Who is there, and who goes.


async def test_an_export_that_is_open_is_in_use(tmp_path):
    async with served(tmp_path) as nbd:
        client = await nbd.client("v")
        assert nbd.open_count("v") == 1
        with pytest.raises(StackError, match="in use"):
            nbd.stack.system.remove_view("v")
        await client.ask(Command.DISCONNECT)
        assert await client.is_hung_up_on()
        await nbd.until_closed("v")
        nbd.stack.system.remove_view("v")


@pytest.mark.parametrize("state", ["nothing", "greeting", "option", "open", "request", "payload"])
async def test_a_client_that_goes_in_any_state_leaves_nothing(tmp_path, state: str):
    async with served(tmp_path) as nbd:
        client = await (
            nbd.client("d0") if state in ("open", "request", "payload") else nbd.connect()
        )
        if state in ("greeting", "option"):
            await client.greet()
        if state == "option":
            await client.send(words.OPTION.pack(words.OPTION_MAGIC, Option.GO, 100) + bytes(50))
        if state == "request":
            await client.send(bytes.fromhex("25609513"))
        if state == "payload":
            header = (words.REQUEST_MAGIC, 0, Command.WRITE, 1, 0, PAGE)
            await client.send(words.REQUEST.pack(*header) + bytes(100))
        await client.close()
        await nbd.until_closed("d0")
        await until(lambda: not nbd.servers.list()[0]["connections"])
        assert await (await nbd.client("d0")).read(0, 100) == bytes(100)


@pytest.mark.parametrize("requests", [1, 9 * MAX_IN_HAND])
async def test_a_client_that_goes_while_a_suspended_device_holds_its_requests(
    tmp_path, requests: int
):
    async with served(tmp_path) as nbd:
        client, other = await nbd.client("m"), await nbd.client("d1")
        await nbd.stack.dm.suspend("m")
        with trio.move_on_after(0.5):  # It cannot send them all, if nobody reads them.
            for _ in range(requests):
                await client.ask(Command.WRITE, 0, data=bytes(512))
        assert await other.read(0, 512) == bytes(512)
        await client.close()
        await nbd.until_closed("m")
        await nbd.stack.dm.resume("m")


async def test_requests_that_a_suspended_device_held_are_answered(tmp_path):
    async with served(tmp_path) as nbd:
        client = await nbd.client("m")
        await nbd.stack.dm.suspend("m")
        cookie = await client.ask(Command.WRITE, 0, data=pattern(512))
        with trio.move_on_after(0.1) as waiting:
            await client.reply()
        assert waiting.cancelled_caught
        await nbd.stack.dm.resume("m")
        assert (await client.reply()).cookie == cookie
        assert await client.read(0, 512) == pattern(512)


async def test_leave_is_taken_after_what_is_in_hand(tmp_path):
    async with served(tmp_path) as nbd:
        client = await nbd.client("m")
        await nbd.stack.dm.suspend("m")
        cookie = await client.ask(Command.WRITE, 0, data=pattern(512))
        await client.ask(Command.DISCONNECT)
        await trio.sleep(0.05)
        await nbd.stack.dm.resume("m")
        assert (await client.reply()).cookie == cookie
        assert await client.is_hung_up_on()


async def test_who_does_not_read_answers_ties_up_nobody_else(tmp_path):
    async with served(tmp_path) as nbd:
        rude, other = await nbd.client("d0"), await nbd.client("d0")
        with trio.move_on_after(0.3):
            while True:
                await rude.ask(Command.READ, 0, 8 * MIB)
        await other.write(0, pattern(PAGE))
        assert await other.read(0, PAGE) == pattern(PAGE)
        await rude.close()
        await other.close()
        await nbd.until_closed("d0")


async def test_who_never_comes_to_an_end_of_the_handshake_is_hung_up_on(tmp_path, monkeypatch):
    monkeypatch.setattr(connection, "HANDSHAKE_SECONDS", 0.1)
    async with served(tmp_path) as nbd:
        client = await nbd.connect()
        await client.greet()
        assert await client.is_hung_up_on()


async def test_more_clients_than_there_may_be_are_sent_away(tmp_path, monkeypatch):
    monkeypatch.setattr(servers, "MAX_CONNECTIONS", 2)
    async with served(tmp_path) as nbd:
        first, second = await nbd.client("d0"), await nbd.client("d0")
        assert await (await nbd.connect()).is_hung_up_on()
        await first.close()
        await nbd.stack.system.names.catch_up()
        third = await nbd.client("d0")
        assert await third.read(0, 1) == await second.read(0, 1) == b"\0"


@pytest.mark.parametrize("what", [b"\0" * 28, b"GET / HTTP/1.1\r\n\r\n" * 3])
async def test_what_is_no_request_has_the_server_hang_up(tmp_path, what: bytes):
    async with served(tmp_path) as nbd:
        client = await nbd.client("d0")
        await client.send(what)
        assert await client.is_hung_up_on()
        await nbd.until_closed("d0")


async def test_a_verb_sees_that_a_client_has_gone_just_before(tmp_path):
    async with served(tmp_path) as nbd:
        client = await nbd.client("v")
        await client.close()
        await nbd.stack.system.names.catch_up()
        assert not nbd.open_count("v")


async def test_a_server_with_clients_is_stopped_by_force_only(tmp_path):
    async with served(tmp_path) as nbd:
        client = await nbd.client("d0")
        with pytest.raises(StackError, match="1 clients") as caught:
            await nbd.servers.stop(str(nbd.path))
        assert caught.value.errno == errno.EBUSY
        await nbd.servers.stop(str(nbd.path), force=True)
        assert await client.is_hung_up_on()
        assert not nbd.open_count("d0")
        with pytest.raises(StackError, match="no server"):
            await nbd.servers.stop(str(nbd.path))


async def test_the_end_waits_for_requests_in_hand_but_not_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(connection, "GRACE_SECONDS", 0.2)
    async with served(tmp_path) as nbd:
        client = await nbd.client("m")
        await nbd.stack.dm.suspend("m")
        await client.ask(Command.WRITE, 0, data=bytes(512))
        await trio.sleep(0.05)
        await nbd.servers.close()
        assert await client.is_hung_up_on()
        assert not nbd.open_count("m")


async def test_a_bug_in_a_request_is_an_error_of_that_request(tmp_path, monkeypatch, caplog):
    async with served(tmp_path) as nbd:
        client = await nbd.client("d0")
        monkeypatch.setattr("fusedm.export.carrying_out.seek", None)
        monkeypatch.setattr("fusedm.export.carrying_out.read_nowait", None)
        assert (await client.do(Command.BLOCK_STATUS, 0, PAGE)).error == errno.EIO
        assert (await client.do(Command.READ, 0, PAGE)).error == errno.EIO
        await client.write(0, b"goes on")
    assert "bug" in caplog.text


async def test_a_bug_in_a_connection_ends_no_other(tmp_path, monkeypatch, caplog):
    async with served(tmp_path) as nbd:
        client = await nbd.client("d0")
        monkeypatch.setattr("fusedm.export.connection.check_request", None)
        await client.ask(Command.CACHE, 0, PAGE)
        assert await client.is_hung_up_on()
        monkeypatch.undo()
        assert await (await nbd.client("d0")).read(0, 1) == b"\0"
    assert "bug" in caplog.text

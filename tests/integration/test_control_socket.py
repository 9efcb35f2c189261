"""The control socket for real: server, protocol and verbs, without a mount."""

import errno
import json
import os
import socket
import stat
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from fusedm.block.errors import FusedmError
from fusedm.control.client import Client
from fusedm.control.protocol import MAX_LINE_BYTES, VERSION, Request, encode_request
from fusedm.control.run_dir import forget, socket_path
from fusedm.control.server import Dispatch, listen, serve_control
from tests.helpers.commands import verbs

NOBODY = 65534
FAIL_AFTER_SECONDS = 10
LS = encode_request(Request("ls", {}, 7))


@asynccontextmanager
async def serving(path: Path, dispatch: Dispatch | None = None) -> AsyncIterator[None]:
    """A control socket at a path; the verbs are those of a stack in memory unless given."""
    with trio.fail_after(FAIL_AFTER_SECONDS):
        async with verbs(path.parent) as stack, trio.open_nursery() as nursery:
            nursery.start_soon(serve_control, listen(path), dispatch or stack.commands.dispatch)
            yield
            nursery.cancel_scope.cancel()


class Wire:
    """A connection on which anything can be sent."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._received = b""

    async def send(self, data: bytes) -> None:
        """Send bytes, as far as the other end takes them."""
        with suppress(trio.BrokenResourceError):
            await self._stream.send_all(data)

    async def reply(self) -> dict:
        """The next line, without the version that every line has."""
        while b"\n" not in self._received:
            more = await self._stream.receive_some()
            assert more, "the daemon hung up"
            self._received += more
        line, _, self._received = self._received.partition(b"\n")
        told = json.loads(line)
        assert told.pop("fusedm") == VERSION
        return told

    async def is_hung_up(self) -> bool:
        """Whether there is nothing more to come."""
        try:
            return not await self._stream.receive_some()
        except trio.BrokenResourceError:
            return True


@asynccontextmanager
async def connected(path: Path) -> AsyncIterator[Wire]:
    """A connection to a control socket."""
    async with await trio.open_unix_socket(path) as stream:
        yield Wire(stream)


async def test_a_verb_is_answered_with_the_id_of_its_request(tmp_path):
    async with serving(tmp_path / "s"), connected(tmp_path / "s") as wire:
        await wire.send(LS)
        told = await wire.reply()
        assert told["id"] == 7
        assert [file["name"] for file in told["result"]] == ["d0", "d1", "dm0", "v"]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"ls\n", "control message: not JSON"),
        (b"\n", "control message: not JSON"),
        (b"\xff\xff\n", "control message: not JSON"),
        (b"[" * 200_000 + b"\n", "control message: not JSON"),
        (b"[1]\n", "control message: not a JSON object"),
        (b'{"fusedm": 2, "verb": "ls"}\n', "control message: version 2, this daemon speaks 1"),
        (b'{"verb": "ls"}\n', "control message: version None, this daemon speaks 1"),
        (b'{"fusedm": 1}\n', "control message: verb None is not a string"),
        (b"x" * (MAX_LINE_BYTES + 1), f"the limit is {MAX_LINE_BYTES}"),
        (b"x" * (8 * MAX_LINE_BYTES), f"the limit is {MAX_LINE_BYTES}"),
    ],
    ids=["word", "empty", "bytes", "deep", "array", "2", "none", "no verb", "long", "very long"],
)
async def test_what_is_no_request_is_told_so_and_hung_up_on(tmp_path, data, text):
    async with serving(tmp_path / "s"):
        async with connected(tmp_path / "s") as wire, trio.open_nursery() as nursery:
            nursery.start_soon(wire.send, data)
            told = await wire.reply()
            assert text in told["error"]["text"]
            assert (told["id"], told["error"]["errno"]) == (0, errno.EINVAL)
            assert await wire.is_hung_up()
        async with connected(tmp_path / "s") as wire:
            await wire.send(LS)
            assert "result" in await wire.reply()


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (Request("format.c", {}), "verb 'format.c' is unknown"),
        (Request("dm.remove", {"name": "dm0"}), "'dm0' is in use by v"),
        (Request("dm.remove", {"name": 1}), "dm.remove: argument name is of the wrong type"),
    ],
)
async def test_a_refused_verb_leaves_the_connection_as_it_was(tmp_path, request_, text):
    async with serving(tmp_path / "s"), connected(tmp_path / "s") as wire:
        await wire.send(encode_request(request_))
        assert (await wire.reply())["error"]["text"] == text
        await wire.send(LS)
        assert "result" in await wire.reply()


async def test_a_bug_in_a_verb_ends_nothing(tmp_path, caplog):
    async def dispatch(request: Request) -> object:
        if request.verb == "bug":
            raise ZeroDivisionError
        return "fine"

    async with serving(tmp_path / "s", dispatch), connected(tmp_path / "s") as wire:
        await wire.send(encode_request(Request("bug", {})))
        told = (await wire.reply())["error"]
        text = "bug: a bug, see the daemon's log"
        assert told == {"errno": errno.EIO, "text": text, "usage": False}
        await wire.send(LS)
        assert (await wire.reply())["result"] == "fine"
    assert "ZeroDivisionError" in caplog.text


async def test_requests_are_answered_in_order_however_they_come(tmp_path):
    async with serving(tmp_path / "s"), connected(tmp_path / "s") as wire:
        sent = b"".join(encode_request(Request("status", {}, number)) for number in range(50))
        for byte in sent[:300]:
            await wire.send(bytes([byte]))
        await wire.send(sent[300:])
        assert [(await wire.reply())["id"] for _ in range(50)] == list(range(50))


async def test_many_talk_at_once(tmp_path):
    async with serving(tmp_path / "s"):

        async def talk(number: int) -> None:
            async with connected(tmp_path / "s") as wire:
                name = f"n{number}"
                for verb in ("dm.add", "dm.show", "dm.remove"):
                    await wire.send(encode_request(Request(verb, {"name": name})))
                    assert "result" in await wire.reply()

        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(talk, number)


async def test_one_that_hangs_up_in_the_middle_disturbs_nobody(tmp_path):
    async with serving(tmp_path / "s"):
        for data in (b"", b'{"fusedm"', LS[:-1], LS, LS * 1000):
            async with connected(tmp_path / "s") as wire:
                await wire.send(data)
        async with connected(tmp_path / "s") as wire:
            await wire.send(LS)
            assert "result" in await wire.reply()


async def test_one_that_does_not_read_its_replies_holds_up_nobody(tmp_path):
    async with serving(tmp_path / "s"), connected(tmp_path / "s") as deaf:
        with trio.move_on_after(0.2):
            await deaf.send(LS * 100_000)
        async with connected(tmp_path / "s") as wire:
            await wire.send(LS)
            assert "result" in await wire.reply()


async def test_the_socket_is_its_users_only(tmp_path):
    async with serving(tmp_path / "s"):
        info = (tmp_path / "s").stat()
        assert stat.S_ISSOCK(info.st_mode)
        assert info.st_mode & 0o777 == 0o600


async def test_a_socket_that_a_killed_daemon_left_is_replaced(tmp_path):
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(os.fspath(tmp_path / "s"))
    async with serving(tmp_path / "s"), connected(tmp_path / "s") as wire:
        await wire.send(LS)
        assert "result" in await wire.reply()


def say_as_nobody(path: Path) -> str:
    """What a socket says to a process of another user."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        told = "?"
        try:
            os.setuid(NOBODY)
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(FAIL_AFTER_SECONDS)
                client.connect(os.fspath(path))
                told = client.recv(1 << 16).decode()
        except OSError as error:
            told = errno.errorcode[error.errno or 0]
        finally:
            os.write(writer, told.encode())
            os._exit(0)
    os.close(writer)
    with open(reader) as pipe:
        told = pipe.read()
    os.waitpid(pid, 0)
    return told


@pytest.mark.skipif(os.geteuid() != 0, reason="SKIPPED: it takes root to become another user")
async def test_another_user_is_refused():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        path = Path(folder, "s")
        os.chmod(folder, 0o755)
        async with serving(path):
            assert await trio.to_thread.run_sync(say_as_nobody, path) == "EACCES"
            await trio.Path(path).chmod(0o666)
            told = json.loads(await trio.to_thread.run_sync(say_as_nobody, path))
        text = f"user {NOBODY} may not control a stack of user 0"
        assert told["error"] == {"errno": errno.EACCES, "text": text, "usage": False}


# The client of the command line.


@asynccontextmanager
async def client_of(mount_point: Path) -> AsyncIterator[Client]:
    """A client of a control socket where the daemon of a mount point has it."""
    try:
        async with serving(socket_path(str(mount_point))):
            client = await trio.to_thread.run_sync(Client, str(mount_point))
            with client:
                yield client
    finally:
        forget(str(mount_point))


async def call(client: Client, verb: str, **args) -> object:
    return await trio.to_thread.run_sync(partial(client.call, verb, **args))


async def test_a_client_gets_results_and_refusals(tmp_path):
    async with client_of(tmp_path) as client:
        assert await call(client, "dm.table", name="dm0") == [
            {"start_sector": 0, "sector_count": 1024, "target": "linear", "words": "d0 0"}
        ]
        with pytest.raises(FusedmError, match="'d0' is in use by dm0") as caught:
            await call(client, "disk.remove", name="d0")
        assert caught.value.errno == errno.EBUSY
        assert len(await call(client, "ls")) == 4


@pytest.mark.parametrize("size", [MAX_LINE_BYTES, 20 * MAX_LINE_BYTES])
async def test_a_client_is_told_that_its_request_is_too_long(tmp_path, size):
    async with client_of(tmp_path) as client:
        with pytest.raises(FusedmError, match=f"or more, the limit is {MAX_LINE_BYTES}"):
            await call(client, "dm.load", name="dm0", table="#" * size)


async def test_a_client_is_told_that_the_daemon_went_away(tmp_path):
    listener = listen(socket_path(str(tmp_path)))
    try:
        client = await trio.to_thread.run_sync(Client, str(tmp_path))
        await listener.aclose()
        with client, pytest.raises(FusedmError, match="the daemon went away"):
            await call(client, "ls")
    finally:
        forget(str(tmp_path))


def test_a_client_is_told_that_there_is_no_daemon(tmp_path):
    with pytest.raises(FusedmError, match="no fusedm daemon can be reached there: No such file"):
        Client(str(tmp_path))


async def test_a_client_that_hangs_up_takes_back_what_it_waits_for(tmp_path):
    ended = trio.Event()

    async def wait_for_ever(request: Request) -> object:
        try:
            return await trio.sleep_forever()
        finally:
            ended.set()

    async with serving(tmp_path / "s", wait_for_ever):
        async with connected(tmp_path / "s") as wire:
            await wire.send(LS)
            await trio.testing.wait_all_tasks_blocked()
        await ended.wait()


async def test_a_client_that_only_has_no_more_to_ask_is_answered(tmp_path):
    async with (
        serving(tmp_path / "s"),
        await trio.open_unix_socket(tmp_path / "s") as stream,
    ):
        await stream.send_all(LS)
        await stream.send_eof()
        assert "result" in await Wire(stream).reply()

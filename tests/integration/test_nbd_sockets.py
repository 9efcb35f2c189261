"""Where NBD servers listen: whose the sockets are, and what is not touched."""

import errno
import os
import socket
import stat

import pytest
import trio

from fusedm.block.errors import StackError
from fusedm.export import Address, ServerSpec
from tests.helpers.nbd import NbdClient, served


async def test_a_socket_is_its_users_only_and_goes_with_its_server(tmp_path):
    async with served(tmp_path) as nbd:
        assert stat.S_IMODE(nbd.path.stat().st_mode) == 0o600
        await nbd.servers.stop(str(nbd.path))
        assert not nbd.path.exists()
        assert nbd.servers.list() == []


async def test_a_socket_in_use_is_left_alone_and_a_dead_one_replaced(tmp_path):
    dead = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as plain:
        plain.bind(str(dead))
    async with served(tmp_path) as nbd:
        with pytest.raises(StackError, match="listens there") as caught:
            await nbd.servers.start(ServerSpec(Address(path=str(nbd.path))))
        assert caught.value.errno == errno.EADDRINUSE
        await nbd.servers.start(ServerSpec(Address(path=str(dead))))
        assert await nbd.client("d0")


async def test_no_file_is_written_over(tmp_path):
    (tmp_path / "file").write_text("mine")
    async with served(tmp_path) as nbd:
        with pytest.raises(StackError, match="no socket"):
            await nbd.servers.start(ServerSpec(Address(path=str(tmp_path / "file"))))
        with pytest.raises(StackError, match="No such file"):
            await nbd.servers.start(ServerSpec(Address(path=str(tmp_path / "no/folder"))))
    assert (tmp_path / "file").read_text() == "mine"


async def test_another_ones_socket_at_the_path_is_not_removed(tmp_path):
    async with served(tmp_path) as nbd:
        nbd.path.unlink()
        with socket.socket(socket.AF_UNIX) as plain:
            plain.bind(str(nbd.path))
            await nbd.servers.stop(str(nbd.path))
        assert nbd.path.exists()
        os.unlink(nbd.path)


async def test_tcp_is_loopback_unless_told_otherwise_and_warned_of(tmp_path):
    async with served(tmp_path) as nbd:
        address = await nbd.servers.start(ServerSpec(Address(host="127.0.0.1")))
        assert nbd.servers.warning(address) is None
        anywhere = Address(host="0.0.0.0")  # it is what is warned of
        everywhere = await nbd.servers.start(ServerSpec(anywhere))
        assert "without TLS" in (nbd.servers.warning(everywhere) or "")
        host, port = address.split(":")
        client = NbdClient(await trio.open_tcp_stream(host, int(port)))
        await client.greet()
        await client.go("d0")
        assert await client.read(0, 5) == bytes(5)
        await client.close()

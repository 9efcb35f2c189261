"""NBD exports beside a mount: both show the same, and each holds what the other must not remove."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.helpers.cli import ok, place, refused, run

MIB = 1 << 20
TIMEOUT_SECONDS = 60


def nbdcopy(*words: str | Path) -> None:
    subprocess.run(["nbdcopy", *map(str, words)], check=True, timeout=TIMEOUT_SECONDS)


@pytest.fixture
def stack(tmp_path):
    with place(tmp_path) as it:
        yield it


def test_a_stack_with_a_mount_is_served_by_nbd_too(stack):
    socket = stack.folder / "nbd.sock"
    ok("up", stack.toml, stack.mount_point, "--nbd", socket)
    uri = f"nbd+unix:///home?socket={socket}"
    noise, back = stack.folder / "noise", stack.folder / "back"
    noise.write_bytes(os.urandom(4 * MIB))
    nbdcopy(noise, uri)
    view = stack.mount_point / "views/home"
    assert view.read_bytes() == noise.read_bytes()
    with view.open("r+b", buffering=0) as file:
        file.write(b"by the mount" * 1000)
        nbdcopy(uri, back)
        assert back.read_bytes() == view.read_bytes()
        assert "in use" in refused(1, "view", "remove", "home", env=stack.env)
    assert json.loads(stack.ok("status", "--json"))["nbd"] == [str(socket)]
    assert run("down", stack.mount_point).returncode == 0
    assert not socket.exists()
    assert stack.is_gone()


def test_what_an_nbd_client_has_open_keeps_a_mount_up(stack):
    stack.up()
    socket = stack.folder / "nbd.sock"
    stack.ok("nbd", "--socket", socket)
    environ = {**os.environ, "PATH": "/usr/bin:/bin"}
    script = f"h.connect_uri('nbd+unix:///home?socket={socket}'); print('in', flush=True); input()"
    with subprocess.Popen(
        ["nbdsh", "-c", script],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ,
    ) as client:  # fmt: skip
        assert client.stdout is not None
        assert client.stdout.readline() == "in\n"
        told = run("down", stack.mount_point)
        assert told.returncode == 1
        assert "is held by an NBD client" in told.stderr
        assert stack.files()["home"]["fusedm"]["open"] == 1
        client.communicate("\n", timeout=TIMEOUT_SECONDS)
    assert run("down", stack.mount_point).returncode == 0
    assert stack.is_gone()


def test_a_socket_that_cannot_be_made_leaves_no_stack(stack):
    text = refused(1, "up", stack.toml, stack.mount_point, "--nbd", stack.folder / "no/where")
    assert "No such file" in text
    assert stack.is_gone()

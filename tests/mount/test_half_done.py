"""What is refused has changed nothing; what shares data is told of, and who holds a stack."""

import os
import subprocess
from pathlib import Path

import pytest

from fusedm.block.errors import FusedmError
from fusedm.control import bring_down
from fusedm.control.client import Client
from fusedm.host import loop, mounts
from tests.helpers.cli import PROGRAM, TOML, Place, place, refused, run, wait_until
from tests.helpers.tiers import left_behind

pytestmark = [pytest.mark.fuse, pytest.mark.loop]


@pytest.fixture
def stack(tmp_path: Path):
    """A stack that is up, of which nothing is left when the test is over."""
    with place(tmp_path, TOML) as it:
        it.up()
        yield it
    wait_until(lambda: left_behind(os.path.realpath(tmp_path)) == [])


def attach(stack: Place, name: str) -> tuple[str, list[str]]:
    """Attach; the node and what was warned of."""
    done = run("attach", name, env=stack.env)
    assert done.returncode == 0
    node, *rest = done.stdout.splitlines()
    assert rest == []
    return node, done.stderr.splitlines()


def nodes(stack: Place) -> set[str]:
    """The loop devices over a stack."""
    return {device.node for device in loop.attached(str(stack.mount_point))}


def test_a_refused_detach_has_detached_nothing(stack: Place):
    both = {attach(stack, "plain0")[0], attach(stack, "plain0")[0]}
    for node in both:
        with open(node, "rb"):
            assert stack.refused(1, "detach", "plain0").startswith(f"{node} is held by ")
            assert nodes(stack) == both
    assert stack.ok("detach", "plain0") == ""
    assert nodes(stack) == set()


def test_attaching_what_shares_data_with_what_is_attached_is_warned_of(stack: Place):
    neither = "neither sees what is written through the other"
    data, said = attach(stack, "data")
    assert said == []
    twice, said = attach(stack, "data")
    assert said == [f"fusedm: warning: 'data' is attached to {data} already: {neither}"]
    subprocess.run(["losetup", "--detach", twice], check=True)
    mount_point = stack.folder / "files"
    mount_point.mkdir()
    subprocess.run(["mkfs.ext4", "-q", data], check=True)
    subprocess.run(["mount", data, str(mount_point)], check=True)
    where = f"which is attached to {data} (mounted at {mount_point})"
    _, said = attach(stack, "ufs0")
    assert said == [f"fusedm: warning: 'data', {where}, lies on 'ufs0': {neither}"]
    _, said = attach(stack, "home")
    assert f"fusedm: warning: 'home' lies on 'data', {where}: {neither}" in said
    assert len(said) == 2
    subprocess.run(["umount", str(mount_point)], check=True)


def test_an_attach_whose_node_cannot_be_told_has_attached_nothing(stack: Place):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [PROGRAM, "attach", "data"],
            env={**os.environ, **stack.env}, stdout=full, stderr=subprocess.PIPE, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, b"fusedm: No space left on device\n")
    assert nodes(stack) == set()


def test_who_holds_a_stack_that_was_unmounted_lazily_is_named(stack: Place):
    node, _ = attach(stack, "data")
    path = stack.mount_point / "disks/plain0"
    with open(path, "rb"):
        mounts.unmount(str(stack.mount_point), lazy=True)
        said = refused(1, "down", stack.mount_point)
        assert said.startswith(f"{path} is out of sight (umount -l), but held by ")
        assert f"(pid {os.getpid()})" in said
        assert "end that first, or use --force" in said
    with open(node, "rb"):
        assert refused(1, "down", stack.mount_point).startswith(f"{node} is held by ")
    assert f"detached {node} from " in run("down", stack.mount_point).stderr
    assert stack.is_gone()


def test_a_stack_that_was_unmounted_lazily_is_ended_by_force(stack: Place):
    with open(stack.mount_point / "disks/plain0", "rb"):
        mounts.unmount(str(stack.mount_point), lazy=True)
        assert run("down", "--force", stack.mount_point).returncode == 0
        assert stack.is_gone()


def test_a_file_that_is_opened_in_the_last_moment_has_loop_devices_put_back(
    stack: Place, monkeypatch: pytest.MonkeyPatch
):
    attach(stack, "data")
    call = Client.call

    def late(client: Client, verb: str, **args: object) -> object:
        if verb == "stop":
            with open(stack.mount_point / "disks/plain0", "rb"):
                return call(client, verb, **args)
        return call(client, verb, **args)

    monkeypatch.setattr(Client, "call", late)
    with pytest.raises(FusedmError, match="plain0: open"):
        bring_down(str(stack.mount_point))
    assert len(nodes(stack)) == 1
    assert stack.pid() is not None

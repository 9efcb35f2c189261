"""Whatever a signal ends, whenever it comes: nothing is left, or all is there and it exits 0."""

import os
from pathlib import Path

import pytest

from fusedm.control.run_dir import running_stacks
from fusedm.host import loop
from tests.helpers.cli import Place, place, run, wait_until
from tests.helpers.signalled import Signalled
from tests.helpers.tiers import left_behind

pytestmark = pytest.mark.fuse

STARTING = "control/daemon.py control/detached.py control/start.py host/interrupts.py"


@pytest.fixture
def here(tmp_path: Path):
    """A place for a stack, where nothing is left when the test is over."""
    with place(tmp_path) as it:
        yield it
    wait_until(lambda: left_behind(os.path.realpath(tmp_path)) == [])


def is_whole(it: Place) -> bool:
    """Whether a stack is up with all that belongs to it."""
    return it.is_mounted() and it.pid() is not None and (it.folder / "ufs0.img").exists()


def is_nothing(it: Place) -> bool:
    """Whether neither mount, daemon, record nor store is there."""
    records = [stack.mount_point for stack in running_stacks()]
    return (
        not it.is_mounted()
        and str(it.mount_point) not in records
        and not (it.folder / "ufs0.img").exists()
    )


def start_over(it: Place) -> None:
    """Have the place as it was at first."""
    run("down", "--force", it.mount_point)
    (it.folder / "ufs0.img").unlink(missing_ok=True)
    assert is_nothing(it)


@pytest.mark.parametrize("who", ["us", "the daemon"])
def test_an_interrupted_up_leaves_nothing_or_a_whole_stack_and_0(here: Place, who: str):
    up = Signalled(here.folder, who, STARTING, "up", here.toml, here.mount_point)
    assert up.run(0).returncode == 0
    start_over(here)
    ends = set()
    for line, number in up.places():
        done = up.run(line, number)
        if who == "the daemon" and done.returncode == 0:
            # It was up already, or even ending: it ends as any that is signalled does.
            run("down", here.mount_point)
            wait_until(lambda: not here.is_mounted() and here.pid() is None)
        elif done.returncode == 0:
            assert is_whole(here), (line, number, done)
        else:
            assert is_nothing(here), (line, number, done)
            assert done.returncode in (-number, 128 + number, 1), (line, number, done)
        ends.add(done.returncode == 0)
        start_over(here)
    assert ends == {False, True}


@pytest.mark.loop
def test_an_interrupted_attach_has_told_the_node_or_attached_nothing(here: Place):
    here.up()
    modules = "cli/running.py host/loop.py host/loop_control.py host/interrupts.py"
    attach = Signalled(here.folder, "us", modules, "attach", "data", "--stack", here.mount_point)
    assert attach.run(0).returncode == 0
    here.ok("detach", "data")
    ends = set()
    for line, number in attach.places():
        done = attach.run(line, number)
        devices = loop.attached(str(here.mount_point))
        told = [f"{device.node}\n" for device in devices]
        assert told == ([done.stdout] if done.returncode == 0 else []), (line, number, done)
        for device in devices:
            loop.detach(device)
        ends.add(done.returncode == 0)
    assert ends == {False, True}


def test_an_interrupted_run_leaves_nothing(here: Place):
    modules = "cli/run_command.py control/detached.py host/interrupts.py"
    command = ("sh", "-c", 'echo "$FUSEDM_MOUNT"')
    run_ = Signalled(here.folder, "us", modules, "run", here.toml, "--", *command)
    assert run_.run(0).returncode == 0
    for line, number in run_.places():
        done = run_.run(line, number)
        assert done.returncode in (0, 1, -number, 128 + number), (line, number, done)
        assert not os.path.lexists(done.stdout.strip() or "/no/such"), (line, number, done)
        assert [stack for stack in running_stacks() if stack.stack_file == str(here.toml)] == []


@pytest.mark.loop
def test_an_interrupted_dmsetup_create_leaves_a_whole_device_or_none(here: Place):
    image = here.folder / "disk.img"
    image.touch()
    os.truncate(image, 1 << 20)
    os.environ["DM_DEV_DIR"] = str(here.folder / "dev")
    try:
        node = here.folder / "dev/mapper/t"
        words = ("dmsetup", "create", "t", "--table", f"0 2048 linear {image} 0")
        create = Signalled(here.folder, "us", "dmsetup/changing.py dmsetup/attachment.py", *words)
        assert create.run(0).returncode == 0
        ends = set()
        for line, number in create.places():
            run("dmsetup", "remove", "t")
            done = create.run(line, number)
            there = run("dmsetup", "info", "-c", "--noheadings", "-o", "name").stdout
            is_whole = there == "t\n" and node.is_block_device()
            is_nothing = "t\n" not in there and not node.exists()
            assert is_whole if done.returncode == 0 else is_nothing, (line, number, done, there)
            ends.add(done.returncode == 0)
        assert ends == {False, True}
    finally:
        run("dmsetup", "remove", "t")
        del os.environ["DM_DEV_DIR"]

"""What is durable when: fsync, O_DSYNC, a power cut, a killed daemon, a full file system."""

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from fusedm.host import mounts
from tests.helpers.crowd import wait_until
from tests.helpers.mounted import (
    MIB,
    Mounted,
    fusedm,
    mounted_stack,
    opened,
    page_aligned,
    read_at,
    write_at,
)
from tests.helpers.places import folder_on_tmpfs

pytestmark = pytest.mark.fuse

KEY = """
[keys.alice]
mode = "AES-256-XTS"
data_unit_size = 4096
dun_bytes = 8
source = "file:alice.key"
"""

VOLATILE = f"""
version = 1
[disks.v0]
size = "1MiB"
store = "volatile:memory:"
engine = {{ keyslots = 2, max_dun_bytes = 8, modes = {{ "AES-256-XTS" = [4096] }} }}
[disks.v1]
size = "1MiB"
store = "volatile:memory:"
[mapper.flat]
table = '''
0 2048 linear v0 0
2048 2048 linear v1 0
'''
[mapper.over]
table = "0 4096 linear flat 0"
{KEY}
[views.home]
device = "over"
key = "alice"
"""

FILE = f"""
version = 1
[disks.f0]
size = "4MiB"
store = "file:f0.img"
engine = {{ keyslots = 2, max_dun_bytes = 8, modes = {{ "AES-256-XTS" = [4096] }} }}
{KEY}
[views.home]
device = "f0"
key = "alice"
"""

BLOCK = 4096


@pytest.fixture(scope="module")
def stack(way: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    with mounted_stack(VOLATILE, tmp_path_factory.mktemp("volatile")) as mounted:
        yield mounted


def lose_power(stack: Mounted) -> None:
    for disk in ("v0", "v1"):
        done = stack.fusedm("disk", "lose-power", disk, "--keep", "nothing")
        assert done.returncode == 0, done.stderr


def test_what_is_not_flushed_does_not_survive_a_power_cut(stack: Mounted) -> None:
    before = stack.view("home").read_bytes()
    write_at(stack.view("home"), 0, os.urandom(2 * MIB))
    lose_power(stack)
    assert stack.view("home").read_bytes() == before


@pytest.mark.parametrize("sync", [os.fsync, os.fdatasync])
def test_fsync_reaches_every_store(stack: Mounted, sync) -> None:
    data = os.urandom(2 * MIB)
    with opened(stack.view("home")) as fd:
        assert os.pwrite(fd, data, 0) == len(data)
        sync(fd)
    lose_power(stack)
    assert stack.view("home").read_bytes() == data


def test_fsync_of_another_file_over_the_same_disks_counts_as_well(stack: Mounted) -> None:
    data = os.urandom(BLOCK)
    write_at(stack.view("home"), 0, data)
    with opened(stack.disk("v0"), os.O_RDONLY) as fd:
        os.fsync(fd)
    lose_power(stack)
    assert read_at(stack.view("home"), 0, BLOCK) == data


@pytest.mark.parametrize("flag", [os.O_DSYNC, os.O_SYNC], ids=["O_DSYNC", "O_SYNC"])
@pytest.mark.parametrize("offset", [0, MIB - 100, MIB - BLOCK])
def test_a_synchronous_write_is_durable_when_it_returns(
    stack: Mounted, flag: int, offset: int
) -> None:
    data = os.urandom(2 * BLOCK)
    assert write_at(stack.view("home"), offset, data, flag) == len(data)
    lose_power(stack)
    assert read_at(stack.view("home"), offset, len(data)) == data


def test_a_direct_synchronous_write_is_durable_when_it_returns(stack: Mounted) -> None:
    data = os.urandom(BLOCK)
    flags = os.O_RDWR | os.O_DIRECT | os.O_DSYNC
    with opened(stack.view("home"), flags) as fd, page_aligned(data) as buffer:
        os.pwritev(fd, [buffer], 8 * BLOCK)
    lose_power(stack)
    assert read_at(stack.view("home"), 8 * BLOCK, BLOCK) == data


def test_a_single_synchronous_write_is_durable_with_the_lane_only(stack: Mounted, way: str) -> None:
    """libfuse's handlers are shown no flag of a single write."""
    before, data = read_at(stack.view("home"), 0, BLOCK), os.urandom(BLOCK)
    with opened(stack.view("home")) as fd:
        os.fsync(fd)
        os.pwritev(fd, [data], 0, os.RWF_DSYNC)
    lose_power(stack)
    assert read_at(stack.view("home"), 0, BLOCK) == (data if way == "lane" else before)


def test_an_fsync_that_fails_says_so(stack: Mounted) -> None:
    stack.call("dm.add", name="bad", table="0 8 linear v0 0\n8 8 flakey v0 8 0 10")
    try:
        with opened(stack.mapper("bad")) as fd, pytest.raises(OSError, match="Errno 5"):
            os.fsync(fd)
    finally:
        # The kernel tells of the end of an open later than of the close.
        wait_until(lambda: stack.call("dm.show", name="bad")["open"] == 0)
        stack.call("dm.remove", name="bad")


def write_and_sync_until_killed(path: Path, acknowledged: list[int]) -> None:
    """Number the blocks in their order, each fsynced before the next; noted once it is."""
    with suppress(OSError), opened(path) as fd:
        for number in range(1, 1 << 20):
            os.pwrite(fd, number.to_bytes(8, "little") * (BLOCK // 8), number * 7 % 1000 * BLOCK)
            os.fsync(fd)
            acknowledged.append(number)


def assert_is_there(directory: Path, acknowledged: list[int]) -> None:
    """Bring the stack up again and look at every block whose fsync had returned."""
    assert len(acknowledged) >= 100
    last_at = {number * 7 % 1000: number for number in acknowledged}
    # The write that was cut off may have overwritten the block it was to overwrite.
    cut_off = acknowledged[-1] + 1
    with mounted_stack(FILE, directory) as stack:
        for place, number in last_at.items():
            found = read_at(stack.view("home"), place * BLOCK, BLOCK)
            allowed = {number, cut_off} if place == cut_off * 7 % 1000 else {number}
            assert found in {n.to_bytes(8, "little") * (BLOCK // 8) for n in allowed}


def test_what_was_fsynced_is_there_after_the_daemon_was_killed(tmp_path: Path) -> None:
    acknowledged: list[int] = []
    with mounted_stack(FILE, tmp_path) as stack:
        arguments = (stack.view("home"), acknowledged)
        writer = threading.Thread(target=write_and_sync_until_killed, args=arguments)
        writer.start()
        while len(acknowledged) < 100 and writer.is_alive():
            writer.join(0.01)
        stack.process.kill()
        stack.process.wait()
        writer.join(30)
        assert not writer.is_alive()
        mount_point = str(stack.mount_point)
        assert mounts.is_stale(mount_point)
        cleared = fusedm("down", mount_point)
        assert cleared.returncode == 0, cleared.stderr
        assert mounts.mount_at(mount_point) is None
    assert_is_there(tmp_path, acknowledged)


def test_what_was_fsynced_is_there_after_the_daemon_was_told_to_end(tmp_path: Path) -> None:
    acknowledged: list[int] = []
    with mounted_stack(FILE, tmp_path) as stack:
        arguments = (stack.view("home"), acknowledged)
        writer = threading.Thread(target=write_and_sync_until_killed, args=arguments)
        writer.start()
        while len(acknowledged) < 100 and writer.is_alive():
            writer.join(0.01)
        assert stack.end() == 0
        writer.join(30)
        assert not writer.is_alive()
    assert_is_there(tmp_path, acknowledged)


@pytest.mark.parametrize("offset", [0, 100], ids=["aligned", "unaligned"])
def test_a_full_file_system_under_a_store_is_enospc_to_the_writer(
    tmp_path: Path, offset: int
) -> None:
    with folder_on_tmpfs(tmp_path, "1m") as directory:
        text = FILE.replace("file:f0.img", f"file:{directory}/f0.img")
        early = os.urandom(MIB // 2)
        with mounted_stack(text, tmp_path) as stack:
            write_at(stack.view("home"), 0, early)
            with pytest.raises(OSError, match="No space left") as caught:
                write_at(stack.view("home"), MIB + offset, os.urandom(MIB))
            assert caught.value.errno == errno.ENOSPC
            assert read_at(stack.view("home"), 0, len(early)) == early
            overwritten = os.urandom(BLOCK)
            write_at(stack.view("home"), 0, overwritten)
            assert read_at(stack.view("home"), 0, BLOCK) == overwritten
        with mounted_stack(text, tmp_path) as stack:
            assert read_at(stack.view("home"), 0, len(early)) == overwritten + early[BLOCK:]

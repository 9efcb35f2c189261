"""Real loop devices over plain files, and FUSE mounts that nobody serves."""

import ctypes
import errno
import os
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

import pytest

from fusedm.block.errors import StackError, UsageError
from fusedm.host import loop, loop_users, mounts
from fusedm.host.loop import LoopDevice
from fusedm.host.loop_control import FileId
from fusedm.host.loop_finding import is_attached
from tests.helpers.tiers import left_behind

pytestmark = pytest.mark.loop

SIZE_BYTES = 64 << 20


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Path]:
    """A sparse file; whatever is attached to it or mounted from it goes in the end."""
    file = tmp_path / "disk.img"
    file.touch()
    os.truncate(file, SIZE_BYTES)
    yield file
    loop.release_all(str(tmp_path), force=True)


@pytest.fixture
def filesystem(image: Path, tmp_path: Path) -> tuple[LoopDevice, Path]:
    """An ext4 filesystem, mounted from a loop device over the image."""
    device = loop.attach(str(image), 4096)
    mount_point = tmp_path / "mnt"
    mount_point.mkdir()
    mounts.run_tool("mkfs.ext4", "-q", device.node)
    mounts.run_tool("mount", device.node, str(mount_point))
    return device, mount_point


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whom nothing shows is waited for no longer than who is seen."""
    monkeypatch.setattr(loop_users, "PASSING_SECONDS", loop.GRACE_SECONDS)


@contextmanager
def sleeper(
    cwd: Path | None = None, pass_fds: Sequence[int] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing until it is killed; it is up when this is entered."""
    code = "import sys; print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=cwd, pass_fds=pass_fds) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("logical_block_size", [512, 4096])
def test_attach_takes_block_size_and_direct_io(image: Path, logical_block_size: int) -> None:
    device = loop.attach(str(image), logical_block_size)
    queue = Path("/sys/block") / Path(device.node).name / "queue/logical_block_size"
    assert int(queue.read_text()) == logical_block_size
    told = (device.backing_file, device.logical_block_size, device.direct_io, device.read_only)
    assert told == (str(image), logical_block_size, True, False)
    assert device.file == FileId.of(str(image))
    assert loop.attached(str(image.parent)) == [device]


def test_attach_has_the_kernel_read_ahead_a_whole_request(image: Path) -> None:
    device = loop.attach(str(image), 512)
    queue = loop.SYS_BLOCK / os.path.basename(device.node) / "queue"
    assert int((queue / "read_ahead_kb").read_text()) << 10 == loop.READAHEAD_BYTES


def test_attach_gives_the_bytes_of_the_file(image: Path) -> None:
    with image.open("r+b") as file:
        file.write(b"x" * 4096)
    device = loop.attach(str(image), 4096)
    assert Path(device.node).read_bytes()[:4097] == b"x" * 4096 + b"\0"


def test_a_read_only_device_refuses_to_be_written(image: Path) -> None:
    device = loop.attach(str(image), 512, read_only=True)
    assert device.read_only
    with pytest.raises(PermissionError):
        Path(device.node).write_bytes(b"x" * 512)


def test_a_file_that_cannot_be_written_is_not_attached_for_writing(
    image: Path, tmp_path: Path
) -> None:
    mount_point = tmp_path / "read_only"
    mount_point.mkdir()
    mounts.run_tool("mount", "-o", "bind,ro", str(tmp_path), str(mount_point))
    try:
        with pytest.raises(StackError, match="read_only is True, False was asked for"):
            loop.attach(str(mount_point / image.name), 512)
        assert loop.attached(str(mount_point)) == []
    finally:
        mounts.unmount(str(mount_point))


def test_a_missing_file_is_not_attached(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="gone: No such file or directory"):
        loop.attach(str(tmp_path / "gone"), 512)


def test_a_logical_block_size_no_kernel_takes_is_refused_with_the_limit(image: Path) -> None:
    with pytest.raises(StackError, match="logical block size of 131072: more than a page of"):
        loop.attach(str(image), 131072)
    assert loop.attached(str(image)) == []


def test_an_odd_logical_block_size_leaves_nothing_attached(image: Path) -> None:
    with pytest.raises(StackError, match="logical block size of 600: Invalid argument"):
        loop.attach(str(image), 600)
    assert loop.attached(str(image)) == []


def test_detach_is_done_when_it_returns_and_may_be_repeated(image: Path) -> None:
    device = loop.attach(str(image), 512)
    loop.detach(device)
    assert not is_attached(device)
    loop.detach(device)


def test_detach_leaves_a_device_that_got_another_file_alone(image: Path, tmp_path: Path) -> None:
    device = loop.attach(str(image), 512)
    loop.detach(LoopDevice(device.node, str(tmp_path / "other"), 512, True, False))
    assert loop.attached(str(image)) == [device]


def test_detach_refuses_a_mounted_device_and_says_where(
    filesystem: tuple[LoopDevice, Path],
) -> None:
    device, mount_point = filesystem
    with pytest.raises(StackError, match=f"^{device.node} is mounted at {mount_point}$") as caught:
        loop.detach(device)
    assert caught.value.errno == errno.EBUSY
    assert loop.loop_device(device.node) == device


def test_detach_refuses_a_device_that_a_process_has_open_and_names_it(image: Path) -> None:
    device = loop.attach(str(image), 512)
    descriptor = os.open(device.node, os.O_RDONLY)
    try:
        with sleeper(pass_fds=[descriptor]) as process:
            with pytest.raises(StackError, match=rf"is held by \S+ \(pid {process.pid}\)"):
                loop.detach(device)
            assert loop.loop_device(device.node) == device
    finally:
        os.close(descriptor)


@pytest.mark.usefixtures("hasty")
def test_a_device_whose_detach_was_refused_stays_when_its_user_has_gone(image: Path) -> None:
    device = loop.attach(str(image), 512)
    # Only the kernel knows of this one: it is our own.
    with FileIO(device.node, "r"), pytest.raises(StackError) as refused:
        loop.detach(device)
    assert refused.value.errno == errno.EBUSY
    assert loop.loop_device(device.node) == device
    flags = Path(f"/sys/block/{os.path.basename(device.node)}/loop/autoclear").read_text()
    assert flags == "0\n"
    loop.detach(device)
    assert not is_attached(device)


def test_an_impatient_refusal_is_told_at_once(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = loop.attach(str(image), 512)
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("it was waited for"))
    with FileIO(device.node, "r"), pytest.raises(StackError):
        loop.detach(device, patience=loop.Patience(0))
    assert loop.loop_device(device.node) == device


@pytest.mark.usefixtures("hasty")
def test_detach_refuses_a_device_that_is_open_exclusively(image: Path) -> None:
    device = loop.attach(str(image), 512)
    descriptor = os.open(device.node, os.O_RDONLY | os.O_EXCL)
    try:
        with pytest.raises(StackError, match="is in use by the kernel"):
            loop.detach(device)
    finally:
        os.close(descriptor)


@pytest.mark.usefixtures("hasty")
def test_a_forced_detach_of_a_held_device_says_that_it_is_not_gone(image: Path) -> None:
    device = loop.attach(str(image), 512)
    descriptor = os.open(device.node, os.O_RDONLY)
    try:
        with pytest.raises(StackError, match="is in use: it goes when that ends"):
            loop.detach(device, force=True)
    finally:
        os.close(descriptor)
    assert not is_attached(device)


def test_release_all_refuses_before_it_touches_anything(
    filesystem: tuple[LoopDevice, Path], image: Path
) -> None:
    device, mount_point = filesystem
    other = image.with_name("other.img")
    other.touch()
    os.truncate(other, SIZE_BYTES)
    free = loop.attach(str(other), 512)
    with pytest.raises(StackError, match=f"{device.node} is mounted at {mount_point}"):
        loop.release_all(str(image.parent))
    assert {d.node for d in loop.attached(str(image.parent))} == {device.node, free.node}


def test_forced_release_unmounts_and_detaches_and_says_so(
    filesystem: tuple[LoopDevice, Path], image: Path
) -> None:
    device, mount_point = filesystem
    assert loop.release_all(str(image.parent), force=True) == [
        f"unmounted {mount_point}",
        f"detached {device.node} from {image}",
    ]
    assert mounts.mount_at(str(mount_point)) is None
    assert loop.attached(str(image.parent)) == []


@pytest.mark.usefixtures("hasty")
def test_forced_release_of_a_busy_filesystem_unmounts_lazily_and_tells_what_stays(
    filesystem: tuple[LoopDevice, Path], image: Path
) -> None:
    device, mount_point = filesystem
    with sleeper(cwd=mount_point), pytest.raises(StackError, match="it goes when that ends"):
        loop.release_all(str(image.parent), force=True)
    assert mounts.mount_at(str(mount_point)) is None


def test_an_unmount_of_a_busy_filesystem_names_the_holder(
    filesystem: tuple[LoopDevice, Path],
) -> None:
    _, mount_point = filesystem
    with (
        sleeper(cwd=mount_point) as process,
        pytest.raises(StackError, match=rf"is busy: held by \S+ \(pid {process.pid}\)"),
    ):
        mounts.unmount(str(mount_point))
    assert mounts.mount_at(str(mount_point)) is not None


def test_an_unmount_with_another_mount_inside_names_that(
    filesystem: tuple[LoopDevice, Path],
) -> None:
    _, mount_point = filesystem
    inside = mount_point / "inside"
    inside.mkdir()
    mounts.run_tool("mount", "-t", "tmpfs", "none", str(inside))
    try:
        with pytest.raises(StackError, match=f"{inside} is mounted inside it"):
            mounts.unmount(str(mount_point))
    finally:
        mounts.unmount(str(inside))


def test_the_leak_check_names_mount_loop_device_and_process(
    filesystem: tuple[LoopDevice, Path], tmp_path: Path
) -> None:
    device, mount_point = filesystem
    with sleeper(cwd=tmp_path) as process:
        left = " ".join(left_behind(str(tmp_path)))
    assert f"mount {mount_point}" in left
    assert f"loop device {device.node} over {tmp_path}" in left
    assert f"process {process.pid} " in left


def test_a_missing_node_is_made_from_the_numbers_in_sysfs(image: Path) -> None:
    device = loop.attach(str(image), 512)
    node = image.with_name("node")
    numbers = f"/sys/block/{Path(device.node).name}/dev"
    loop.make_missing_node(str(node), numbers, stat.S_IFBLK)
    assert os.stat(node).st_rdev == os.stat(device.node).st_rdev


@contextmanager
def fuse_mount(mount_point: Path, uid: int) -> Iterator[FileIO]:
    """A user's FUSE mount that nobody serves, and the daemon's end of it: closing that kills it."""
    mount_point.mkdir()
    with open("/dev/fuse", "r+b", buffering=0) as daemon:
        # Not by mount(8): newer ones look into the mount afterwards, which root may not.
        options = f"fd={daemon.fileno()},rootmode=40000,user_id={uid},group_id={uid}"
        words = b"test", os.fsencode(mount_point), b"fuse.test", 0, options.encode()
        assert ctypes.CDLL(None).mount(*words) == 0
        try:
            yield daemon
        finally:
            if mounts.mount_at(str(mount_point)):
                mounts.unmount(str(mount_point), lazy=True)


@pytest.mark.fuse
def test_a_users_private_mount_is_explained_to_root(tmp_path: Path) -> None:
    home = str(tmp_path / "fuse/views/home")
    with (
        fuse_mount(tmp_path / "fuse", uid=65534),
        pytest.raises(UsageError, match="root cannot see into this mount: .*--allow-root"),
    ):
        loop.attach(home, 4096)


@pytest.mark.fuse
def test_a_living_mount_is_not_stale_and_says_what_it_is(tmp_path: Path) -> None:
    path = str(tmp_path / "fuse")
    with fuse_mount(tmp_path / "fuse", uid=65534):
        assert not mounts.is_stale(path)
        with pytest.raises(StackError, match="is already mounted: fuse.test from test"):
            mounts.check_mount_point(path)


@pytest.mark.fuse
def test_the_stale_mount_of_a_killed_daemon_is_told_and_can_be_unmounted(tmp_path: Path) -> None:
    path = str(tmp_path / "fuse")
    with fuse_mount(tmp_path / "fuse", uid=0) as daemon:
        daemon.close()
        assert mounts.is_stale(path)
        with pytest.raises(StackError, match=f"clear it with: fusedm down {path}$") as caught:
            mounts.check_mount_point(path)
        assert caught.value.errno == errno.ENOTCONN
        mounts.unmount(path)
        mounts.check_mount_point(path)


@pytest.mark.fuse
def test_a_hung_daemon_hangs_neither_the_search_nor_the_unmount(tmp_path: Path) -> None:
    path = str(tmp_path / "fuse")
    with fuse_mount(tmp_path / "fuse", uid=0):
        assert mounts.holders_of(path) == []
        assert loop.attached(path) == []
        mounts.unmount(path)
    assert mounts.mount_at(path) is None


def test_many_who_attach_and_detach_at_once_all_get_a_device() -> None:
    """One that somebody is letting go of is passed over."""
    code = "from fusedm.host import doctor; print({doctor.tier_problem('loop') for _ in range(20)})"
    command = [sys.executable, "-c", code]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    assert {process.communicate(timeout=60)[0] for process in started} == {"{None}\n"}

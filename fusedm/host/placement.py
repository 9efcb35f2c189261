"""Where a store may lie: not on the mount it is part of, nor as a new file among device nodes."""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from fusedm.block.errors import StoreError
from fusedm.host.loop_finding import loop_device
from fusedm.host.mounts import UNKNOWN, Mount, lies_under, parse_mountinfo


def check_not_on(
    path: str | Path,
    mountpoint: str | Path,
    sysfs: Path = Path("/sys"),
    mountinfo: str | None = None,
) -> None:
    """Refuse a store path inside a mount point, or over loop devices whose files are inside it.

    Both paths are looked at, so a thread that serves the mount must not call this.

    Raises: StoreError(ELOOP).
    """
    if mountinfo is None:
        mountinfo = Path("/proc/self/mountinfo").read_text()
    mounts = parse_mountinfo(mountinfo)
    forbidden = Path(os.path.realpath(mountpoint))
    # The same file system may be mounted elsewhere too, as a bind mount.
    served = {
        m.device
        for m in mounts
        if Path(m.mount_point) == forbidden and m.fs_type.startswith("fuse")
    }
    places = [Path(os.path.realpath(path))]
    # The list grows with what is found below; a place that was seen is not looked at again.
    for place in places:
        if place.is_relative_to(forbidden) or _mount_of(place, mounts).device in served:
            through = "" if place is places[0] else f" through a loop device over {place}"
            text = f"{path}: lies inside the mount point {mountpoint}{through}"
            raise StoreError(text, errno.ELOOP)
        for node, file in _loops_below(sysfs / "dev/block" / _device(place, mounts)):
            below = Path(os.path.realpath(file))
            if below not in places and not _is_elsewhere(node, below, mounts):
                places.append(below)


def check_creatable(path: str | Path, mountinfo: str | None = None) -> None:
    """Refuse a path where nothing is yet, if that is a folder of device nodes.

    A file there would be taken for the device that is missing, and would fill memory.
    Raises: StoreError(ENOENT).
    """
    if os.path.exists(path):
        return
    if mountinfo is None:
        mountinfo = Path("/proc/self/mountinfo").read_text()
    folder = Path(os.path.realpath(Path(path).parent))
    mount = _mount_of(folder, parse_mountinfo(mountinfo))
    # What is mounted below /dev, as /dev/shm is, may be for files.
    among_nodes = folder.is_relative_to("/dev") and not folder.is_relative_to("/dev/shm")
    if mount.fs_type == "devtmpfs" or (
        among_nodes and Path("/dev").is_relative_to(mount.mount_point)
    ):
        text = f"{path}: is not there, and no file is made among the nodes of devices"
        raise StoreError(text, errno.ENOENT)


def _device(place: Path, mounts: list[Mount]) -> str:
    """major:minor of a block device, or of the device that the file's file system is on."""
    own = _block_device_number(place)
    if own is not None:
        return own
    mount = _mount_of(place, mounts)
    return _block_device_number(Path(mount.source)) or mount.device


def _mount_of(place: Path, mounts: list[Mount]) -> Mount:
    """The mount a file is seen through: the innermost, and of those at one place the topmost.

    All that are asked about lie above one place, so the inner of two has the greater path.
    """
    found, path = UNKNOWN, str(place)
    for mount in mounts:
        if lies_under(path, mount.mount_point) and mount.mount_point >= found.mount_point:
            found = mount
    return found


def _block_device_number(path: Path) -> str | None:
    """major:minor of a block device node, by number since the name may be any."""
    try:
        info = path.stat()
    except OSError:
        return None
    if not stat.S_ISBLK(info.st_mode):
        return None
    return f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}"


def _is_elsewhere(node: str, below: Path, mounts: list[Mount]) -> bool:
    """Whether the name of a loop device's file leads to a FUSE mount here that does not have it.

    Then it has that name in another mount namespace, as there are in containers.
    """
    mount = _mount_of(below, mounts)
    device = loop_device(node) if mount.fs_type.startswith("fuse") else None
    if device is None or device.file is None:
        return False
    number = f"{os.major(device.file.device)}:{os.minor(device.file.device)}"
    return number != mount.device


def _loops_below(device: Path) -> Iterator[tuple[str, str]]:
    """The loop devices at or below a device and their files, found in its sysfs directory."""
    device = device.resolve()
    if (device / "partition").exists():
        device = device.parent
    backing_file = device / "loop/backing_file"
    if backing_file.exists():
        # A deleted file's path ends in " (deleted)" and still says where it lies.
        yield f"/dev/{device.name}", backing_file.read_text().rstrip("\n")
    if (device / "slaves").is_dir():
        for slave in (device / "slaves").iterdir():
            yield from _loops_below(slave)

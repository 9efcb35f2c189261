"""The kernel's mount table, who holds what, and unmounting.

Nothing here stats a path below a FUSE mount that it does not know to be sound: the daemon behind it
may be dead (ENOTCONN) or hung, and then the stat would never return.
"""

import errno
import os
import re
import shlex
import stat
import subprocess
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from fusedm.block.errors import FusedmError, StackError, UsageError
from fusedm.host.interrupts import held

#: Where a plain user's PATH (or that of `su` without a dash) does not look for losetup and mkfs.
SYSTEM_DIRS = ("/usr/local/sbin", "/usr/sbin", "/sbin")

#: How many holders an error names before it only counts.
MAX_HOLDERS_NAMED = 3
#: How the types of file systems begin of which a single answer may take for ever.
REMOTE_FS_TYPES = ("fuse", "nfs", "cifs", "smb", "9p", "ceph", "virtiofs")
#: Unmounting writes back what is dirty; longer than this it waits for something that hangs.
UNMOUNT_SECONDS = 20.0

_OCTAL_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo; device is "major:minor", options are the mount's and the filesystem's.

    Source: proc_pid_mountinfo(5).
    """

    mount_id: int
    device: str
    root: str
    mount_point: str
    fs_type: str
    source: str
    options: str

    def is_of(self, node: str, device: str) -> bool:
        """Whether it shows the block device; btrfs has a number of its own: its source tells.

        That may be another node of the same device, as one below /dev/mapper.
        """
        if self.device == device or self.source == node:
            return True
        return self.fs_type == "btrfs" and device_of_node(self.source) == device


#: What a path is seen through where the table does not say: a root that is no mount point.
UNKNOWN = Mount(0, "0:0", "/", "/", "", "", "")


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that keeps something busy; what is the links that do: "cwd, fd 3"."""

    pid: int
    command: str
    what: str


def parse_mountinfo(text: str) -> list[Mount]:
    """The mounts of a mountinfo file, in its order: a later one may lie upon an earlier one."""
    return [_parse_line(line) for line in text.split("\n") if line]


def read_mounts() -> list[Mount]:
    """The mounts this process sees now."""
    return parse_mountinfo(os.fsdecode(Path("/proc/self/mountinfo").read_bytes()))


def mount_at(path: str) -> Mount | None:
    """The mount on top at this very path, if it is a mount point."""
    point = resolve(path)
    return next((mount for mount in reversed(read_mounts()) if mount.mount_point == point), None)


def mount_over(path: str, table: list[Mount] | None = None) -> Mount:
    """The mount that shows a path, by the names alone: the innermost, and the topmost of those.

    Below a root that is no mount point, as after chroot, it may be unknown.
    """
    mounts = read_mounts() if table is None else table
    above = [mount for mount in reversed(mounts) if lies_under(path, mount.mount_point)]
    return max(above, key=lambda mount: len(mount.mount_point), default=UNKNOWN)


def is_remote(mount: Mount) -> bool:
    """Whether its file system is served by somebody who may hang."""
    return mount.fs_type.startswith(REMOTE_FS_TYPES)


def mounts_of_source(source: str) -> list[Mount]:
    """Every mount of a block device given by its node (/dev/loop0) or its number (7:0)."""
    try:
        if source.startswith("/"):
            number = os.stat(source).st_rdev
            node, device = source, f"{os.major(number)}:{os.minor(number)}"
        else:
            node, device = (
                "/dev/" + os.path.basename(os.readlink(f"/sys/dev/block/{source}")),
                source,
            )
    except OSError:
        node = device = source
    return [mount for mount in read_mounts() if mount.is_of(node, device)]


def mounted_devices() -> set[str]:
    """The numbers of all block devices that are mounted here."""
    table = read_mounts()
    # These have numbers of their own, and say by which node they were mounted.
    told = {m.source for m in table if m.fs_type in ("btrfs", "fuseblk")}
    return {m.device for m in table} | {device_of_node(source) or "" for source in told}


def device_of_node(node: str) -> str | None:
    """The number of a block device's node ("7:0"), by whatever name; None for anything else."""
    try:
        info = os.stat(node)
    except OSError:
        return None
    if not stat.S_ISBLK(info.st_mode):
        return None
    return f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}"


def resolve(path: str) -> str:
    """The path as mountinfo has it, symlinks followed, without asking what is mounted there."""
    points = {mount.mount_point for mount in read_mounts()}
    absolute = os.path.abspath(path)
    parent, name = os.path.split(absolute)
    for candidate in (absolute, os.path.join(os.path.realpath(parent), name)):
        if candidate in points:
            return candidate
    return os.path.realpath(path)


def lies_under(path: str, prefix: str) -> bool:
    """Whether a path is the prefix or below it; by the names alone."""
    return path == prefix or path.startswith(prefix.rstrip("/") + "/")


def is_stale(mount_point: str) -> bool:
    """Whether the daemon of a FUSE mount is gone while the mount is still there."""
    try:
        os.stat(mount_point)
    except OSError as error:
        # The second is what those get who have asked before it was gone.
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def check_mount_point(path: str) -> None:
    """Refuse what a stack cannot be mounted on.

    Raises: StackError for what is not an empty directory, or where something is mounted already.
    """
    mount = mount_at(path)
    if mount is not None:
        if mount.fs_type.startswith("fuse") and is_stale(mount.mount_point):
            raise StackError(
                f"{path} is the stale mount of a killed daemon: "
                f"clear it with: fusedm down {shlex.quote(path)}",
                errno.ENOTCONN,
            )
        raise StackError(
            f"{path} is already mounted: {mount.fs_type} from {mount.source}", errno.EBUSY
        )
    try:
        count = len(os.listdir(path))
    except OSError as error:
        raise StackError(f"mount point {path}: {error.strerror}", error.errno) from None
    if count:
        raise StackError(
            f"mount point {path} is not empty: {count} entries, must have 0", errno.ENOTEMPTY
        )


def unmount(path: str, lazy: bool = False) -> None:
    """Unmount what is on top at path; lazy takes it out of sight and leaves the rest to its users.

    Who is not root may unmount FUSE mounts of his own.
    Raises: StackError, with EBUSY and who holds it if it is busy.
    """
    if mount_at(path) is None:
        raise StackError(f"nothing is mounted at {path}")
    point = resolve(path)
    try:
        if os.geteuid() == 0:
            # Making the path canonical would stat it, and a hung daemon would hang us.
            options = ["--no-canonicalize", *(["--lazy"] if lazy else [])]
            run_tool("umount", *options, "--", point, seconds=UNMOUNT_SECONDS)
        else:
            _unmount_as_user(point, lazy)
    except StackError as error:
        if error.errno != errno.EBUSY:
            raise
        raise StackError(f"{path} is busy: {_why_busy(point)}", errno.EBUSY) from None


def _unmount_as_user(point: str, lazy: bool) -> None:
    """Have fusermount3 unmount it, or umount, which needs no /etc/mtab to know whose it is."""
    options = ["-z"] if lazy else []
    try:
        run_tool("fusermount3", "-u", *options, "--", point, seconds=UNMOUNT_SECONDS)
        return
    except FusedmError as error:
        first = error
    try:
        options = ["-l"] if lazy else []
        run_tool("umount", *options, "--", point, seconds=UNMOUNT_SECONDS)
    except FusedmError as second:
        if errno.EBUSY in (first.errno, second.errno):
            raise StackError(str(second), errno.EBUSY) from None
        by_root = f"umount {shlex.quote(point)}"
        text = f"{point} cannot be unmounted: {first}; {second}; have root run: {by_root}"
        raise StackError(text, errno.EPERM) from None


def holders_of(path: str, proc: Path = Path("/proc")) -> list[Holder]:
    """The other processes with something open at path or below it, as far as we may look.

    maps is not read: it waits for a process that is stuck in a page fault, as below a hung mount.
    """
    found = []
    for pid in _pids(proc):
        process = proc / str(pid)
        links = [name for name, target in _links(process) if lies_under(target, path)]
        if links:
            words = ", ".join(name.replace("/", " ") for name in links)
            found.append(Holder(pid, _command(process), words))
    return found


def holders_of_device(device: str, proc: Path = Path("/proc")) -> list[Holder]:
    """The other processes that have a block device ("7:0") open, by whatever node."""
    return holders_of_devices([device], proc)[device]


def holders_of_devices(
    devices: Collection[str], proc: Path = Path("/proc")
) -> dict[str, list[Holder]]:
    """The same for many, in one pass over all processes.

    A link is only followed where it cannot lead to a daemon that hangs.
    """
    remote = [m.mount_point for m in read_mounts() if m.fs_type.startswith(REMOTE_FS_TYPES)]
    under = tuple(f"{point.rstrip('/')}/" for point in remote)
    found: dict[str, list[Holder]] = {device: [] for device in devices}
    for pid in _pids(proc):
        process = f"{proc}/{pid}"
        words: dict[str, list[str]] = {}
        for number, target in _descriptors(process):
            if target[:1] == "/" and not target.startswith(under) and target not in remote:
                device = device_of_node(f"{process}/fd/{number}")
                if device in found:
                    words.setdefault(device, []).append(f"fd {number}")
        for device, links in words.items():
            found[device].append(Holder(pid, _command(Path(process)), ", ".join(links)))
    return found


def describe(holders: Iterable[Holder]) -> str:
    """Holders in words: "fio (pid 12), bash (pid 34) and 2 more"."""
    words = [f"{holder.command} (pid {holder.pid})" for holder in holders]
    more = len(words) - MAX_HOLDERS_NAMED
    return ", ".join(words[:MAX_HOLDERS_NAMED]) + (f" and {more} more" if more > 0 else "")


def tool_path(environ: Mapping[str, str]) -> str:
    """The PATH to look for outside tools in: the user's, then the system's own."""
    return os.pathsep.join((environ.get("PATH", os.defpath), *SYSTEM_DIRS))


def run_tool(
    *command: str, seconds: float | None = None, begin: Callable[[], None] | None = None
) -> str:
    """What an outside tool prints; it is left to itself if it takes longer than seconds.

    begin is called in the child before it becomes the tool: only where there is one thread. Until
    then the signals that ask to end are held, since Python loses an interrupt while it forks.
    Raises: UsageError if it is not installed; StackError with the last line it said, EBUSY if that
            speaks of busy or if it took too long, else EIO.
    """
    environ = {**os.environ, "LC_ALL": "C", "PATH": tool_path(os.environ)}
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    tool = None
    try:
        with nullcontext() if begin is None else held():
            tool = subprocess.Popen(
                command, stdin=nothing, stdout=pipe, stderr=pipe, env=environ, preexec_fn=begin
            )
        out, err = tool.communicate(timeout=seconds)
    except FileNotFoundError:
        raise UsageError(f"{command[0]} is not installed", errno.ENOENT) from None
    except subprocess.TimeoutExpired:
        # It may be beyond signals, as umount is while a device hangs: it is not waited for.
        if tool is not None:
            tool.kill()
        raise StackError(f"{command[0]} has not ended in {seconds:g} s", errno.EBUSY) from None
    except BaseException:
        if tool is not None:
            tool.kill()
            tool.wait()
        raise
    if tool.returncode:
        said = os.fsdecode(err).strip().splitlines() or [f"exit code {tool.returncode}"]
        text = said[-1] if said[-1].startswith(command[0]) else f"{command[0]}: {said[-1]}"
        raise StackError(text, errno.EBUSY if "busy" in text else errno.EIO)
    return os.fsdecode(out)


def _parse_line(line: str) -> Mount:
    # Optional fields stand between the sixth and a lone dash.
    words = line.split(" ")
    dash = words.index("-", 6)
    fs_type, source, super_options = (_unescape(word) for word in words[dash + 1 : dash + 4])
    return Mount(
        mount_id=int(words[0]),
        device=words[2],
        root=_unescape(words[3]),
        mount_point=_unescape(words[4]),
        fs_type=fs_type,
        source=source,
        options=f"{words[5]},{super_options}",
    )


def _unescape(word: str) -> str:
    return _OCTAL_ESCAPE.sub(lambda match: chr(int(match[1], 8)), word)


def _why_busy(point: str) -> str:
    for mount in read_mounts():
        if mount.mount_point != point and lies_under(mount.mount_point, point):
            return f"{mount.mount_point} is mounted inside it"
    holders = holders_of(point)
    if holders:
        return f"held by {describe(holders)}"
    return "held by something that /proc does not show us, such as a loop device"


def _pids(proc: Path) -> list[int]:
    pids = sorted(int(name) for name in os.listdir(proc) if name.isdigit())
    return [pid for pid in pids if pid != os.getpid()]


def _links(process: Path) -> Iterator[tuple[str, str]]:
    """What a process has open: the names of the links that say so, and where they lead."""
    for name in ("cwd", "root", "exe"):
        yield name, _target(f"{process}/{name}")
    for number, target in _descriptors(str(process)):
        yield f"fd/{number}", target


def _descriptors(process: str) -> Iterator[tuple[int, str]]:
    """The descriptors of a process, and where they lead."""
    try:
        numbers = sorted(map(int, os.listdir(f"{process}/fd")))
    except OSError:
        return
    for number in numbers:
        yield number, _target(f"{process}/fd/{number}")


def _target(link: str) -> str:
    # Processes end and files are closed while we look, and others' links may be out of reach.
    try:
        return os.readlink(link)
    except OSError:
        return ""


def _command(process: Path) -> str:
    try:
        return os.fsdecode((process / "comm").read_bytes()).strip()
    except OSError:
        return "?"

"""Mounting FUSE ourselves: a descriptor of /dev/fuse that is mounted, and undoing it.

Root asks the kernel; everybody else asks fusermount3, which passes the descriptor back.
"""

import array
import ctypes
import errno
import os
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from fusedm.block.errors import StackError, UsageError

_MS_NOSUID = 2
_MS_NODEV = 4
_MNT_DETACH = 2
_ROOT_MODE = "40000"

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class MountOptions:
    """Who but its owner may look into the mount, and whether requests take the lane."""

    allow_other: bool = False
    allow_root: bool = False
    lane: bool = True

    def kernel_options(self) -> set[str]:
        """What the kernel or fusermount3 is told; only libfuse knows allow_root."""
        others = {"allow_other"} if self.allow_other or self.allow_root else set()
        return {"default_permissions"} | others

    def libfuse_options(self) -> set[str]:
        """What libfuse is told of a mount that is not its own."""
        return {"allow_root"} if self.allow_root and not self.allow_other else set()


def mount(mount_point: Path, options: MountOptions) -> int:
    """Mount FUSE and return the descriptor requests come from.

    Raises: UsageError or StackError if it cannot be mounted.
    """
    if os.geteuid() == 0:
        return _mount_as_root(mount_point, options)
    return mount_through_helper(mount_point, options)


def unmount(mount_point: Path) -> None:
    """Undo mount, lazily; nothing happens if somebody else has undone it, or if that cannot be.

    The mount is not looked at: whoever calls this may be who answers.
    """
    if os.geteuid() == 0:
        _libc.umount2(os.fsencode(mount_point), _MNT_DETACH)
        return
    subprocess.run(
        ["fusermount3", "-u", "-q", "-z", "--", os.fspath(mount_point)],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )


def mount_through_helper(mount_point: Path, options: MountOptions) -> int:
    """Mount as any user may, through fusermount3.

    Source: the _FUSE_COMMFD protocol of fusermount3.
    Raises: UsageError if it is not installed, StackError with what it says.
    """
    told = {"fsname=fusedm", "subtype=fusedm", *options.kernel_options()}
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        try:
            done = subprocess.run(
                ["fusermount3", "-o", ",".join(sorted(told)), "--", os.fspath(mount_point)],
                env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
        except FileNotFoundError:
            raise UsageError("fusermount3 is not installed: apt-get install fuse3") from None
        if done.returncode:
            said = os.fsdecode(done.stderr).strip().splitlines() or ["fusermount3 failed"]
            raise StackError(f"{mount_point}: cannot be mounted: {said[-1]}", errno.EPERM)
        # So that a helper which has sent nothing is not waited for.
        theirs.close()
        device = _receive_descriptor(ours)
    if device is None:
        raise StackError(f"{mount_point}: cannot be mounted: fusermount3 gave no descriptor")
    return device


def _mount_as_root(mount_point: Path, options: MountOptions) -> int:
    try:
        device = os.open("/dev/fuse", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"/dev/fuse: {error.strerror}; see `fusedm doctor`") from None
    told = [
        f"fd={device}",
        f"rootmode={_ROOT_MODE}",
        f"user_id={os.getuid()}",
        f"group_id={os.getgid()}",
        *sorted(options.kernel_options()),
    ]
    flags = _MS_NOSUID | _MS_NODEV
    where = os.fsencode(mount_point)
    if _libc.mount(b"fusedm", where, b"fuse.fusedm", flags, ",".join(told).encode()):
        number = ctypes.get_errno()
        os.close(device)
        hint = "; see `fusedm doctor`" if number in (errno.EPERM, errno.EACCES) else ""
        text = f"{mount_point}: cannot be mounted: {os.strerror(number)}{hint}"
        raise StackError(text, number)
    return device


def _receive_descriptor(channel: socket.socket) -> int | None:
    _, ancillary, _, _ = channel.recvmsg(1, socket.CMSG_SPACE(4))
    descriptors = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[:4])
    if not descriptors:
        return None
    os.set_blocking(descriptors[0], False)
    os.set_inheritable(descriptors[0], False)
    return descriptors[0]

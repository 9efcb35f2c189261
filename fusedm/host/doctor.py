"""The doctor: what this machine lacks for FUSE, for loop devices and for use without root.

Each check looks at one thing and gives a Finding with one line that repairs it. Where looking is
not enough it tries what the verbs do: mounts FUSE, attaches a loop device. The same checks say why
a tier of tests cannot run, so that the tests and `fusedm doctor` never disagree.
"""

import ctypes
import errno
import fcntl
import os
import re
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path

from fusedm.block.errors import FusedmError
from fusedm.host import kernel_mount, mounts
from fusedm.host.loop_control import READ_ONLY, clear, configured
from fusedm.host.mounts import parse_mountinfo, tool_path
from fusedm.host.run_folder import candidates, choose

#: The first kernel whose loop devices are set up in one step (LOOP_CONFIGURE).
OLDEST_KERNEL = (5, 8)

#: Bit numbers of include/uapi/linux/capability.h.
CAP_SYS_ADMIN = 21
CAP_SYS_RESOURCE = 24

LIBRBD_NAME = "librbd.so.1"
LIBFUSE_NAMES = ("libfuse3.so.4", "libfuse3.so.3")


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine that is examined: a root directory, a user and an environment."""

    root: Path = Path("/")
    uid: int = field(default_factory=os.geteuid)
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @property
    def is_here(self) -> bool:
        """Whether it is the machine this runs on, where things can be tried."""
        return self.root == Path("/") and self.uid == os.geteuid()

    def path(self, name: str) -> Path:
        """A path of the machine."""
        return self.root / name.lstrip("/")

    def text(self, name: str) -> str:
        """What a file of the machine holds; nothing if it cannot be read."""
        try:
            return os.fsdecode(self.path(name).read_bytes())
        except OSError:
            return ""

    def which(self, program: str) -> str | None:
        """Where a program is found."""
        directories = tool_path(self.environ).split(os.pathsep)
        return shutil.which(program, path=os.pathsep.join(str(self.path(d)) for d in directories))

    def may(self, capability: int) -> bool:
        """Whether the process has an effective capability."""
        match = re.search(r"^CapEff:\s*([0-9a-f]+)", self.text("/proc/self/status"), re.MULTILINE)
        return match is not None and bool(int(match[1], 16) >> capability & 1)

    def open_error(self, name: str) -> OSError | None:
        """Why a file cannot be opened for reading and writing; None if it can."""
        try:
            os.close(os.open(self.path(name), os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            return error
        return None


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at; fix is the line that repairs it; what is not needed is only better."""

    name: str
    ok: bool
    text: str
    fix: str
    needed: bool = True


Check = Callable[[Machine], Finding]


def examine(machine: Machine | None = None) -> list[Finding]:
    """Everything the doctor looks at, in the order to repair it in."""
    machine = machine or Machine()
    return [check(machine) for check in CHECKS]


def tier_problem(tier: str, machine: Machine | None = None) -> str | None:
    """Why the tests of a tier, "fuse" or "loop", cannot run here; None if they can."""
    machine = machine or Machine()
    findings = (check(machine) for check in TIERS[tier])
    return next((found.text for found in findings if found.needed and not found.ok), None)


def kernel(machine: Machine) -> Finding:
    """The kernel's version."""
    release = machine.text("/proc/sys/kernel/osrelease").strip()
    match = re.match(r"(\d+)\.(\d+)", release)
    ok = match is not None and (int(match[1]), int(match[2])) >= OLDEST_KERNEL
    oldest = ".".join(map(str, OLDEST_KERNEL))
    text = f"Linux {release or 'of unknown version'}" + ("" if ok else f", {oldest} is needed")
    return Finding("kernel", ok, text, f"boot Linux {oldest} or later")


def fuse_device(machine: Machine) -> Finding:
    """Whether /dev/fuse can be opened."""
    error = machine.open_error("/dev/fuse")
    fix = "modprobe fuse; in a container: --device /dev/fuse"
    if error is None:
        return Finding("/dev/fuse", True, "/dev/fuse opens", fix)
    if error.errno == errno.EACCES:
        fix = "chmod 666 /dev/fuse"
    return Finding("/dev/fuse", False, f"/dev/fuse: {error.strerror}", fix)


def mount_permission(machine: Machine) -> Finding:
    """Whether we may mount and unmount: root by itself, others through setuid programs."""
    found = _mount_by_root(machine) if machine.uid == 0 else _mount_by_user(machine)
    if found.ok and machine.is_here and machine.open_error("/dev/fuse") is None:
        problem = _tried(_mount_fuse)
        if problem is not None:
            fix = "in a container: --cap-add SYS_ADMIN --security-opt apparmor=unconfined"
            return Finding("mount", False, problem, fix)
    return found


def _mount_by_root(machine: Machine) -> Finding:
    ok = machine.may(CAP_SYS_ADMIN)
    text = "root may mount" if ok else "root may not mount: CAP_SYS_ADMIN is missing"
    return Finding("mount", ok, text, "in a container: --cap-add SYS_ADMIN")


def _mount_by_user(machine: Machine) -> Finding:
    fix = "apt-get install fuse3"
    found = machine.which("fusermount3")
    if found is None:
        return Finding("mount", False, "fusermount3 is not installed", fix)
    if not _is_setuid(found):
        return Finding("mount", False, f"{found} is not setuid root", f"chmod u+s {found}")
    umount = machine.which("umount")
    if not machine.path("/etc/mtab").exists() and not (umount and _is_setuid(umount)):
        text = "users may mount but not unmount: there is no /etc/mtab, and no umount setuid root"
        return Finding("mount", False, text, "ln -s /proc/self/mounts /etc/mtab")
    return Finding("mount", True, f"{found} mounts for users", fix)


def _is_setuid(program: str) -> bool:
    return bool(os.stat(program).st_mode & stat.S_ISUID)


def _mount_fuse(folder: Path) -> None:
    """Mount FUSE on a folder, with nobody to answer, and unmount it."""
    device = kernel_mount.mount(folder, kernel_mount.MountOptions())
    os.close(device)
    mounts.unmount(str(folder), lazy=True)


def _attach_loop(folder: Path) -> None:
    """Attach a loop device to a new file in a folder, and detach it."""
    file = folder / "image"
    file.write_bytes(bytes(4096))
    try:
        with (
            file.open("rb") as opened,
            configured(str(file), opened.fileno(), 512, READ_ONLY) as (_, descriptor),
        ):
            clear(descriptor)
    finally:
        file.unlink()


def _tried(what: Callable[[Path], None]) -> str | None:
    """What went wrong when something was tried on a new folder; None if nothing did."""
    try:
        folder = tempfile.mkdtemp(prefix="doctor-", dir=choose_run_folder(Machine()))
        try:
            what(Path(folder))
        finally:
            with suppress(OSError):
                os.rmdir(folder)
    except FusedmError as error:
        return str(error)
    except OSError as error:
        return f"{error.filename or what.__name__}: {error.strerror}"
    return None


def choose_run_folder(machine: Machine) -> Path:
    """The folder for sockets and locks, as every verb chooses it.

    Raises: UsageError.
    """
    return choose(os.geteuid(), map(machine.path, candidates(machine.uid, machine.environ)))


def pyfuse3(machine: Machine) -> Finding:
    """pyfuse3 and the libfuse that it finds."""
    fix = "apt-get install libfuse3-dev pkg-config gcc python3-dev && pip install pyfuse3"
    try:
        version = metadata.version("pyfuse3")
    except metadata.PackageNotFoundError:
        return Finding("pyfuse3", False, "pyfuse3 is not installed", fix)
    libfuse = _libfuse_version()
    if libfuse is None:
        return Finding("pyfuse3", False, "libfuse 3 cannot be loaded", "apt-get install fuse3")
    return Finding("pyfuse3", True, f"pyfuse3 {version}, libfuse {libfuse}", fix)


def user_allow_other(machine: Machine) -> Finding:
    """Whether users may open their mounts to others, and so to root's loop devices."""
    lines = [line.strip() for line in machine.text("/etc/fuse.conf").splitlines()]
    ok = "user_allow_other" in lines
    text = (
        "users may give --allow-other and --allow-root"
        if ok
        else "users may not give --allow-other or --allow-root: root's loop devices cannot use "
        "their mounts"
    )
    fix = "echo user_allow_other >> /etc/fuse.conf"
    return Finding("user_allow_other", ok, text, fix, needed=False)


def fusectl(machine: Machine) -> Finding:
    """Whether the connections' settings, as max_background, can be reached."""
    mounts = parse_mountinfo(machine.text("/proc/self/mountinfo"))
    ok = any(mount.fs_type == "fusectl" for mount in mounts)
    text = f"/sys/fs/fuse/connections is {'' if ok else 'not '}mounted"
    fix = "mount -t fusectl none /sys/fs/fuse/connections"
    return Finding("fusectl", ok, text, fix, needed=False)


def run_folder(machine: Machine) -> Finding:
    """Where sockets, locks and logs go: a lock and a socket are tried there."""
    fix = "mkdir -m 700 DIR && export XDG_RUNTIME_DIR=DIR"
    try:
        folder = choose_run_folder(machine)
        path = folder / f"doctor-{os.getpid()}.sock"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            try:
                listener.bind(os.fspath(path))
                with path.with_suffix(".lock").open("w") as file:
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            finally:
                path.unlink(missing_ok=True)
                path.with_suffix(".lock").unlink(missing_ok=True)
    except FusedmError as error:
        return Finding("run folder", False, str(error), fix)
    except OSError as error:
        return Finding("run folder", False, f"{folder}: {error.strerror}", fix)
    return Finding("run folder", True, f"sockets and locks are in {folder}", fix)


def io_flusher(machine: Machine) -> Finding:
    """Whether the daemon may mark itself as one that memory reclaim must not wait for."""
    ok = machine.may(CAP_SYS_RESOURCE)
    text = f"PR_SET_IO_FLUSHER is {'' if ok else 'not '}permitted (CAP_SYS_RESOURCE)"
    fix = "run as root; in a container: --cap-add SYS_RESOURCE"
    return Finding("io flusher", ok, text, fix, needed=False)


def librbd(_: Machine) -> Finding:
    """Whether images of Ceph RBD can be stores."""
    fix = "apt-get install librbd1"
    numbers = [ctypes.c_int() for _ in range(3)]
    try:
        ctypes.CDLL(LIBRBD_NAME).rbd_version(*map(ctypes.byref, numbers))
    except (OSError, AttributeError):
        text = f"{LIBRBD_NAME} cannot be loaded: there are no stores rbd:POOL/IMAGE"
        return Finding("librbd", False, text, fix, needed=False)
    version = ".".join(str(number.value) for number in numbers)
    return Finding("librbd", True, f"librbd {version}: stores rbd:POOL/IMAGE", fix, needed=False)


def root(machine: Machine) -> Finding:
    """Whether we are root, as loop devices need."""
    if machine.uid != 0:
        text = f"loop devices need root, this is uid {machine.uid}"
        return Finding("root", False, text, "run it with sudo")
    return replace(_mount_by_root(machine), name="root")


def loop_control(machine: Machine) -> Finding:
    """Whether loop devices can be had, and how many are free."""
    error = machine.open_error("/dev/loop-control")
    if error is not None:
        fix = "modprobe loop; in a container: --device /dev/loop-control"
        if error.errno == errno.EACCES:
            fix = "run it with sudo"
        return Finding("loop devices", False, f"/dev/loop-control: {error.strerror}", fix)
    devices = sorted(machine.path("/sys/block").glob("loop*"))
    free = [device for device in devices if not (device / "loop/backing_file").exists()]
    without_node = [d for d in free if not machine.path(f"/dev/{d.name}").exists()]
    text = f"/dev/loop-control opens, {len(free)} of {len(devices)} devices are free"
    if without_node:
        text += f", {len(without_node)} of them lack a node, which attach makes"
    if machine.is_here and machine.uid == 0 and machine.which("losetup"):
        problem = _tried(_attach_loop)
        if problem is not None:
            fix = "in a container: --privileged, or --device-cgroup-rule 'b 7:* rmw'"
            return Finding("loop devices", False, problem, fix)
    return Finding("loop devices", True, text, "")


def program(name: str, package: str, needed: bool = True) -> Check:
    """The check for an outside program."""

    def check(machine: Machine) -> Finding:
        found = machine.which(name)
        text = found or f"{name} is not installed"
        return Finding(name, found is not None, text, f"apt-get install {package}", needed)

    return check


def _libfuse_version() -> str | None:
    for name in LIBFUSE_NAMES:
        try:
            version = ctypes.CDLL(name).fuse_pkgversion
        except (OSError, AttributeError):
            continue
        version.restype = ctypes.c_char_p
        return str(version().decode())
    return None


TIERS: Mapping[str, tuple[Check, ...]] = {
    "fuse": (fuse_device, mount_permission, pyfuse3),
    "loop": (root, loop_control, program("losetup", "mount"), program("mkfs.ext4", "e2fsprogs")),
}

CHECKS: tuple[Check, ...] = (
    kernel,
    *TIERS["fuse"],
    user_allow_other,
    fusectl,
    run_folder,
    io_flusher,
    *TIERS["loop"],
    program("mkfs.xfs", "xfsprogs", needed=False),
    program("fio", "fio", needed=False),
    librbd,
)

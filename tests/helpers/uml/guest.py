"""The first process of the guest: carries out the experiments of plan.json, writes results.json.

The guest's kernel starts it with the machine's own files below / for reading only, so it uses the
standard library and guest_dm beside it, and nothing else of the project. Its argument is the only
folder that it can write to. However it ends, the guest goes off.
"""

import base64
import ctypes
import errno
import json
import mmap
import os
import shutil
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable
from fcntl import ioctl
from pathlib import Path
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from guest_data import content, noise, sums
from guest_dm import DeviceMapper

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
MODULES = Path("/usr/lib/uml/modules")

#: Numbers of asm/unistd_64.h, linux/loop.h, linux/fs.h and linux/reboot.h.
FINIT_MODULE = 313
LOOP_CONFIGURE = 0x4C0A
LOOP_CLR_FD = 0x4C01
BLKDISCARD = 0x1277
BLKZEROOUT = 0x127F
POWER_OFF = 0x4321FEDC

#: How long a thread of the kernel's may take to do what it was woken for.
WAIT_SECONDS = 20.0

libc = ctypes.CDLL(None, use_errno=True)

Answer = dict[str, Any]


def check(result: int, what: str) -> None:
    """Raise what libc says about a call that failed."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(kind: str, target: str, data: str = "") -> None:
    """Mount a file system that needs no device."""
    words = (b"none", target.encode(), kind.encode(), 0, data.encode())
    check(libc.mount(*words), f"mount {kind} on {target}")


class Modules:
    """The kernel's modules, loaded with what they need, as modprobe does; it may not be here."""

    def __init__(self) -> None:
        self.folder = MODULES / os.uname().release
        self.needs: dict[str, list[str]] = {}
        for line in (self.folder / "modules.dep").read_text().splitlines():
            path, _, others = line.partition(":")
            self.needs[path] = others.split()

    def load(self, name: str, parameters: str = "") -> None:
        """Load a module by its name; it may be there already."""
        known = {Path(path).stem.replace("-", "_"): path for path in self.needs}
        path = known[name.replace("-", "_")]
        for other in self.needs[path]:
            self.load(Path(other).stem)
        with open(self.folder / path, "rb") as file:
            if libc.syscall(FINIT_MODULE, file.fileno(), parameters.encode(), 0) < 0:
                number = ctypes.get_errno()
                if number != errno.EEXIST:
                    raise OSError(number, f"module {path}")


class Disks:
    """The disks of an experiment: loop devices over files in the guest's memory, /dev/NAME."""

    def __init__(self, wanted: dict[str, Any]) -> None:
        self.numbers: dict[str, str] = {}
        os.makedirs("/run/disks", exist_ok=True)
        for index, (name, disk) in enumerate(wanted.items()):
            path = f"/run/disks/{name}"
            with open(path, "wb") as file:
                file.write(content(**disk))
                file.truncate(disk["sectors"] * 512)
            # struct loop_config: descriptor, block size, an empty loop_info64, reserved.
            with open(path, "r+b") as file, open(f"/dev/loop{index}", "r+b", 0) as loop:
                config = struct.pack("II232x64x", file.fileno(), disk["block_size"])
                ioctl(loop, LOOP_CONFIGURE, config)
            os.symlink(f"loop{index}", f"/dev/{name}")
            self.numbers[name] = f"7:{index}"

    def contents(self) -> dict[str, list[int]]:
        """What the disks hold."""
        return {name: sums(Path(f"/run/disks/{name}").read_bytes()) for name in self.numbers}

    def close(self) -> None:
        """Give the loop devices back."""
        for index, name in enumerate(self.numbers):
            with open(f"/dev/loop{index}", "r+b", 0) as loop:
                ioctl(loop, LOOP_CLR_FD)
            os.unlink(f"/dev/{name}")
            os.unlink(f"/run/disks/{name}")


def run(program: str, arguments: list[str], text: str) -> Answer:
    """Run a program; what it printed. Without pipes and threads, which cost more than it does."""
    folder = "/run/command"
    os.makedirs(folder, exist_ok=True)
    streams = []
    for name in ("in", "out", "err"):
        Path(folder, name).write_text(text if name == "in" else "")
        flags = os.O_RDONLY if name == "in" else os.O_WRONLY | os.O_APPEND
        streams.append(os.open(f"{folder}/{name}", flags))
    actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(streams)]
    environ = {"PATH": PATH, "LC_ALL": "C", "DM_DISABLE_UDEV": "1"}
    path = shutil.which(program, path=PATH) or program
    child = os.posix_spawn(path, [program, *arguments], environ, file_actions=actions)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    for fd in streams:
        os.close(fd)
    out, err = (Path(folder, name).read_text(errors="replace") for name in ("out", "err"))
    return {"code": code, "out": out, "err": err}


class Bench:
    """What the steps of one experiment work on."""

    def __init__(self, disks: Disks) -> None:
        self.dm = DeviceMapper(disks.numbers)

    def carry_out(self, verb: str, arguments: list[Any]) -> Answer:
        """One step: a method of ours or of the device mapper, and its arguments."""
        method: Callable[..., Answer] = getattr(self, verb, None) or getattr(self.dm, verb)
        try:
            return method(*arguments)
        except OSError as error:
            return {"errno": errno.errorcode[error.errno or 0]}

    def dmsetup(self, argv: list[str], text: str = "") -> Answer:
        """Run dmsetup."""
        return run("dmsetup", argv, text)

    def _open(self, name: str, flags: int) -> int:
        return os.open(self.dm.path(name), flags | os.O_DIRECT)

    def read(self, name: str, offset: int, length: int) -> Answer:
        """The bytes at an offset, past the page cache, as one bio."""
        fd = self._open(name, os.O_RDONLY)
        try:
            buffer = mmap.mmap(-1, length)
            count = os.preadv(fd, [memoryview(buffer)[:length]], offset)
            return {"sectors": sums(buffer[:count])}
        finally:
            os.close(fd)

    def peek(self, name: str, offset: int, length: int) -> Answer:
        """The bytes themselves, in base64."""
        fd = self._open(name, os.O_RDONLY)
        try:
            buffer = mmap.mmap(-1, length)
            count = os.preadv(fd, [memoryview(buffer)[:length]], offset)
            return {"bytes": base64.b64encode(buffer[:count]).decode()}
        finally:
            os.close(fd)

    def write(self, name: str, offset: int, length: int, seed: int) -> Answer:
        """Write noise at an offset, past the page cache, as one bio."""
        fd = self._open(name, os.O_RDWR)
        try:
            buffer = mmap.mmap(-1, length)
            buffer[:length] = noise(seed, length)
            os.pwritev(fd, [memoryview(buffer)[:length]], offset)
            return {}
        finally:
            os.close(fd)

    def discard(self, name: str, offset: int, length: int) -> Answer:
        """Give a range up."""
        return self._on_range(BLKDISCARD, name, offset, length)

    def zero(self, name: str, offset: int, length: int) -> Answer:
        """Have a range zeroed."""
        return self._on_range(BLKZEROOUT, name, offset, length)

    def _on_range(self, request: int, name: str, offset: int, length: int) -> Answer:
        fd = self._open(name, os.O_RDWR)
        try:
            ioctl(fd, request, struct.pack("QQ", offset, length))
            return {}
        finally:
            os.close(fd)

    def flush(self, name: str) -> Answer:
        """Make durable what was written."""
        fd = self._open(name, os.O_RDWR)
        try:
            os.fsync(fd)
            return {}
        finally:
            os.close(fd)

    def status_when(self, name: str, wanted: str) -> Answer:
        """The status as soon as it is what is wanted; what it is, if that takes too long."""
        deadline = time.monotonic() + WAIT_SECONDS
        while (told := self.dm.status(name)) != {"text": wanted} and time.monotonic() < deadline:
            time.sleep(0.02)
        return told

    def sleep(self, seconds: float) -> Answer:
        """Let time go by."""
        time.sleep(seconds)
        return {}


def carry_out(experiment: Any) -> Answer:
    """One experiment from its disks to their removal; the next finds nothing of it."""
    disks = Disks(experiment["disks"])
    try:
        bench = Bench(disks)
        steps = experiment["steps"]
        answers = [bench.carry_out(each["verb"], each["arguments"]) for each in steps]
        images = disks.contents() if experiment["images"] else {}
        bench.dm.end()
        return {"answers": answers, "images": images}
    finally:
        disks.close()


def late(*_: object) -> None:
    """Say where it hangs."""
    raise TimeoutError("the experiments take too long")


def main(folder: str) -> None:
    """Make a system of the bare kernel, then do what is asked."""
    for kind, target in (("proc", "/proc"), ("sysfs", "/sys"), ("tmpfs", "/run")):
        mount(kind, target)
    mount("hostfs", folder, folder)
    # Line by line, so that what was said before a crash is there; it is open till the end.
    sys.stdout = sys.stderr = open(f"{folder}/guest.log", "w", buffering=1)  # noqa: SIM115
    plan = json.loads(Path(folder, "plan.json").read_text())
    signal.signal(signal.SIGALRM, late)
    signal.alarm(plan["seconds"])
    modules = Modules()
    for module in plan["modules"]:
        modules.load(*module.split(" ", 1))
    results = {}
    for name, experiment in plan["experiments"].items():
        print("begins", name)
        results[name] = carry_out(experiment)
    Path(folder, "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os.sync()
        libc.reboot(POWER_OFF)

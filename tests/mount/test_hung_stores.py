"""Stores that hang hold up nobody but who wants something of them, and what hung goes on.

They are files on frozen file systems: calls that write to them wait in the kernel, and no signal
ends that, until it is thawed.
"""

import errno
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import pytest

from fusedm.block.errors import FusedmError
from fusedm.control.client import Client
from fusedm.host import mounts
from tests.helpers import reference_xts
from tests.helpers.aio import AsyncReads, AsyncWrites
from tests.helpers.crowd import Crowd, promptly, wait_until
from tests.helpers.mounted import KEYS, MIB, Mounted, mounted_stack, opened, read_at, write_at
from tests.helpers.store_faults import stack_with_faults

pytestmark = [pytest.mark.fuse, pytest.mark.loop]

BLOCK = 4096
#: More than the worker threads of a disk; more than all that a mount might have.
MORE, MANY = 9, 200
SIZE = 4 * MIB
#: Of a daemon two of whose disks hang, however much hangs there.
MOST_THREADS = 64
SECTORS = SIZE // 512
CRYPT_KEY = bytes(range(64))

STACK = f"""
version = 1
[disks.hung]
size = "{SIZE}"
store = "file:fs0/store.img"
engine = {{ keyslots = 1, max_dun_bytes = 8, modes = {{ "AES-256-XTS" = [4096] }} }}
[disks.hung_too]
size = "{SIZE}"
store = "file:fs1/store.img"
[disks.file]
size = "{SIZE}"
store = "file:file.img"
[disks.memory]
size = "{SIZE}"
store = "memory:"
engine = {{ keyslots = 1, max_dun_bytes = 8, modes = {{ "AES-256-XTS" = [4096] }} }}
[mapper.low]
table = "0 {SECTORS} linear hung 0"
[mapper.crypt]
table = "0 {SECTORS} crypt aes-xts-plain64 {CRYPT_KEY.hex()} 0 hung_too 0"
[mapper.sound]
table = '''
0 {SECTORS} linear memory 0
{SECTORS} {SECTORS} linear file 0
'''
[keys.alice]
mode = "AES-256-XTS"
data_unit_size = 4096
dun_bytes = 8
source = "file:alice.key"
[views.home]
device = "low"
key = "alice"
[views.away]
device = "sound"
key = "alice"
"""


class FileSystem:
    """An ext4 on a loop device, which can be frozen."""

    def __init__(self, where: Path) -> None:
        self.where = where

    def freeze(self) -> None:
        """From now on whatever writes to it waits."""
        mounts.run_tool("fsfreeze", "-f", str(self.where))

    def thaw(self) -> None:
        """Let it go on, if it is frozen."""
        subprocess.run(["fsfreeze", "-u", self.where], capture_output=True, check=False)


@contextmanager
def file_system(directory: Path, name: str) -> Iterator[FileSystem]:
    image, where = directory / f"{name}.ext4", directory / name
    image.touch()
    os.truncate(image, 32 * MIB)
    mounts.run_tool("mkfs.ext4", "-q", str(image))
    where.mkdir()
    mounts.run_tool("mount", "-o", "loop", str(image), str(where))
    it = FileSystem(where)
    try:
        yield it
    finally:
        it.thaw()
        mounts.unmount(str(where))


class Hung(NamedTuple):
    """A stack, and the file systems that two of its stores are on."""

    stack: Mounted
    first: FileSystem
    second: FileSystem
    directory: Path

    def freeze(self) -> None:
        """Let both stores hang."""
        self.first.freeze()
        self.second.freeze()

    def thaw(self) -> None:
        """Let both go on."""
        self.first.thaw()
        self.second.thaw()


@pytest.fixture
def hung(tmp_path: Path) -> Iterator[Hung]:
    with ExitStack() as undo:
        both = [undo.enter_context(file_system(tmp_path, name)) for name in ("fs0", "fs1")]
        stack = undo.enter_context(mounted_stack(STACK, tmp_path))
        # Before the daemon is waited for, whose threads might hang there for ever.
        for one in both:
            undo.callback(one.thaw)
        yield Hung(stack, *both, tmp_path)


@contextmanager
def writing(hung: Hung, name: str, count: int) -> Iterator[tuple[AsyncWrites, bytes]]:
    """So many writes of blocks, sent together, and their data; all must have ended in the end."""
    data = os.urandom(count * BLOCK)
    path = next(hung.stack.mount_point.glob(f"*/{name}"))
    with AsyncWrites(path, [index * BLOCK for index in range(count)], data) as writes:
        try:
            writes.send()
            yield writes, data
        finally:
            hung.thaw()


def wait_for_writes(stack: Mounted, **in_flight: int) -> None:
    """Until so many are in flight on devices."""
    wait_until(
        lambda: all(
            stack.told(name, "inflight").split() == ["0", str(count)]
            for name, count in in_flight.items()
        )
    )


def others_answer(stack: Mounted) -> None:
    """Everything else of the mount is as ever."""
    data = os.urandom(2 * BLOCK)
    for path in (stack.view("away"), stack.disk("memory"), stack.disk("file")):
        assert promptly(lambda path=path: write_at(path, SIZE - 2 * BLOCK, data)) == len(data)
        assert promptly(lambda path=path: read_at(path, SIZE - 2 * BLOCK, len(data))) == data
        assert promptly(lambda path=path: sync(path)) is None
    assert promptly(lambda: write_at(stack.view("away"), SIZE + 100, b"part")) == 4
    assert promptly(lambda: len(os.listdir(stack.mount_point / "views"))) == 2
    for verb, args in (
        ("status", {}),
        ("dm.suspend", {"name": "sound"}),
        ("dm.load", {"name": "sound", "table": f"0 {2 * SECTORS} striped 2 8 memory 0 file 0"}),
        ("dm.resume", {"name": "sound"}),
        ("disk.resetengine", {"name": "memory"}),
        ("disk.loseengine", {"name": "memory"}),
        ("dm.add", {"name": "new", "table": "0 8 linear memory 0"}),
        ("dm.remove", {"name": "new"}),
        ("disk.gainengine", {"name": "memory", "engine": {"profile": "ufs"}}),
    ):
        promptly(lambda verb=verb, args=args: stack.call(verb, **args))
    assert promptly(lambda: len(read_at(stack.view("away"), 0, MIB))) == MIB


def sync(path: Path) -> None:
    with opened(path) as fd:
        os.fsync(fd)


def at_rest(stack: Mounted) -> None:
    for name in ("hung", "hung_too", "low", "crypt"):
        assert stack.told(name, "inflight").split() == ["0", "0"]
    assert stack.call("status")["in_flight"] == 0


def stored(hung: Hung, file_system: str, count: int) -> bytes:
    """What the store has at its beginning."""
    return read_at(hung.directory / file_system / "store.img", 0, count * BLOCK)


@pytest.mark.parametrize("count", [MORE, MANY])
def test_writes_that_hang_on_two_disks_hold_up_no_other_device_and_are_all_done_in_the_end(
    hung: Hung, count: int
) -> None:
    hung.freeze()
    with writing(hung, "home", count) as (first, data), writing(hung, "crypt", count) as (two, too):
        wait_for_writes(hung.stack, low=count, hung=count, crypt=count)
        others_answer(hung.stack)
        assert first.done_count() == two.done_count() == 0
        assert len(os.listdir(f"/proc/{hung.stack.process.pid}/task")) <= MOST_THREADS
        hung.thaw()
        assert promptly(lambda: first.done_count(count)) == count
        assert promptly(lambda: two.done_count(count)) == count
    at_rest(hung.stack)
    assert stored(hung, "fs0", count) == reference_xts.encrypt(KEYS["alice"], BLOCK, 0, data)
    assert stored(hung, "fs1", count) == reference_xts.encrypt(CRYPT_KEY, 512, 0, too)
    assert read_at(hung.stack.view("home"), 0, len(data)) == data


def test_one_that_hangs_and_one_that_does_not_are_told_apart(hung: Hung) -> None:
    hung.first.freeze()
    with writing(hung, "home", MANY) as (first, _):
        wait_for_writes(hung.stack, low=MANY)
        with writing(hung, "crypt", MANY) as (second, data):
            assert promptly(lambda: second.done_count(MANY)) == MANY
            assert stored(hung, "fs1", MANY) == reference_xts.encrypt(CRYPT_KEY, 512, 0, data)
            assert first.done_count() == 0
            hung.thaw()
        assert promptly(lambda: first.done_count(MANY)) == MANY


def test_many_disks_that_hang_at_once_hold_up_no_other(hung: Hung) -> None:
    names = [f"more{index}" for index in range(24)]
    for name in names:
        store = f"file:{hung.first.where}/{name}.img"
        hung.stack.call("disk.add", name=name, store=store, size=MIB)
    hung.first.freeze()
    with ExitStack() as undo:
        each = [undo.enter_context(writing(hung, name, 2 * MORE)) for name in names]
        wait_for_writes(hung.stack, **dict.fromkeys(names, 2 * MORE))
        others_answer(hung.stack)
        hung.thaw()
        for name, (writes, data) in zip(names, each, strict=True):
            assert promptly(lambda writes=writes: writes.done_count(2 * MORE)) == 2 * MORE
            assert read_at(hung.first.where / f"{name}.img", 0, len(data)) == data


@pytest.mark.parametrize("kind", ["read", "sync"])
def test_reads_and_syncs_that_hang_hold_up_no_other_device(
    tmp_path: Path, store_faults: Path, kind: Literal["read", "sync"]
) -> None:
    for name in ("fs0", "fs1"):
        (tmp_path / name).mkdir()
    store = tmp_path / "fs0/store.img"
    data = os.urandom(SIZE)
    store.write_bytes(reference_xts.encrypt(KEYS["alice"], BLOCK, 0, data))
    with stack_with_faults(STACK, tmp_path, store_faults, store) as (stack, faults):
        home = stack.view("home")
        faults.hold(kind)
        offsets = [index * BLOCK for index in range(MANY)]
        with AsyncReads(home, offsets) as reads:
            crowd = Crowd(MORE if kind == "sync" else 0, lambda _: sync(home))
            if kind == "read":
                reads.send()
                wait_until(lambda: stack.told("low", "inflight").split() == [str(MANY), "0"])
            wait_until(lambda: faults.told(kind, "held") > 0)
            others_answer(stack)
            assert crowd.results == {}
            assert reads.done_count() == 0
            faults.clear()
            assert set(crowd.join().values()) <= {None}
            if kind == "read":
                assert promptly(lambda: reads.done_count(MANY)) == MANY
                assert reads.data() == data[: MANY * BLOCK]
        assert stack.told("low", "inflight").split() == ["0", "0"]


@pytest.mark.parametrize(
    ("verb", "args"),
    [
        ("dm.suspend", {"name": "low"}),
        ("dm.suspend", {"name": "low", "noflush": True}),
        ("disk.resetengine", {"name": "hung"}),
        ("disk.loseengine", {"name": "hung"}),
    ],
)
def test_a_verb_that_waits_for_what_hangs_can_be_given_up(
    hung: Hung, verb: str, args: dict[str, object]
) -> None:
    hung.first.freeze()
    with writing(hung, "home", MORE) as (writes, data):
        wait_for_writes(hung.stack, low=MORE)
        with Client(str(hung.stack.mount_point)) as client:
            client.send(verb, **args)
            if verb == "dm.suspend":
                wait_until(lambda: hung.stack.call("dm.show", name="low")["suspending"])
            others_answer(hung.stack)
            assert client.is_open  # and has been told nothing
        wait_until(lambda: not hung.stack.call("dm.show", name="low")["suspending"])
        assert writes.done_count() == 0
        hung.thaw()
        assert promptly(lambda: writes.done_count(MORE)) == MORE
        assert promptly(lambda: read_at(hung.stack.view("home"), 0, len(data))) == data
    at_rest(hung.stack)
    assert stored(hung, "fs0", MORE) == reference_xts.encrypt(KEYS["alice"], BLOCK, 0, data)


def test_a_suspend_that_waits_for_what_hangs_ends_with_it_and_not_before(hung: Hung) -> None:
    hung.first.freeze()
    with writing(hung, "home", MORE) as (writes, _), Client(str(hung.stack.mount_point)) as client:
        wait_for_writes(hung.stack, low=MORE)
        client.send("dm.suspend", name="low")
        wait_until(lambda: hung.stack.call("dm.show", name="low")["suspending"])
        assert not hung.stack.call("dm.show", name="low")["suspended"]
        hung.thaw()
        wait_until(lambda: hung.stack.call("dm.show", name="low")["suspended"])
        # All that it has waited for is on the medium by now, and counted.
        assert hung.stack.told("hung", "inflight").split() == ["0", "0"]
        assert promptly(lambda: writes.done_count(MORE)) == MORE
        hung.stack.call("dm.resume", name="low")


def test_what_is_in_use_by_what_hangs_is_refused_at_once(hung: Hung) -> None:
    hung.first.freeze()
    with writing(hung, "home", MORE) as (writes, _):
        wait_for_writes(hung.stack, low=MORE)
        for verb, name in (
            ("view.remove", "home"),
            ("key.remove", "alice"),
            ("dm.remove", "low"),
            ("disk.remove", "hung"),
        ):
            refusal = promptly(lambda verb=verb, name=name: refused(hung.stack, verb, name))
            assert refusal == errno.EBUSY, verb
        hung.thaw()
        assert promptly(lambda: writes.done_count(MORE)) == MORE


def refused(stack: Mounted, verb: str, name: str) -> int:
    with pytest.raises(FusedmError) as caught:
        stack.call(verb, name=name)
    return caught.value.errno


@pytest.mark.parametrize("count", [1, MANY])
def test_the_daemon_ends_within_its_bounds_while_a_store_hangs(hung: Hung, count: int) -> None:
    hung.freeze()
    mount_point = str(hung.stack.mount_point)
    data = bytes(count * BLOCK)
    path = hung.stack.view("home")
    with AsyncWrites(path, [index * BLOCK for index in range(count)], data) as writes:
        writes.send()
        wait_for_writes(hung.stack, low=count)
        hung.stack.process.send_signal(signal.SIGTERM)
        wait_until(lambda: mounts.mount_at(mount_point) is None)
        # What hangs in the kernel is all that is left of it.
        wait_until(lambda: state_of(hung.stack) == "Z")
        hung.thaw()
        assert hung.stack.process.wait(20) == 1
        with pytest.raises(AssertionError, match=f"ended with .-{errno.ECONNABORTED}"):
            writes.done_count(count)
    log = hung.directory / "daemon.log"
    assert "has not been done in 5 seconds: ending without" in log.read_text()
    log.write_text("")


def state_of(stack: Mounted) -> str:
    status = Path(f"/proc/{stack.process.pid}/stat").read_text()
    return status.rpartition(")")[2].split()[0]

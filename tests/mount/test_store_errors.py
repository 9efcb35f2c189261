"""What a system call on a store fails with reaches whom it was made for, once, and nobody else.

Every way to a store is tried: plain and through targets, through an engine and a fallback; over a
file on a disk, one in memory, and a block device.
"""

import base64
import errno
import functools
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from fusedm.host import loop
from fusedm.stores.host import punch_hole
from tests.helpers.crowd import Crowd, promptly
from tests.helpers.mounted import KEY_TABLES, KEYS, MIB, Mounted, opened, read_at, write_at
from tests.helpers.places import folder_on_disk, folder_on_tmpfs
from tests.helpers.store_faults import KINDS, StoreFaults, errno_of, stack_with_faults

pytestmark = [pytest.mark.fuse, pytest.mark.loop]

BLOCK = 4096
#: Of each of the devices over the store.
SECTORS = MIB // 512
SIZE = 8 * MIB
CRYPT_KEY = bytes(range(64)).hex()

STACK = f"""
version = 1
[disks.s0]
size = "{SIZE}"
store = "file:STORE"
engine = {{ keyslots = 2, max_dun_bytes = 8, modes = {{ "AES-256-XTS" = [4096] }} }}
[disks.other]
size = "{SIZE}"
store = "memory:"
[mapper.linear]
table = "0 {SECTORS} linear s0 0"
[mapper.native]
table = "0 {SECTORS} linear s0 {SECTORS}"
[mapper.soft]
table = "0 {SECTORS} linear s0 {2 * SECTORS}"
[mapper.crypt]
table = "0 {SECTORS} crypt aes-xts-plain64 {CRYPT_KEY} 0 s0 {3 * SECTORS} 1 allow_discards"
[mapper.striped]
table = "0 {SECTORS} striped 2 8 s0 {4 * SECTORS} other 0"
[mapper.flakey]
table = "0 {SECTORS} flakey s0 {5 * SECTORS} 1 0"
{KEY_TABLES}
[views.engine]
device = "native"
key = "alice"
[views.fallback]
device = "soft"
key = "small"
"""

MAPPED = ("linear", "native", "soft", "crypt", "striped", "flakey")
#: The views: their devices and keys.
VIEWS = {"engine": ("native", "alice", 4096), "fallback": ("soft", "small", 512)}
#: The files, each a way to the store.
FRONTS = {
    "linear": "mapper/linear",
    "engine": "views/engine",
    "fallback": "views/fallback",
    "crypt": "mapper/crypt",
    "striped": "mapper/striped",
    "flakey": "mapper/flakey",
}


class Case(NamedTuple):
    """A way to a store that fails when told."""

    stack: Mounted
    faults: StoreFaults
    medium: str
    front: Path
    other: Path


@pytest.fixture(scope="module", params=["disk", "tmpfs", "block device"])
def served(
    request: pytest.FixtureRequest,
    way: str,
    store_faults: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Mounted, StoreFaults, str]]:
    directory = tmp_path_factory.mktemp("errors")
    with ExitStack() as undo:
        in_memory = request.param == "tmpfs"
        folder = (folder_on_tmpfs if in_memory else folder_on_disk)(directory)
        store = undo.enter_context(folder) / "s0.img"
        store.touch()
        os.truncate(store, SIZE)
        if request.param == "block device":
            device = loop.attach(str(store), 512)
            undo.callback(loop.detach, device)
            store = Path(device.node)
        text = STACK.replace("STORE", str(store))
        yield (
            *undo.enter_context(stack_with_faults(text, directory, store_faults, store)),
            request.param,
        )


@pytest.fixture(params=FRONTS)
def case(
    served: tuple[Mounted, StoreFaults, str], request: pytest.FixtureRequest
) -> Iterator[Case]:
    stack, faults, medium = served
    front, other = stack.mount_point / FRONTS[request.param], stack.disk("other")
    write_at(front, 0, bytes(MIB))
    yield Case(stack, faults, medium, front, other)
    faults.clear()
    # Nothing is still taken for what has failed.
    for device in ("s0", *MAPPED):
        assert stack.told(device, "inflight").split() == ["0", "0"]
    assert all(" users 0 " in slot for slot in stack.told("s0", "fusedm/keyslots").splitlines())


def fsync(path: Path) -> None:
    with opened(path) as fd:
        os.fsync(fd)


def punch(path: Path, offset: int, length: int) -> None:
    with opened(path) as fd:
        punch_hole(fd, offset, length)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_an_error_of_a_write_reaches_the_writer_and_goes_with_its_cause(
    case: Case, number: int
) -> None:
    data = os.urandom(2 * BLOCK)
    case.faults.fail("write", number)
    assert errno_of(write_at, case.front, 0, data) == number
    assert case.faults.told("write", "struck") > 0
    assert promptly(lambda: write_at(case.other, 4 * MIB, data)) == len(data)
    assert read_at(case.front, BLOCK * 8, BLOCK) == bytes(BLOCK)
    case.faults.clear()
    assert promptly(lambda: write_at(case.front, 0, data)) == len(data)
    assert read_at(case.front, 0, len(data)) == data


def test_an_error_of_a_read_reaches_the_reader_and_goes_with_its_cause(case: Case) -> None:
    data = os.urandom(2 * BLOCK)
    write_at(case.front, 0, data)
    case.faults.fail("read", errno.EIO)
    assert errno_of(read_at, case.front, 0, len(data)) == errno.EIO
    assert promptly(lambda: write_at(case.front, BLOCK * 8, data)) == len(data)
    assert len(read_at(case.other, 4 * MIB, BLOCK)) == BLOCK
    case.faults.clear()
    assert promptly(lambda: read_at(case.front, 0, len(data))) == data


def test_a_single_call_that_fails_fails_no_more_than_one_of_16_writes(case: Case) -> None:
    """None if it was tried again; who is told of success has written."""
    data = [bytes([index + 1]) * BLOCK for index in range(16)]
    case.faults.fail("write", errno.EIO, count=1, skip=5)
    results = Crowd(16, lambda index: write_at(case.front, index * BLOCK, data[index])).join()
    assert case.faults.told("write", "struck") == 1
    assert sorted(map(int, results.values()))[1:] == [BLOCK] * 15
    for index, result in results.items():
        expected = data[index] if result == BLOCK else bytes(BLOCK)
        assert read_at(case.front, index * BLOCK, BLOCK) == expected


def test_a_single_call_that_fails_fails_no_more_than_one_of_16_reads(case: Case) -> None:
    data = [bytes([index + 1]) * BLOCK for index in range(16)]
    write_at(case.front, 0, b"".join(data))
    case.faults.fail("read", errno.EIO, count=1, skip=5)
    results = Crowd(16, lambda index: read_at(case.front, index * BLOCK, BLOCK)).join()
    assert case.faults.told("read", "struck") == 1
    wrong = [result for index, result in results.items() if result != data[index]]
    assert wrong in ([], [errno.EIO])


@pytest.mark.parametrize("size", [BLOCK, 128 << 10])
@pytest.mark.parametrize("most", [1000, 4096 + 512])
def test_calls_that_transfer_less_than_asked_are_made_again_for_the_rest(
    case: Case, size: int, most: int
) -> None:
    if case.medium == "block device":  # Direct I/O is of whole sectors.
        most &= -512
    data = os.urandom(size)
    case.faults.cut("write", most)
    assert write_at(case.front, 0, data) == size
    assert size < most or case.faults.told("write", "struck") > 0
    case.faults.clear()
    assert read_at(case.front, 0, size) == data
    case.faults.cut("read", most)
    assert read_at(case.front, 0, size) == data
    assert size < most or case.faults.told("read", "struck") > 0


def test_a_call_that_transfers_nothing_is_an_error_and_not_tried_for_ever(case: Case) -> None:
    case.faults.cut("read", 0)
    case.faults.cut("write", 0)
    assert promptly(lambda: errno_of(read_at, case.front, 0, BLOCK)) == errno.EIO
    assert promptly(lambda: errno_of(write_at, case.front, 0, bytes(BLOCK))) == errno.EIO


def test_interrupted_calls_are_made_again_and_nobody_is_told(case: Case, way: str) -> None:
    data, kinds = os.urandom(BLOCK), KINDS[:4] if way == "lane" else KINDS[:3]
    for kind in kinds:
        case.faults.fail(kind, errno.EINTR, count=3)
    assert write_at(case.front, 0, data) == BLOCK
    assert read_at(case.front, 0, BLOCK) == data
    fsync(case.front)
    if way == "lane":
        punch(case.front, 2 * BLOCK, 14 * BLOCK)
    for kind in kinds:
        assert case.faults.told(kind, "struck") == 3, kind


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_an_error_of_fdatasync_is_told_once_to_who_syncs(case: Case, number: int) -> None:
    write_at(case.front, 0, os.urandom(BLOCK))
    case.faults.fail("sync", number, count=1)
    assert errno_of(fsync, case.front) == number
    assert errno_of(fsync, case.front) == 0
    assert case.faults.told("sync", "struck") == 1


def test_an_error_of_fdatasync_is_told_to_a_synchronous_writer(case: Case) -> None:
    data = os.urandom(BLOCK)
    case.faults.fail("sync", errno.EIO, count=1)
    assert errno_of(write_at, case.front, 0, data, os.O_DSYNC) == errno.EIO
    assert errno_of(write_at, case.front, 0, data, os.O_DSYNC) == 0
    assert read_at(case.front, 0, BLOCK) == data


def test_of_8_who_sync_at_once_one_is_told_of_the_only_error(case: Case) -> None:
    case.faults.fail("sync", errno.EIO, count=1, skip=3)
    results = Crowd(8, lambda _: fsync(case.front)).join()
    assert errno.EIO in results.values()
    assert set(results.values()) <= {None, errno.EIO}
    assert errno_of(fsync, case.front) == 0


def test_what_is_synced_is_synced_after_it_was_written(case: Case) -> None:
    for data in (os.urandom(BLOCK), os.urandom(BLOCK)):
        write_at(case.front, 0, data)
        assert case.faults.durable < case.faults.written
        fsync(case.front)
        assert case.faults.durable == case.faults.written
    write_at(case.front, 0, os.urandom(BLOCK), os.O_DSYNC)
    assert case.faults.durable == case.faults.written


@pytest.mark.parametrize("flags", [0, os.O_DSYNC], ids=["fsync", "O_DSYNC"])
def test_of_4_who_write_and_sync_at_once_none_is_told_too_early(case: Case, flags: int) -> None:
    def write_and_sync(index: int) -> None:
        with opened(case.front, os.O_RDWR | flags) as fd:
            for _ in range(10):
                os.pwrite(fd, os.urandom(BLOCK), index * BLOCK)
                written = case.faults.written
                if not flags:
                    os.fsync(fd)
                    assert case.faults.durable >= written

    assert set(Crowd(4, write_and_sync).join().values()) == {None}
    assert case.faults.durable == case.faults.written


def test_an_error_of_punching_reaches_who_punches(case: Case, way: str) -> None:
    data = os.urandom(16 * BLOCK)
    write_at(case.front, 0, data)
    case.faults.fail("punch", errno.EIO)
    refused = errno.EIO if way == "lane" else errno.EOPNOTSUPP
    assert errno_of(punch, case.front, 0, len(data)) == refused
    case.faults.clear()
    assert errno_of(punch, case.front, 0, len(data)) == (0 if way == "lane" else refused)
    left = bytes(len(data)) if way == "lane" else data
    assert read_at(case.front, 0, len(data)) == left


def test_where_no_hole_can_be_made_zeros_are_written(case: Case, way: str) -> None:
    data = os.urandom(16 * BLOCK)
    write_at(case.front, 0, data)
    case.faults.fail("punch", errno.EOPNOTSUPP)
    assert errno_of(punch, case.front, 0, len(data)) == (0 if way == "lane" else errno.EOPNOTSUPP)
    assert read_at(case.front, 0, len(data)) == (bytes(len(data)) if way == "lane" else data)


def test_a_part_of_a_block_whose_rest_cannot_be_read_is_not_written(case: Case) -> None:
    before = case.faults.told("write", "calls")
    case.faults.fail("read", errno.EIO)
    assert errno_of(write_at, case.front, 100, b"part") == errno.EIO
    assert case.faults.told("write", "calls") == before
    case.faults.clear()
    assert write_at(case.front, 100, b"part") == 4
    assert read_at(case.front, 0, BLOCK) == b"part".rjust(104, b"\0").ljust(BLOCK, b"\0")


def test_after_failed_requests_devices_can_be_suspended_and_keys_evicted(case: Case) -> None:
    case.faults.fail("write", errno.EIO)
    case.faults.fail("read", errno.EIO)
    assert errno_of(write_at, case.front, 0, bytes(BLOCK)) == errno.EIO
    assert errno_of(read_at, case.front, 0, BLOCK) == errno.EIO
    case.faults.clear()
    call = case.stack.call
    for name in MAPPED:
        promptly(functools.partial(call, "dm.suspend", name=name))
        call("dm.resume", name=name)
    promptly(lambda: call("disk.resetengine", name="s0"))
    for view, (device, key, unit) in VIEWS.items():
        call("view.remove", name=view)
        call("key.remove", name=key)
        raw = base64.b64encode(KEYS[key]).decode()
        words = {"mode": "AES-256-XTS", "data_unit_size": unit, "dun_bytes": 8}
        call("key.add", name=key, source=f"file:{key}.key", raw=raw, **words)
        call("view.add", name=view, device=device, key=key)
    assert write_at(case.front, 0, os.urandom(BLOCK)) == BLOCK


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EINTR, errno.EIO])
def test_a_read_that_may_not_wait_and_fails_is_nothing_that_the_reader_sees(
    case: Case, number: int
) -> None:
    """Whoever may wait for it does it again."""
    data = os.urandom(128 << 10)
    write_at(case.front, 0, data)
    case.faults.fail("nowait", number, count=3, skip=1)
    for size in (BLOCK, len(data), BLOCK, BLOCK, len(data)):
        assert read_at(case.front, 0, size) == data[:size]
    case.faults.cut("nowait", 1000)
    assert read_at(case.front, 0, len(data)) == data


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOSYS])
def test_where_all_reads_may_wait_they_are_done_by_who_may(case: Case, number: int) -> None:
    """Last of all: who has been told this asks no more."""
    data = os.urandom(128 << 10)
    write_at(case.front, 0, data)
    case.faults.fail("nowait", number)
    for size in (BLOCK, len(data)):
        assert read_at(case.front, 0, size) == data[:size]
    assert case.faults.told("nowait", "struck") <= 1

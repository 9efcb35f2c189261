"""Bytes through a real mount: what the media hold, and that no way to them loses or stales any."""

import mmap
import os
import threading
from collections.abc import Iterator
from itertools import cycle
from random import Random

import pytest

from tests.helpers import reference_xts
from tests.helpers.mounted import (
    KEYS,
    MIB,
    USUAL,
    Mounted,
    mounted_stack,
    opened,
    page_aligned,
    read_at,
    write_at,
)

pytestmark = pytest.mark.fuse

SIZE = 4 * MIB

#: A device that waits between the read and the write of a patch, so that others can get in between.
SLOW = """
[mapper.slow]
table = "0 8192 delay data 0 1"
[views.slow1]
device = "slow"
key = "alice"
[views.slow2]
device = "slow"
key = "alice"
"""


@pytest.fixture(scope="module")
def stack(way: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    with mounted_stack(USUAL + SLOW, tmp_path_factory.mktemp("content")) as mounted:
        yield mounted


def medium(stack: Mounted) -> bytes:
    """What lies below the mapped device, taken from the disks."""
    return read_at(stack.disk("ufs0"), 0, SIZE // 2) + read_at(stack.disk("plain0"), 0, SIZE // 2)


def write_ios(stack: Mounted, name: str) -> int:
    return int(stack.told(name, "stat").split()[4])


@pytest.mark.parametrize(
    ("view", "key", "unit", "dun_base"),
    [("home", "alice", 4096, 0), ("small", "small", 512, 0), ("later", "alice", 4096, 1000)],
)
def test_the_disks_hold_what_the_reference_encrypts(
    stack: Mounted, view: str, key: str, unit: int, dun_base: int
) -> None:
    data = Random(view).randbytes(SIZE)
    assert write_at(stack.view(view), 0, data) == SIZE
    assert medium(stack) == reference_xts.encrypt(KEYS[key], unit, dun_base, data)
    assert stack.view(view).read_bytes() == data
    assert stack.mapper("data").read_bytes() == medium(stack)


def test_what_is_written_raw_is_decrypted_by_the_view(stack: Mounted) -> None:
    data = Random(1).randbytes(8192)
    write_at(stack.disk("plain0"), 0, reference_xts.encrypt(KEYS["alice"], 4096, 512, data))
    assert read_at(stack.view("home"), SIZE // 2, 8192) == data


def test_two_views_opened_together_never_show_stale_bytes(stack: Mounted) -> None:
    with opened(stack.view("home")) as home, opened(stack.view("twin")) as twin:
        for round_, (writer, reader) in zip(range(20), cycle([(home, twin), (twin, home)])):
            assert os.pread(reader, 4096, 0)
            os.pwrite(writer, bytes([round_]) * 4096, 0)
            assert os.pread(reader, 4096, 0) == bytes([round_]) * 4096


def test_a_view_and_the_raw_disk_opened_together_never_show_stale_bytes(stack: Mounted) -> None:
    with opened(stack.view("home")) as home, opened(stack.disk("ufs0")) as raw:
        for round_ in range(20):
            data = bytes([round_]) * 4096
            other = Random(round_).randbytes(4096)
            os.pwrite(home, data, 0)
            assert os.pread(raw, 4096, 0) == reference_xts.encrypt(KEYS["alice"], 4096, 0, data)
            os.pwrite(raw, reference_xts.encrypt(KEYS["alice"], 4096, 0, other), 0)
            assert os.pread(home, 4096, 0) == other


@pytest.mark.parametrize("direct", [False, True], ids=["buffered", "O_DIRECT"])
@pytest.mark.parametrize("view", ["home", "small"])
def test_unaligned_reads_and_writes_agree_with_a_model(
    stack: Mounted, view: str, direct: bool
) -> None:
    random = Random(f"{view} {direct}")
    model = bytearray(random.randbytes(SIZE))
    write_at(stack.view(view), 0, model)
    with opened(stack.view(view), os.O_RDWR | (os.O_DIRECT if direct else 0)) as fd:
        for _ in range(150):
            offset = random.randrange(SIZE)
            length = min(random.choice([1, 100, 5000, 70000]), SIZE - offset)
            if random.random() < 0.5:
                data = random.randbytes(length)
                with page_aligned(data) as buffer:
                    assert os.pwritev(fd, [buffer], offset) == length
                model[offset : offset + length] = data
            else:
                with page_aligned(bytes(length)) as buffer:
                    assert os.preadv(fd, [buffer], offset) == length
                    assert buffer[:] == model[offset : offset + length]
    assert stack.view(view).read_bytes() == model


@pytest.mark.parametrize(
    "names",
    [("home", "home"), ("home", "twin"), ("slow1", "slow2"), ("home", "slow1")],
    ids=["one", "two", "two slow", "one slow"],
)
def test_writers_of_neighbouring_bytes_of_a_block_lose_nothing(
    stack: Mounted, names: tuple[str, str]
) -> None:
    writers, rounds = 8, 40
    write_at(stack.view("home"), 0, bytes(4096))

    def write_every(first: int) -> None:
        with opened(stack.view(names[first % 2])) as fd:
            for index in range(rounds):
                os.pwrite(fd, bytes([first + 1]), index * writers + first)

    run_together(write_every, writers)
    assert read_at(stack.view("home"), 0, writers * rounds) == bytes(range(1, 9)) * rounds


def test_a_small_view_and_a_raw_file_patch_neighbours_without_loss(stack: Mounted) -> None:
    """The raw file's block of 512 bytes lies between two data units that the view patches."""
    write_at(stack.view("small"), 0, bytes(1536))

    def write_some(which: int) -> None:
        with opened(stack.mapper("data") if which else stack.view("small")) as fd:
            for index in range(200):
                if which:
                    os.pwrite(fd, b"r", 512 + index)
                else:
                    os.pwrite(fd, b"v", index)
                    os.pwrite(fd, b"w", 1024 + index)

    run_together(write_some, 2)
    assert read_at(stack.view("small"), 0, 200) == b"v" * 200
    assert read_at(stack.view("small"), 1024, 200) == b"w" * 200
    assert read_at(stack.mapper("data"), 512, 200) == b"r" * 200


def run_together(work, count: int) -> None:
    """Run work(0) .. work(count - 1) at once; the first error is raised."""
    errors: list[BaseException] = []

    def guarded(index: int) -> None:
        try:
            work(index)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_a_write_of_1_mib_arrives_as_one_bio(stack: Mounted) -> None:
    before = write_ios(stack, "plain0")
    with opened(stack.disk("plain0")) as fd, page_aligned(b"x" * MIB) as buffer:
        assert os.pwritev(fd, [buffer], 0) == MIB
    assert write_ios(stack, "plain0") == before + 1


def test_a_read_of_1_mib_arrives_as_one_bio(stack: Mounted) -> None:
    before = int(stack.told("plain0", "stat").split()[0])
    with opened(stack.disk("plain0")) as fd, page_aligned(bytes(MIB)) as buffer:
        assert os.preadv(fd, [buffer], 0) == MIB
    assert int(stack.told("plain0", "stat").split()[0]) == before + 1


def test_a_private_mapping_shows_what_is_there_when_it_is_made(stack: Mounted) -> None:
    for data in (b"a" * 4096, b"b" * 4096):
        write_at(stack.view("twin"), 0, data)
        with (
            opened(stack.view("home"), os.O_RDONLY) as fd,
            mmap.mmap(fd, 4096, mmap.MAP_PRIVATE, mmap.PROT_READ) as mapping,
        ):
            assert mapping[:] == data

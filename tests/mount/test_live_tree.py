"""The tree of a real mount: what is in it, in which format, and that it follows the stack."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusedm.block.errors import FusedmError
from tests.helpers.mounted import USUAL, Mounted, mounted_stack, opened, read_at, write_at

pytestmark = pytest.mark.fuse

MANY = 500


@pytest.fixture(scope="module")
def stack(way: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    with mounted_stack(USUAL, tmp_path_factory.mktemp("tree")) as mounted:
        yield mounted


def names(path: Path) -> set[str]:
    return set(os.listdir(path))


def stat_columns(stack: Mounted, name: str) -> list[int]:
    return [int(word) for word in stack.told(name, "stat").split()]


def test_each_folder_holds_its_kind(stack: Mounted) -> None:
    assert names(stack.mount_point) == {"disks", "mapper", "views", "sys"}
    assert names(stack.mount_point / "disks") == {"ufs0", "plain0"}
    assert names(stack.mount_point / "mapper") == {"data"}
    assert names(stack.mount_point / "views") == {"home", "twin", "small", "later"}


@pytest.mark.parametrize(
    ("name", "file", "text"),
    [
        ("ufs0", "size", "8192\n"),
        ("ufs0", "queue/logical_block_size", "512\n"),
        ("ufs0", "queue/crypto/num_keyslots", "4\n"),
        ("ufs0", "queue/crypto/max_dun_bits", "64\n"),
        ("ufs0", "queue/crypto/modes/AES-256-XTS", "0x1200\n"),
        ("data", "dm/name", "data\n"),
        ("data", "dm/uuid", "UUID-data\n"),
        ("data", "dm/suspended", "0\n"),
        ("home", "queue/logical_block_size", "4096\n"),
        ("small", "queue/logical_block_size", "512\n"),
    ],
)
def test_text_files_have_the_kernels_formats(
    stack: Mounted, name: str, file: str, text: str
) -> None:
    assert stack.told(name, file) == text


def test_a_device_that_cannot_encrypt_has_no_crypto_directory(stack: Mounted) -> None:
    assert "crypto" not in names(stack.sys("plain0") / "queue")
    assert "crypto" not in names(stack.sys("data") / "queue")


@pytest.mark.parametrize("keyslots", [0, 2])
def test_num_keyslots_of_disk_and_mapped_device(stack: Mounted, keyslots: int) -> None:
    engine = {"keyslots": keyslots, "max_dun_bytes": 8, "modes": {"AES-256-XTS": [4096]}}
    stack.call("disk.add", name="e0", store="memory:", size=1 << 20, engine=engine)
    stack.call("dm.add", name="over", table="0 2048 linear e0 0")
    try:
        assert stack.told("e0", "queue/crypto/num_keyslots") == f"{keyslots}\n"
        assert stack.told("over", "queue/crypto/num_keyslots") == "0\n"
        assert stack.told("over", "queue/crypto/modes/AES-256-XTS") == "0x1000\n"
    finally:
        stack.call("dm.remove", name="over")
        stack.call("disk.remove", name="e0")


def test_slaves_and_holders_lead_to_each_other(stack: Mounted) -> None:
    assert names(stack.sys("data") / "slaves") == {"ufs0", "plain0"}
    assert names(stack.sys("data") / "holders") == {"home", "twin", "small", "later"}
    below = stack.sys("data") / "slaves/ufs0"
    assert below.is_symlink()
    assert below.samefile(stack.sys("ufs0"))
    assert (stack.sys("ufs0") / "holders/data").samefile(stack.sys("data"))
    assert (stack.sys("home") / "slaves/data").samefile(stack.sys("data"))


def test_stat_counts_ios_and_sectors_of_each_device_passed(stack: Mounted) -> None:
    before = {name: stat_columns(stack, name) for name in ("ufs0", "plain0", "data")}
    write_at(stack.view("home"), 0, bytes(8192))
    read_at(stack.view("home"), 0, 4096)
    after = {name: stat_columns(stack, name) for name in before}
    assert len(after["data"]) == 17
    change = {
        name: [b - a for a, b in zip(before[name], after[name], strict=True)] for name in after
    }
    for name in ("ufs0", "data"):
        assert change[name][0:3] == [1, 0, 8]
        assert change[name][4:7] == [1, 0, 16]
    assert change["plain0"] == [0] * 17


def test_nothing_is_in_flight_when_nothing_is_asked(stack: Mounted) -> None:
    assert stack.told("data", "inflight").split() == ["0", "0"]


def test_crypto_extents_tell_native_from_fallback(stack: Mounted) -> None:
    def counts() -> list[list[int]]:
        lines = stack.told("data", "fusedm/crypto_extents").splitlines()
        assert [line.split()[:3] for line in lines] == [
            ["0", "4096", "linear"],
            ["4096", "4096", "linear"],
        ]
        return [[int(line.split()[4]), int(line.split()[6])] for line in lines]

    before = counts()
    # One bio, split at the boundary between a disk with an engine and one without.
    write_at(stack.view("home"), (4096 << 9) - 4096, bytes(8192))
    after = counts()
    assert [a - b for a, b in zip(after[0], before[0], strict=True)] == [1, 0]
    assert [a - b for a, b in zip(after[1], before[1], strict=True)] == [0, 1]


def test_what_control_adds_and_removes_comes_and_goes(stack: Mounted) -> None:
    stack.call("disk.add", name="d9", store="memory:", size=1 << 20)
    stack.call("dm.add", name="m9", table="0 2048 linear d9 0")
    stack.call("view.add", name="v9", device="m9", key="alice")
    for path in (stack.disk("d9"), stack.mapper("m9"), stack.view("v9")):
        assert path.stat().st_size == 1 << 20
        assert path.name in names(path.parent)
        assert path.name in names(stack.mount_point / "sys/block")
    stack.call("view.remove", name="v9")
    stack.call("dm.remove", name="m9")
    stack.call("disk.remove", name="d9")
    for path in (stack.disk("d9"), stack.mapper("m9"), stack.view("v9"), stack.sys("d9")):
        assert not path.exists()
        assert path.name not in names(path.parent)


def test_an_open_file_keeps_its_device_from_being_removed(stack: Mounted) -> None:
    stack.call("disk.add", name="d9", store="memory:", size=1 << 20)
    with stack.disk("d9").open("rb"):
        refused = stack.fusedm("disk", "remove", "d9")
    assert refused.returncode == 1
    assert "'d9' is in use by 1 open files" in refused.stderr
    stack.call("disk.remove", name="d9")


def test_a_new_name_may_be_of_another_kind_and_size(stack: Mounted) -> None:
    for size in (1 << 20, 2 << 20):
        stack.call("disk.add", name="again", store="memory:", size=size)
        assert stack.disk("again").stat().st_size == size
        stack.call("disk.remove", name="again")
    stack.call("dm.add", name="again", table="0 8 zero")
    assert stack.mapper("again").stat().st_size == 4096
    assert not stack.disk("again").exists()
    stack.call("dm.remove", name="again")


def test_a_new_table_changes_the_size_at_once(stack: Mounted) -> None:
    stack.call("dm.add", name="grows", table="0 8 zero")
    with stack.mapper("grows").open("rb") as file:
        assert file.seek(0, os.SEEK_END) == 4096
        stack.call("dm.load", name="grows", table="0 16 zero")
        stack.call("dm.suspend", name="grows")
        stack.call("dm.resume", name="grows")
        assert file.seek(0, os.SEEK_END) == 8192
        assert len(os.pread(file.fileno(), 10000, 0)) == 8192
    stack.call("dm.remove", name="grows")


def test_a_device_without_a_table_is_an_empty_file(stack: Mounted) -> None:
    stack.call("dm.add", name="empty")
    assert stack.mapper("empty").read_bytes() == b""
    assert stack.told("empty", "size") == "0\n"
    assert stack.told("empty", "fusedm/crypto_extents").strip() == ""
    stack.call("dm.remove", name="empty")


def test_a_directory_of_many_devices_is_read_completely(stack: Mounted) -> None:
    many = {f"{'n' * 100}{index}" for index in range(MANY)}
    for name in sorted(many):
        stack.call("disk.add", name=name, store="memory:", size=4096)
    try:
        listed = os.listdir(stack.mount_point / "disks")
        assert len(listed) == MANY + 2
        assert set(listed) == many | {"ufs0", "plain0"}
        assert many < names(stack.mount_point / "sys/block")
    finally:
        for name in many:
            stack.call("disk.remove", name=name)
    assert names(stack.mount_point / "disks") == {"ufs0", "plain0"}


def test_a_directory_that_shrinks_while_it_is_read_skips_nothing(stack: Mounted) -> None:
    names = [f"{'n' * 100}{index}" for index in range(200)]
    for name in names:
        stack.call("disk.add", name=name, store="memory:", size=4096)
    try:
        with os.scandir(stack.mount_point / "disks") as entries:
            first = next(entries).name
            # The oldest go: whatever comes after them moves up.
            for name in names[:10]:
                stack.call("disk.remove", name=name)
            listed = [first, *(entry.name for entry in entries)]
        assert len(set(listed)) == len(listed)
        assert set(names[10:]) <= set(listed)
    finally:
        for disk in stack.call("ls"):
            if disk["name"] in names:
                stack.call("disk.remove", name=disk["name"])


def test_a_directory_opened_before_shows_what_came_after_when_it_is_rewound(
    stack: Mounted,
) -> None:
    with opened(stack.mount_point / "disks", os.O_RDONLY | os.O_DIRECTORY) as fd:
        assert set(os.listdir(fd)) == {"ufs0", "plain0"}
        stack.call("disk.add", name="late", store="memory:", size=4096)
        assert set(os.listdir(fd)) == {"ufs0", "plain0", "late"}
        stack.call("disk.remove", name="late")


def test_a_directory_is_read_by_many_at_once_with_buffers_of_1_mib(stack: Mounted) -> None:
    """Together the replies are more than a socket holds, and one alone could be."""
    many = {f"{'n' * 100}{index}" for index in range(1000)}
    for name in sorted(many):
        stack.call("disk.add", name=name, store="memory:", size=4096)
    try:
        readers = [
            subprocess.Popen(
                [sys.executable, "-c", READ_WITH_1_MIB, stack.mount_point / "disks"],
                stdout=subprocess.PIPE,
            )
            for _ in range(8)
        ]
        for reader in readers:
            assert reader.communicate(timeout=30)[0] == b"1002\n"
    finally:
        for name in many:
            stack.call("disk.remove", name=name)


READ_WITH_1_MIB = """
import ctypes, os, platform, struct, sys
number = {"x86_64": 217}.get(platform.machine(), 61)
fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
buffer = ctypes.create_string_buffer(1 << 20)
names = set()
while (count := ctypes.CDLL(None).syscall(number, fd, buffer, len(buffer))) > 0:
    at = 0
    while at < count:
        length, = struct.unpack_from("<H", buffer, at + 16)
        names.add(ctypes.string_at(ctypes.addressof(buffer) + at + 19))
        at += length
print(len(names - {b".", b".."}))
"""


def test_a_text_longer_than_a_message_is_read_whole(stack: Mounted) -> None:
    lines = 8000
    stack.call("dm.add", name="long", table="".join(f"{8 * i} 8 zero\n" for i in range(lines)))
    try:
        with opened(stack.sys("long") / "fusedm/crypto_extents", os.O_RDONLY) as fd:
            text = os.read(fd, 1 << 20)
        assert len(text) > 212_992
        assert len(text.splitlines()) == lines
    finally:
        stack.call("dm.remove", name="long")


def test_a_mapped_device_is_renamed_while_it_is_open(stack: Mounted) -> None:
    old, new = stack.mapper("data"), stack.mapper("store")
    with opened(old) as fd:
        stack.call("dm.rename", name="data", new="store")
        assert not old.exists()
        assert os.readlink(f"/proc/self/fd/{fd}") == str(new)
        os.pwrite(fd, b"through the old handle", 0)
        assert os.fstat(fd).st_size == new.stat().st_size
        assert stack.call("file", name="store")["open"] == 1
    assert read_at(new, 0, 22) == b"through the old handle"
    assert stack.call("file", name="store")["open"] == 0
    stack.call("dm.rename", name="store", new="data")
    assert names(stack.mount_point / "mapper") == {"data"}


def test_nothing_is_renamed_by_hand_and_nothing_replaced(stack: Mounted) -> None:
    data = stack.mapper("data")
    stack.call("dm.add", name="other", table="0 8 zero")
    for new in ("mapper/store", "mapper/a b", "mapper/other", "views/moved", "data"):
        with pytest.raises(PermissionError):
            os.rename(data, stack.mount_point / new)
    for new, number in (("a b", errno.EINVAL), ("other", errno.EEXIST)):
        with pytest.raises(FusedmError) as refused:
            stack.call("dm.rename", name="data", new=new)
        assert refused.value.errno == number
    stack.call("dm.remove", name="other")

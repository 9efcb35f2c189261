"""Engines on a real mount: ready-made ones, their keyslots as they are used, and a reset."""

from collections.abc import Iterator

import pytest

from tests.helpers import reference_xts
from tests.helpers.mounted import KEYS, Mounted, mounted_stack, read_at, write_at

pytestmark = pytest.mark.fuse

TOML = """
version = 1
[disks.ufs0]
size = "4MiB"
store = "memory:"
engine = { profile = "ufs", keyslots = 2, program_latency_ms = 1 }
[disks.fmp0]
size = "4MiB"
store = "memory:"
engine = "exynos-fmp"
[disks.all0]
size = "4MiB"
store = "memory:"
engine = "everything"
[disks.bad0]
size = "4MiB"
store = "memory:"
engine = { profile = "ufs", faults = { program = { nth = 1 }, dun = { probability = 1 } } }
[keys.alice]
mode = "AES-256-XTS"
data_unit_size = 4096
dun_bytes = 8
source = "file:alice.key"
[keys.bob]
mode = "AES-256-XTS"
data_unit_size = 4096
dun_bytes = 8
source = "random"
[keys.carol]
mode = "AES-256-XTS"
data_unit_size = 4096
dun_bytes = 8
source = "random"
[views.bad]
device = "bad0"
key = "alice"
[views.a]
device = "ufs0"
key = "alice"
[views.b]
device = "ufs0"
key = "bob"
[views.c]
device = "ufs0"
key = "carol"
"""


@pytest.fixture(scope="module")
def stack(way: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    with mounted_stack(TOML, tmp_path_factory.mktemp("engines")) as mounted:
        yield mounted


def slots(stack: Mounted) -> list[dict[str, str]]:
    """The lines of the file, each as a table."""
    lines = [line.split() for line in stack.told("ufs0", "fusedm/keyslots").splitlines()]
    return [
        {"slot": words[0], "key": words[1], **dict(zip(words[2::2], words[3::2], strict=True))}
        for words in lines
    ]


@pytest.mark.parametrize(
    ("name", "file", "text"),
    [
        ("ufs0", "num_keyslots", "2\n"),
        ("ufs0", "max_dun_bits", "64\n"),
        ("ufs0", "modes/AES-256-XTS", "0x1000\n"),
        ("ufs0", "raw_keys", "supported\n"),
        ("fmp0", "num_keyslots", "0\n"),
        ("fmp0", "max_dun_bits", "128\n"),
        ("all0", "max_dun_bits", "256\n"),
        ("all0", "modes/AES-256-XTS", "0x1fe00\n"),
        ("all0", "hw_wrapped_keys", "supported\n"),
    ],
)
def test_a_ready_made_engine_is_told_as_the_kernel_would(
    stack: Mounted, name: str, file: str, text: str
) -> None:
    assert stack.told(name, f"queue/crypto/{file}") == text


def test_an_engine_for_raw_keys_only_has_no_file_of_wrapped_ones(stack: Mounted) -> None:
    assert not (stack.sys("ufs0") / "queue/crypto/hw_wrapped_keys").exists()
    assert not (stack.sys("fmp0") / "fusedm/keyslots").exists()


def test_keyslots_are_counted_as_they_are_used_and_survive_a_reset(stack: Mounted) -> None:
    data = bytes(range(256)) * 16
    write_at(stack.view("a"), 0, data)
    write_at(stack.view("b"), 4096, data)
    before = slots(stack)
    assert [slot["key"] for slot in before] == ["alice", "bob"]
    for _ in range(10):
        read_at(stack.view("a"), 0, 4096)
    assert int(slots(stack)[0]["hits"]) == int(before[0]["hits"]) + 10
    write_at(stack.view("c"), 8192, data)  # Takes the slot that was used least recently.
    assert [slot["key"] for slot in slots(stack)] == ["alice", "carol"]
    told = stack.fusedm("disk", "reset-engine", "ufs0")
    assert (told.returncode, told.stdout) == (0, "programmed anew: alice, carol\n")
    after = slots(stack)
    assert [int(slot["programs"]) for slot in after] == [2, 3]
    assert [slot["users"] for slot in after] == ["0", "0"]
    assert read_at(stack.view("a"), 0, 4096) == data
    assert read_at(stack.view("c"), 8192, 4096) == data
    assert [slot["slot"] for slot in stack.call("disk.show", name="ufs0")["slots"]] == [0, 1]


def test_a_disk_without_keyslots_is_reset_too_and_one_without_engine_is_not(
    stack: Mounted,
) -> None:
    assert stack.fusedm("disk", "reset-engine", "fmp0").stdout == "programmed anew: no key\n"
    refused = stack.fusedm("disk", "reset-engine", "nobody")
    assert refused.returncode == 1
    assert refused.stderr == "fusedm: 'nobody' is not a disk of this stack\n"


def test_an_engine_fails_as_it_was_told_to_through_the_mount_as_well(stack: Mounted) -> None:
    data = bytes(range(256)) * 16
    with pytest.raises(OSError, match="Input/output error"):
        write_at(stack.view("bad"), 0, data)
    for index in range(3):
        write_at(stack.view("bad"), 4096 * index, data)
    for index in range(3):
        expected = reference_xts.encrypt(KEYS["alice"], 4096, index + 1, data)
        assert read_at(stack.disk("bad0"), 4096 * index, 4096) == expected
        assert read_at(stack.view("bad"), 4096 * index, 4096) == data
    (first, *_) = stack.call("disk.show", name="bad0")["slots"]
    assert (first["key"], first["held"], first["programs"]) == ("alice", "alice", 1)
    assert first["hits"] == 5

"""why, explain and verify on a real mount: what they find there, and how they exit."""

import json

import pytest

from tests.helpers.cli import Place, place, run
from tests.helpers.mounted import read_at, write_at

pytestmark = pytest.mark.fuse

UNIT = 4096
PLAIN = bytes(range(7, 7 + 128)) * (8 * UNIT // 128)
NEAR = ["--device", "data", "--key", "alice", "--dun-base", "2"]


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """A stack with eight data units at the beginning of home, and three in its second half."""
    with place(tmp_path_factory.mktemp("looking")) as it:
        it.up()
        home = it.mount_point / "views/home"
        write_at(home, 0, b"".join(bytes([i]) * 16 + PLAIN[16:UNIT] for i in range(8)))
        write_at(home, 2 << 20, PLAIN[: 3 * UNIT])
        yield it


@pytest.fixture
def disk(stack: Place):
    """The raw disk below the beginning of home; what a test writes there is undone."""
    path = stack.mount_point / "disks/ufs0"
    before = read_at(path, 0, 16 * UNIT)
    yield path
    write_at(path, 0, before)


@pytest.fixture
def backup(stack: Place, tmp_path):
    """A file of what home shows."""
    path = tmp_path / "backup"
    path.write_bytes(read_at(stack.mount_point / "views/home", 0, 16 * UNIT))
    return path


def told(stack: Place, code: int, *words: object) -> str:
    """What a verb prints that exits with a code."""
    done = run(*map(str, words), env=stack.env)
    assert done.returncode == code, done
    return done.stdout


def test_why_tells_who_takes_a_capability_away(stack: Place):
    text = told(stack, 1, "why", "home")
    assert "plain0 has no inline engine" in text
    rows = [line.split()[:5] for line in text.splitlines()[-2:]]
    assert rows == [
        ["0", "4096", "linear", "native", "ufs0"],
        ["4096", "4096", "linear", "leaf", "fallback"],
    ]
    assert json.loads(told(stack, 0, "why", "--json", "ufs0", "AES-256-XTS/512"))["missing"] == []


def test_why_tells_what_a_table_would_lose(stack: Place, tmp_path):
    (tmp_path / "table").write_text("0 8192 linear plain0 0\n")
    text = told(stack, 1, "why", "data", "--table", tmp_path / "table")
    assert "view home (AES-256-XTS/4096): 4096 sectors native, 0 with this table:" in text
    assert told(stack, 0, "dm", "table", "data", "--inactive") == "\n"


def test_explain_leads_to_the_bytes_of_the_file(stack: Place):
    text = told(stack, 0, "explain", "home", "4KiB", "8KiB")
    assert "DUN 1..2" in text
    assert text.splitlines()[-1].strip() == (
        f"`-engine, keyslot 0: bytes 4096..12288 of file:{stack.folder}/ufs0.img"
    )
    on_file = read_at(stack.folder / "ufs0.img", UNIT, 2 * UNIT)
    assert on_file == read_at(stack.mount_point / "disks/ufs0", UNIT, 2 * UNIT)
    found = json.loads(told(stack, 0, "explain", "home", "2MiB", "100", "--write", "--json"))
    assert found["requests"][0]["kind"] == "patch"
    assert "ends past the end" in told(stack, 1, "explain", "home", "4MiB", "1", "--write")


def test_verify_finds_nothing_on_a_sound_stack(stack: Place, backup):
    text = told(stack, 0, "verify", "home")
    assert "1024 data units of 4096: 11 compared under AES-256-XTS, 1013 holes, 0 wrong" in text
    args = ["--json", "--length", "64KiB", "--against", backup]
    (found,) = json.loads(told(stack, 0, "verify", "home", *args))
    assert (found["units"], found["mismatches"], found["difference_count"]) == (16, [], 0)


def test_verify_against_a_file_finds_a_flipped_byte(stack: Place, disk, backup):
    (byte,) = read_at(disk, 3 * UNIT + 1000, 1)
    write_at(disk, 3 * UNIT + 1000, bytes([byte ^ 1]))
    text = told(stack, 1, "verify", "home", "--length", "64KiB", "--against", backup)
    assert "1 blocks differ" in text
    assert f"(block at {3 * UNIT})" in text


def test_verify_against_a_file_finds_swapped_sectors(stack: Place, disk, backup):
    one, other = read_at(disk, UNIT, UNIT), read_at(disk, 2 * UNIT, UNIT)
    write_at(disk, UNIT, other + one)
    args = ["--json", "--length", "64KiB", "--against", backup]
    (found,) = json.loads(told(stack, 1, "verify", "home", *args))
    assert [one["offset"] for one in found["differences"]] == [UNIT, 2 * UNIT]


def test_verify_finds_a_key_and_number_used_twice(stack: Place):
    assert "no two views" in told(stack, 0, "verify", "--reuse")
    stack.ok("view", "add", "near", *NEAR)
    try:
        text = told(stack, 1, "verify", "--reuse", "--length", "32KiB")
        assert "home and near, key alice: DUN 2..1023 are in both, REUSED" in text
        assert "data of 6: 6 DIFFERENT" in text
        (found,) = json.loads(told(stack, 1, "verify", "--reuse", "--sample", 20, "--json"))
        assert (found["different"], found["data"]["looked_at"]) == (1022, 20)
    finally:
        stack.ok("view", "remove", "near")


def test_verify_tells_whether_numbers_fit(stack: Place):
    assert "home: DUN 0..1023 fit 8 bytes" in told(stack, 0, "verify", "--dun")


def test_verify_looks_into_the_keyslots_of_an_engine(stack: Place):
    assert told(stack, 0, "verify", "--keyslots", "ufs0", "plain0").splitlines() == [
        "ufs0: 1 of 4 keyslots hold keys, 0 wrong",
        "plain0: no keyslots",
    ]


def test_verify_finds_plaintext_on_a_disk(stack: Place, disk):
    assert told(stack, 0, "verify", "--leak", "ufs0", "plain0").splitlines() == [
        "ufs0: 0 sectors of plaintext",
        "plain0: 0 sectors of plaintext",
    ]
    write_at(disk, 12 * UNIT, PLAIN[UNIT : UNIT + 512])
    text = told(stack, 1, "verify", "--leak", "ufs0", "--limit", "5")
    assert text.startswith("ufs0: 1 sectors of plaintext\n  PLAINTEXT at byte 49152: as home shows")


@pytest.mark.parametrize(
    ("code", "words", "text"),
    [
        (1, ["verify", "data"], "'data' is not a view: nothing on it is encrypted"),
        (
            2,
            ["verify", "home", "--offset", "8MiB"],
            "home: bytes 8388608..4194304 are no range in 0..4194304",
        ),
        (1, ["why", "nobody"], "'nobody' is not a device of this stack"),
        (1, ["verify", "--leak", "home"], "'home' is not a disk of this stack"),
    ],
)
def test_what_cannot_be_looked_at_is_refused_by_name(stack: Place, code, words, text):
    assert stack.refused(code, *words) == text

"""What is special to flakey; the rest is in tests/contracts/test_every_target.py."""

import pytest

from fusedm.block import FLUSH, Bio, CryptContext, Op
from fusedm.block.errors import BlockIOError, Status, TableError
from fusedm.dm import Action, Complete, Fail, Remap, Target, parse_table
from tests.helpers import reference_xts
from tests.helpers.builders import make_disk, make_key, make_mapped, medium, pattern, read, write
from tests.helpers.devices import RecordingDevice, lookup_in

D0 = RecordingDevice("d0", 4096)
READ = Bio.read(5, memoryview(bytearray(512)))
WRITE = Bio.write(5, memoryview(bytes(512)))
DISCARD = Bio(Op.DISCARD, 5, 8)
EIO = Fail(Status.IOERR)
WRITES = pytest.mark.parametrize("bio", [WRITE, DISCARD, FLUSH], ids=str)
ALWAYS_DOWN = "d0 10 0 1"


class Clock:
    """A time that stands still until it is set; it does not start at 0."""

    now = 1000.5

    def __call__(self) -> float:
        return self.now


def make(words: str, clock: Clock | None = None) -> Target:
    table = parse_table(f"0 1024 flakey {words}", lookup_in(D0), clock or Clock())
    return table.entries[0].target


def passed(bio: Bio) -> Action:
    return Remap(D0, bio if bio is FLUSH else bio.remap(bio.sector + 10))


def test_up_and_down_follow_each_other_from_the_making_on():
    clock = Clock()
    target = make("d0 10 3 2", clock)
    seen = ""
    for _ in range(10):
        seen += "D" if target.map(READ) == EIO else "U"
        clock.now += 1
    assert seen == "UUUDDUUUDD"


@pytest.mark.parametrize(("seconds", "down"), [(2.99, False), (3.0, True), (4.99, True)])
def test_whole_seconds_count(seconds, down):
    clock = Clock()
    target = make("d0 10 3 2", clock)
    clock.now += seconds
    assert (target.map(READ) == EIO) is down


@pytest.mark.parametrize("bio", [READ, WRITE, DISCARD, FLUSH], ids=str)
def test_up_is_linear(bio):
    assert make("d0 10 1 0 2 error_reads drop_writes").map(bio) == passed(bio)


@pytest.mark.parametrize("words", ["", "0"])
@pytest.mark.parametrize("bio", [READ, WRITE, DISCARD, FLUSH], ids=str)
def test_without_features_everything_fails_while_down(words, bio):
    target = make(f"{ALWAYS_DOWN} {words}")
    assert target.map(bio) == EIO
    assert target.params() == [D0, "10", "0", "1", "2", "error_reads", "error_writes"]


@WRITES
def test_error_reads_leaves_writes_alone(bio):
    target = make(f"{ALWAYS_DOWN} 1 error_reads")
    assert (target.map(READ), target.map(bio)) == (EIO, passed(bio))


@WRITES
def test_error_writes_leaves_reads_alone(bio):
    target = make(f"{ALWAYS_DOWN} 1 error_writes")
    assert (target.map(READ), target.map(bio)) == (passed(READ), EIO)


@WRITES
def test_drop_writes_loses_them_with_success(bio):
    target = make(f"{ALWAYS_DOWN} 1 drop_writes")
    assert (target.map(READ), target.map(bio)) == (passed(READ), Complete())


def test_features_are_read_in_any_case_and_order():
    target = make("d0 10 1 1 2 Drop_Writes ERROR_READS")
    assert target.params()[4:] == ["2", "error_reads", "drop_writes"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("d0 0 0 0", r"argument 4: up 0 \+ down 0 is not in 1\.\.4294967295 seconds"),
        ("d0 0 4294967295 1", r"argument 4: up 4294967295 \+ down 1 is not in 1.*"),
        ("d0 0 1 1 x", r"argument 5: features: 'x' is not a number of words"),
        ("d0 0 1 1 12", r"argument 5: features: 12 is not in 0\.\.11 words"),
        ("d0 0 1 1 2 error_reads", "argument 5: features 2: 2 words are announced, 1 follow"),
        (
            "d0 0 1 1 1 error_reads drop_writes",
            "argument 5: features 1: 1 words are announced, 2 follow",
        ),
        (
            "d0 0 1 1 1 lose_writes",
            r"argument 6: 'lose_writes' is not one of its features: error_reads, drop_writes, "
            "error_writes, corrupt_bio_byte, random_read_corrupt, random_write_corrupt",
        ),
        (
            "d0 0 1 1 4 corrupt_bio_byte 32 r 1",
            r"argument 10: flags is missing: it takes dev offset up down .*",
        ),
        (
            "d0 0 1 1 1 random_read_corrupt",
            r"argument 7: random_read_corrupt is missing: it takes dev .*",
        ),
        (
            "d0 0 1 1 5 corrupt_bio_byte 0 r 1 0",
            r"argument 7: byte: 0 is not in 1\.\.42949672..",
        ),
        ("d0 0 1 1 5 corrupt_bio_byte 1 x 1 0", r"argument 8: direction: 'x' is not one of r, w"),
        ("d0 0 1 1 5 corrupt_bio_byte 1 r 256 0", r"argument 9: value: 256 is not in 0\.\.255"),
        ("d0 0 1 1 5 corrupt_bio_byte 1 r 1 x", r"argument 10: flags: 'x' is not a number"),
        (
            "d0 0 1 1 2 random_read_corrupt 1000000001",
            r"argument 7: random_read_corrupt: 1000000001 is not in 0\.\.1000000000 in 10.9",
        ),
        (
            "d0 0 1 1 2 error_reads ERROR_READS",
            r"argument 7: error_reads is given twice",
        ),
        (
            "d0 0 1 1 10 corrupt_bio_byte 1 r 1 0 Corrupt_Bio_Byte 1 r 1 0",
            r"argument 11: corrupt_bio_byte is given twice",
        ),
    ],
)
def test_bad_arguments_are_refused(words, text):
    with pytest.raises(TableError, match=f"^table line 1: flakey: {text}$"):
        make(words)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("drop_writes", "error_writes"),
        ("drop_writes", "corrupt_bio_byte 1 w 0 0"),
        ("drop_writes", "random_write_corrupt 1"),
        ("error_writes", "corrupt_bio_byte 1 W 0 0"),
        ("error_writes", "random_write_corrupt 1"),
        ("error_reads", "corrupt_bio_byte 1 r 0 0"),
        ("error_reads", "random_read_corrupt 1"),
    ],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_features_that_leave_each_other_nothing_to_do_are_refused(first, second, swapped):
    words = f"{second} {first}" if swapped else f"{first} {second}"
    with pytest.raises(TableError, match=f"{first} and .* exclude each other"):
        make(f"d0 0 1 1 {len(words.split())} {words}")


def test_features_of_the_other_direction_go_together():
    words = "error_reads corrupt_bio_byte 1 w 2 3 random_write_corrupt 4"
    assert make(f"{ALWAYS_DOWN} 8 {words}").params()[5:] == words.split()
    words = "drop_writes corrupt_bio_byte 1 r 2 3 random_read_corrupt 4"
    assert make(f"{ALWAYS_DOWN} 8 {words}").params()[5:] == words.split()


def test_a_chance_of_nothing_is_no_feature():
    words = "4 random_read_corrupt 0 random_write_corrupt 0"
    assert make(f"{ALWAYS_DOWN} {words}").params()[4:] == ["2", "error_reads", "error_writes"]


def test_the_table_has_the_features_in_the_order_of_the_kernel():
    words = "random_write_corrupt 1 random_read_corrupt 2 CORRUPT_BIO_BYTE 3 R 4 5"
    told = make(f"{ALWAYS_DOWN} 9 {words}").params()[4:]
    ordered = "9 corrupt_bio_byte 3 r 4 5 random_read_corrupt 2 random_write_corrupt 1"
    assert told == ordered.split()


# Damage.


def read_through(words: str, data: bytes = bytes(512), clock: Clock | None = None) -> bytes:
    """What a READ has got when it has ended, if data came from below."""
    target = make(words, clock)
    bio = Bio.read(5, memoryview(bytearray(data)))
    assert target.map(bio) == passed(bio)
    assert target.end_io(bio, None) is None
    return bytes(bio.data)


def written_through(words: str, bio: Bio = WRITE, clock: Clock | None = None) -> bytes:
    """What arrives below of a WRITE."""
    action = make(words, clock).map(bio)
    assert isinstance(action, Remap)
    assert bytes(bio.data) == bytes(512)
    return bytes(action.bio.data)


def changed(number: int, value: int) -> bytes:
    data = bytearray(512)
    data[number - 1] = value
    return bytes(data)


@pytest.mark.parametrize("number", [1, 32, 512])
def test_a_read_is_damaged_when_it_has_ended(number):
    got = read_through(f"{ALWAYS_DOWN} 5 corrupt_bio_byte {number} r 7 0")
    assert got == changed(number, 7)


@pytest.mark.parametrize("flags", [0, 1])
def test_a_write_is_damaged_in_a_copy(flags):
    got = written_through(f"{ALWAYS_DOWN} 5 corrupt_bio_byte 32 w 7 {flags}")
    assert got == changed(32, 7)


@pytest.mark.parametrize("flags", ["w 7 2", "w 7 3", "r 7 1"])
def test_flags_that_a_bio_has_not_leave_it_alone(flags):
    words = f"{ALWAYS_DOWN} 5 corrupt_bio_byte 32 {flags}"
    assert read_through(words) == written_through(words) == bytes(512)


def test_the_other_direction_is_left_alone():
    assert read_through(f"{ALWAYS_DOWN} 5 corrupt_bio_byte 32 w 7 0") == bytes(512)
    assert written_through(f"{ALWAYS_DOWN} 5 corrupt_bio_byte 32 r 7 0") == bytes(512)


def test_a_byte_beyond_the_bio_is_none():
    assert written_through(f"{ALWAYS_DOWN} 5 corrupt_bio_byte 513 w 7 0") == bytes(512)
    assert read_through(f"{ALWAYS_DOWN} 5 corrupt_bio_byte 513 r 7 0") == bytes(512)


def test_nothing_is_damaged_while_up():
    assert read_through("d0 10 1 0 5 corrupt_bio_byte 1 r 7 0") == bytes(512)
    assert written_through("d0 10 1 0 5 corrupt_bio_byte 1 w 7 0") == bytes(512)


def test_a_read_that_failed_is_not_damaged():
    target = make(f"{ALWAYS_DOWN} 5 corrupt_bio_byte 1 r 7 0")
    bio, error = Bio.read(5, memoryview(bytearray(512))), BlockIOError(Status.MEDIUM, "d0", "x")
    assert target.end_io(bio, error) is error
    assert bytes(bio.data) == bytes(512)


@pytest.mark.parametrize("bio", [DISCARD, FLUSH], ids=str)
def test_what_has_no_data_is_passed_by_all_that_damages(bio):
    words = "7 corrupt_bio_byte 1 w 7 0 random_write_corrupt 1000000000"
    assert make(f"{ALWAYS_DOWN} {words}").map(bio) == passed(bio)


def test_a_damaged_write_keeps_its_context():
    crypt = CryptContext(make_key(), 77)
    bio = Bio.write(5, memoryview(bytes(512)), crypt)
    action = make(f"{ALWAYS_DOWN} 5 corrupt_bio_byte 1 w 7 0").map(bio)
    assert isinstance(action, Remap)
    assert action.bio == Bio.write(15, memoryview(changed(1, 7)), crypt)


@pytest.mark.parametrize("slots", [None, 2], ids=["software", "engine"])
async def test_one_byte_of_the_plaintext_is_damaged_and_none_goes_to_the_medium(slots):
    disk, key, data = make_disk("d0", 64, slots=slots), make_key(), pattern(1024)
    words = "flakey d0 0 0 1 5 corrupt_bio_byte"
    mapped = await make_mapped(f"0 64 {words} 3 w 0 0", disk, keys=[key])
    await write(mapped, 8, data, key)
    damaged = data[:2] + b"\0" + data[3:]
    assert await read(mapped, 8, 1024, key) == damaged
    assert medium(disk, 8, 1024) == reference_xts.encrypt(key.raw, 512, 0, damaged)
    mapped = await make_mapped(f"0 64 {words} 5 r 1 0", disk, keys=[key])
    got = await read(mapped, 8, 1024, key)
    assert [i for i in range(1024) if got[i] != damaged[i]] == [4]


@pytest.mark.parametrize("way", ["read", "write"])
def test_random_damage_comes_as_often_as_was_asked_and_repeats(way):
    def damaged() -> list[bytes]:
        target = make(f"{ALWAYS_DOWN} 2 random_{way}_corrupt 250000000")
        results = []
        for _ in range(400):
            bio = Bio(Op(way), 5, 1, memoryview(bytearray(512)))
            action = target.map(bio)
            assert isinstance(action, Remap)
            assert target.map(bio) == action
            target.end_io(bio, None)
            results.append(bytes(action.bio.data))
        return results

    first = damaged()
    hits = [data for data in first if any(data)]
    assert 70 < len(hits) < 130
    assert {len(data) - data.count(0) for data in hits} == {1}
    assert damaged() == first

"""What is special to flakey; the rest is in tests/contracts/test_every_target.py."""

import pytest

from fusedm.block import FLUSH, Bio, Op
from fusedm.block.errors import Status, TableError
from fusedm.dm import Action, Complete, Fail, Remap, Target, parse_table
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


@pytest.mark.parametrize("times", ["1 0", "0 1"])
def test_write_zeroes_is_not_supported(times):
    target = make(f"d0 10 {times} 1 drop_writes")
    assert target.map(Bio(Op.WRITE_ZEROES, 0, 8)) == Fail(Status.NOTSUPP)


def test_features_are_read_in_any_case_and_order():
    target = make("d0 10 1 1 2 Drop_Writes ERROR_READS")
    assert target.params()[4:] == ["2", "error_reads", "drop_writes"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("d0 0 0 0", r"up 0 \+ down 0 is not in 1\.\.4294967295"),
        ("d0 0 4294967295 1", r"up 4294967295 \+ down 1 is not in 1\.\.4294967295"),
        ("d0 0 1 1 x", r"argument 5 \(features\): 'x' is not a number"),
        ("d0 0 1 1 12", r"argument 5 \(features\): 12 is not in 0\.\.11"),
        ("d0 0 1 1 2 error_reads", "2 features announced, 1 given"),
        ("d0 0 1 1 1 error_reads drop_writes", "1 features announced, 2 given"),
        (
            "d0 0 1 1 5 corrupt_bio_byte 32 r 1 0",
            r"argument 6 \(feature\): 'corrupt_bio_byte' is unknown: "
            "use error_reads, drop_writes, error_writes",
        ),
        (
            "d0 0 1 1 2 error_reads ERROR_READS",
            r"argument 7 \(feature\): error_reads is given twice",
        ),
        (
            "d0 0 1 1 2 drop_writes error_writes",
            "drop_writes and error_writes exclude each other",
        ),
    ],
)
def test_bad_arguments_are_refused(words, text):
    with pytest.raises(TableError, match=f"^table line 1: flakey: {text}$"):
        make(words)

"""What is special to striped; the rest is in tests/contracts/test_every_target.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusedm.block import FLUSH, Bio, Limits, Op
from fusedm.block.errors import BlockIOError, Status, TableError
from fusedm.dm import Many, Remap, Target, parse_table
from fusedm.dm.targets.striped import MAX_EVENTS
from tests.helpers.devices import RecordingDevice, lookup_in

DEVICES = [RecordingDevice(name, 4096) for name in ("d0", "d1", "d2")]
D0, D1, D2 = DEVICES


def make(words: str, length: int = 24) -> Target:
    table = parse_table(f"0 {length} striped {words}", lookup_in(*DEVICES), lambda: 0.0)
    return table.entries[0].target


def read_at(sector: int, sector_count: int = 1) -> Bio:
    return Bio.read(sector, memoryview(bytearray(512 * sector_count)))


def test_chunks_go_round_the_stripes():
    target = make("3 4 d0 0 d1 100 d2 200")
    places = [(D0, 0), (D1, 100), (D2, 200), (D0, 4), (D1, 104), (D2, 204)]
    for chunk, (device, sector) in enumerate(places):
        assert target.map(read_at(chunk * 4)) == Remap(device, read_at(sector))
        assert target.map(read_at(chunk * 4 + 3)) == Remap(device, read_at(sector + 3))


def test_a_chunk_need_not_be_a_power_of_two():
    assert make("2 3 d0 0 d1 0", 12).map(read_at(10)) == Remap(D1, read_at(4))


@given(stripes=st.integers(1, 3), chunk=st.integers(1, 7), rows=st.integers(1, 5), data=st.data())
def test_every_sector_has_a_place_of_its_own(stripes, chunk, rows, data):
    length = stripes * chunk * rows
    words = " ".join(f"d{index} 10" for index in range(stripes))
    target = make(f"{stripes} {chunk} {words}", length)
    actions = [target.map(read_at(sector)) for sector in range(length)]
    places = {(action.device.name, action.bio.sector) for action in actions}
    assert len(places) == length
    assert {sector for _, sector in places} == set(range(10, 10 + chunk * rows))


def test_bios_are_split_at_chunks():
    assert make("2 4 d0 0 d1 0").max_io_sectors == 4


def test_a_flush_goes_to_every_stripe():
    expected = Many((Remap(D0, FLUSH), Remap(D1, FLUSH), Remap(D0, FLUSH)))
    assert make("3 4 d0 0 d1 0 d0 100").map(FLUSH) == expected


def test_a_discard_is_one_range_in_each_stripe_it_touches():
    action = make("3 4 d0 0 d1 100 d2 200").map(Bio(Op.DISCARD, 2, 15))
    assert action == Many(
        (
            Remap(D0, Bio(Op.DISCARD, 2, 5 - 2 + 3)),
            Remap(D1, Bio(Op.DISCARD, 100, 5)),
            Remap(D2, Bio(Op.DISCARD, 200, 4)),
        )
    )


def test_a_stripe_that_is_not_touched_gets_no_discard():
    assert make("2 4 d0 0 d1 0").map(Bio(Op.DISCARD, 5, 2)) == Many(
        (Remap(D1, Bio(Op.DISCARD, 1, 2)),)
    )


def test_the_best_io_is_a_row_and_the_least_a_chunk():
    assert make("3 4 d0 0 d1 0 d2 0").limits() == Limits(io_min_bytes=2048, io_opt_bytes=6144)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("0 4", r"argument 1: stripes: 0 is not in 1\.\."),
        ("1 0 d0 0", r"argument 2: chunk: 0 is not in 1\.\."),
        ("2 4 d0 0", r"argument 1: stripes 2: 4 words should follow, 2 do"),
        ("1 4 d0 0 d1 0", r"argument 1: stripes 1: 2 words should follow, 4 do"),
        ("2 5 d0 0 d1 0", r"length 24 is not a multiple of 2 stripes \* 5 sectors"),
        ("2 4 d0 x d1 0", r"argument 4: offset: 'x' is not a number"),
        ("2 4 d0 0 d9 0", r"argument 5: dev: no device is named 'd9'"),
        ("2 4 d0 0 d1 4090", r"4090 \+ 12 sectors ends past d1 \(4096 sectors\)"),
    ],
)
def test_bad_arguments_are_refused(words, text):
    with pytest.raises(TableError, match=f"^table line 1: striped: {text}"):
        make(words)


def test_status_says_which_stripe_has_failed():
    target = make("2 4 d0 0 d1 0")
    error = BlockIOError(Status.IOERR, "d1", "broken")
    assert target.status() == ["2", D0, D1, "1", "AA"]
    assert target.end_io(read_at(5), error) is error
    assert target.status() == ["2", D0, D1, "1", "AD"]


@pytest.mark.parametrize(
    ("bio", "error"),
    [
        (read_at(5), None),
        (read_at(5), BlockIOError(Status.NOTSUPP, "d1", "refused")),
        (FLUSH, BlockIOError(Status.IOERR, "d1", "broken")),
    ],
)
def test_what_is_no_failure_of_one_stripe_is_not_held_against_it(bio, error):
    target = make("2 4 d0 0 d1 0")
    assert target.end_io(bio, error) is error
    assert target.status()[-1] == "AA"


def test_the_first_errors_of_a_stripe_are_events():
    target = make("1 4 d0 0")
    events = []
    target.raise_event = lambda: events.append(1)
    for _ in range(MAX_EVENTS + 3):
        target.end_io(Bio.read(0, memoryview(bytearray(512))), BlockIOError(Status.IOERR, "d0", ""))
    assert len(events) == MAX_EVENTS

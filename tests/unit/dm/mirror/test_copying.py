"""Copying a range from one leg to others."""

import pytest

from fusedm.block import Op
from fusedm.block.errors import BlockIOError, Status
from fusedm.dm.mirror.copying import PIECE_SECTORS, copy_range
from fusedm.dm.target import Segment
from tests.helpers.devices import RecordingDevice

D0, D1, D2 = (RecordingDevice(f"d{index}", 1 << 20) for index in range(3))
SOURCE, OTHERS = Segment(D0, 8, 1 << 19), [Segment(D1, 0, 1 << 19), Segment(D2, 16, 1 << 19)]
ERROR = BlockIOError(Status.IOERR, "d", "told to fail")


def carry_out(begin: int, end: int, failing: tuple[int, int] | None = None):
    """What a copy asks for, step by step, and what it returns."""
    steps, asked = copy_range(SOURCE, OTHERS, begin, end), []
    try:
        step = next(steps)
        while True:
            asked.append(
                [
                    (one.device.name, one.bio.op, one.bio.sector, one.bio.sector_count)
                    for one in step.actions
                ]
            )
            outcomes = [None] * len(step.actions)
            if failing is not None and failing[0] == len(asked) - 1:
                outcomes[failing[1]] = ERROR
            step = steps.send(outcomes)
    except StopIteration as end:
        return asked, end.value


def test_a_small_range_is_read_and_written_to_all_others():
    assert carry_out(10, 18) == (
        [[("d0", Op.READ, 18, 8)], [("d1", Op.WRITE, 10, 8), ("d2", Op.WRITE, 26, 8)]],
        [],
    )


def test_the_next_piece_is_read_while_one_is_written():
    size = PIECE_SECTORS
    asked, failed = carry_out(0, size + 8)
    assert asked[1] == [
        ("d1", Op.WRITE, 0, size),
        ("d2", Op.WRITE, 16, size),
        ("d0", Op.READ, 8 + size, 8),
    ]
    assert len(asked) == 3
    assert failed == []


@pytest.mark.parametrize(
    ("failing", "failed"), [((0, 0), [None]), ((1, 0), [0]), ((1, 1), [1]), ((1, 2), [None])]
)
def test_it_stops_at_the_first_failure_and_says_whose_it_was(failing, failed):
    asked, said = carry_out(0, 3 * PIECE_SECTORS, failing)
    assert said == failed
    assert len(asked) == failing[0] + 1

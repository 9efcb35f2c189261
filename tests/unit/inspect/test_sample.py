"""A sample of numbers that two views share is one of numbers with data, however sparse they are."""

import pytest

from fusedm.block.errors import StackError
from fusedm.files.device_file import write as write_file
from fusedm.inspect import sample as sample_module
from fusedm.inspect import sample_duns
from fusedm.inspect.sample import MAX_SAMPLE
from fusedm.system import System
from tests.helpers.builders import make_disk, make_key, pattern

UNIT = 4096
SECTORS = 1 << 31


async def views(strict=False, unit=UNIT):
    """a at 0 of d0, b at 1 MiB of d1: numbers from 8 on are in both; 1 TiB each, and all holes."""
    system = System(strict=strict)
    for name in ("d0", "d1"):
        system.add_disk(make_disk(name, SECTORS))
    system.add_key(make_key("k", UNIT))
    system.add_key(make_key("other", unit))
    one = system.add_view("a", "d0", "k", 0)
    return one, system.add_view("b", "d1", "other", 8, start=1 << 20)


async def put(view, dun, count):
    unit = view.key.config.data_unit_size
    await write_file(view, (dun - view.dun_base) * unit, memoryview(pattern(count * unit)))


@pytest.mark.parametrize("strict", [False, True])
async def test_only_numbers_with_data_in_both_are_picked(strict):
    one, other = await views(strict)
    await put(one, 100, 10)
    await put(one, 1 << 27, 3)
    await put(other, 105, 20)
    await put(other, (1 << 27) + 1, 1)
    told = await sample_duns(one, other, 8, (1 << 28) - 1, 100, 0)
    assert told == {"with_data": 6, "duns": [105, 106, 107, 108, 109, (1 << 27) + 1]}


async def test_a_sample_is_as_large_as_asked_for_and_of_its_seed():
    one, other = await views()
    await put(one, 8, 200)
    await put(other, 8, 90)
    await put(other, 108, 50)
    first = await sample_duns(one, other, 8, 1 << 20, 30, 7)
    assert first == await sample_duns(one, other, 8, 1 << 20, 30, 7)
    assert first != await sample_duns(one, other, 8, 1 << 20, 30, 8)
    assert first["with_data"] == 140
    assert len(set(first["duns"])) == 30
    assert set(first["duns"]) <= {*range(8, 98), *range(108, 158)}


async def test_numbers_of_other_data_unit_sizes_are_compared_where_both_have_data():
    one, other = await views(unit=512)
    await put(one, 16, 4)
    await put(other, 17, 2)
    picked = set((await sample_duns(one, other, 8, 1000, 100, 0))["duns"])
    # Holes are told in blocks of a medium: a neighbour may count as data, and no data are missed.
    assert {17, 18} <= picked <= {16, 17, 18, 19}


async def test_without_data_in_both_there_is_nothing_to_pick():
    one, other = await views()
    assert await sample_duns(one, other, 8, 1000, 10, 0) == {"with_data": 0, "duns": []}
    await put(one, 8, 10)
    assert await sample_duns(one, other, 8, 1000, 10, 0) == {"with_data": 0, "duns": []}


async def test_numbers_beyond_the_overlap_are_not_picked():
    one, other = await views()
    await put(one, 8, 100)
    await put(other, 8, 100)
    assert (await sample_duns(one, other, 10, 12, 10, 0))["duns"] == [10, 11, 12]


async def test_beyond_so_many_stretches_all_is_taken_for_data(monkeypatch):
    monkeypatch.setattr(sample_module, "MAX_STRETCHES", 2)
    one, other = await views()
    for dun in (8, 10, 12):
        await put(one, dun, 1)
    await put(other, 8, 20)
    told = await sample_duns(one, other, 8, 15, 100, 0)
    assert told == {"with_data": 7, "duns": [8, 10, 11, 12, 13, 14, 15]}


async def test_a_sample_that_no_answer_holds_is_refused():
    one, other = await views()
    with pytest.raises(StackError, match=f"0..{MAX_SAMPLE} DUNs, {MAX_SAMPLE + 1} asked for"):
        await sample_duns(one, other, 8, 9, MAX_SAMPLE + 1, 0)

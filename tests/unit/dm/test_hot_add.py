"""Devices that a table adds to a live one, where they may not have fewer crypto capabilities."""

import errno

import pytest

from fusedm.block import KeyType
from fusedm.block.errors import TableError
from fusedm.dm import MappedDevice, Table, parse_table
from tests.helpers.builders import make_disk
from tests.helpers.devices import lookup_in

STRIPES = "0 64 striped 2 8 {} 0 {} 0"


def table(text: str, *below) -> Table:
    return parse_table(text, lookup_in(*below), lambda: 0.0)


def disks():
    return [
        make_disk("strong", 64, slots=2),
        make_disk("other", 64, slots=2),
        make_disk("short", 64, slots=2, dun_bytes=4),
        make_disk("coarse", 64, slots=2, units=(4096,)),
        make_disk("wrapping", 64, slots=2, key_types=(KeyType.HW_WRAPPED,)),
        make_disk("plain", 64),
    ]


async def make(takes_weaker: bool, first: str = "strong other") -> tuple[MappedDevice, list]:
    below = disks()
    mapped = MappedDevice("array", takes_weaker=takes_weaker)
    mapped.load(table(STRIPES.format(*first.split()), *below))
    await mapped.resume()
    return mapped, below


@pytest.mark.parametrize(
    ("added", "lacks"),
    [
        ("plain", "AES-256-XTS of 512, 4096 bytes; 8 DUN bytes, it has 0; raw keys"),
        ("coarse", "AES-256-XTS of 512 bytes"),
        ("short", "8 DUN bytes, it has 4"),
        ("wrapping", "raw keys"),
    ],
)
async def test_a_device_that_can_do_less_is_refused_and_it_is_said_what_it_lacks(added, lacks):
    mapped, below = await make(takes_weaker=False)
    new = table(STRIPES.format("strong", added), *below)
    with pytest.raises(TableError) as caught:
        mapped.load(new)
    text = f"table: {added} lacks {lacks}, which what stays below array has (hot_add: superset)"
    assert (str(caught.value), caught.value.errno) == (text, errno.EINVAL)
    assert mapped.inactive is None


@pytest.mark.parametrize("added", ["plain", "coarse", "short", "wrapping"])
async def test_without_the_rule_any_device_is_taken_and_what_is_offered_shrinks(added):
    mapped, below = await make(takes_weaker=True)
    before = mapped.capabilities
    mapped.load(table(STRIPES.format("strong", added), *below))
    await mapped.resume()
    assert before.covers(mapped.capabilities)
    assert mapped.capabilities != before
    mapped.load(table(STRIPES.format("strong", "other"), *below))
    await mapped.resume()
    assert mapped.capabilities == before


async def test_a_device_that_can_do_as_much_as_those_that_stay_is_taken():
    mapped, below = await make(takes_weaker=False, first="coarse plain")
    mapped.load(table(STRIPES.format("coarse", "strong"), *below))
    await mapped.resume()
    mapped, below = await make(takes_weaker=False)
    mapped.load(table(STRIPES.format("other", "strong"), *below))
    await mapped.resume()


@pytest.mark.parametrize("new", ["0 64 linear plain 0", "0 64 delay plain 0 0"])
async def test_nothing_is_asked_where_nothing_stays_or_contexts_end_above(new):
    mapped, below = await make(takes_weaker=False)
    mapped.load(table(new, *below))
    await mapped.resume()

"""Bios, table swaps, engines and resets in orders of tasks that follow from a seed."""

import pytest
import trio

from fusedm.block import Capabilities
from fusedm.block.errors import CryptoError, KeyBusy
from fusedm.crypto import InlineEngine, evict_key, start_using_key
from fusedm.inspect.independent import encrypt_unit
from fusedm.system import System
from tests.helpers.builders import (
    MODE,
    assert_nothing_is_held,
    make_disk,
    make_key,
    medium,
    pattern,
    read,
    write,
)
from tests.helpers.seeded_scheduler import run_seeded

UNIT, UNITS = 512, 6
KEYS = [make_key(name, UNIT) for name in "abc"]
TABLES = ("0 64 linear d0 0", "0 32 linear d0 0\n32 32 flakey d0 32 60 0")


def engine():
    return InlineEngine(Capabilities.of({MODE: [512, 4096]}, 8), 1, 0.001)


async def everything_at_once(order):
    """Three keys on one keyslot, each with a part of dm0 of its own; all that may change does."""
    system = System()
    disk = make_disk("d0", slots=1, latency=0.001)
    system.add_disk(disk)
    system.add_mapped("dm0")
    system.load("dm0", TABLES[0])
    await system.resume("dm0")
    device = system.mapped["dm0"]
    for key in KEYS:
        start_using_key(device, key)

    async def use(index, key):
        for unit in range(UNITS):
            sector = index * UNITS + unit
            await write(device, sector, pattern(UNIT, sector), key, sector)
            order.append((key.name, unit))
            assert await read(device, sector, UNIT, key, sector) == pattern(UNIT, sector)

    async def swap_tables():
        for number in range(4):
            system.load("dm0", TABLES[number % 2])
            await system.resume("dm0")
            order.append(("table", number))

    async def swap_engines():
        for number in range(4):
            ended = system.swap_engine("d0", None if number % 2 == 0 else engine())
            await ended()
            order.append(("engine", number))

    async def reset():
        for number in range(3):
            if disk.engine is not None:
                try:
                    await disk.engine.reset()
                except CryptoError:
                    order.append(("busy", number))
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        for index, key in enumerate(KEYS):
            nursery.start_soon(use, index, key)
        for task in (swap_tables, swap_engines, reset):
            nursery.start_soon(task)
    for index, key in enumerate(KEYS):
        for unit in range(UNITS):
            sector = index * UNITS + unit
            wanted = encrypt_unit(MODE, bytes(key.raw), sector, bytes(pattern(UNIT, sector)))
            assert bytes(medium(disk, sector, UNIT)) == wanted, (key, unit)
    for key in KEYS:
        evict_key(device, key)
    assert_nothing_is_held(disk, device)


@pytest.mark.parametrize("seed", range(25))
def test_every_byte_is_that_of_software_in_whatever_order_tasks_run(seed):
    run_seeded(seed, everything_at_once, [])


def test_a_seed_gives_one_order_and_another_seed_another():
    orders = []
    for seed in (1, 1, 2, 3):
        orders.append([])
        run_seeded(seed, everything_at_once, orders[-1])
    assert orders[0] == orders[1]
    assert len({str(order) for order in orders}) == 3


@pytest.mark.parametrize("seed", range(25))
def test_an_eviction_between_bios_is_whole_or_refused_in_whatever_order_tasks_run(seed):
    async def main():
        disk = make_disk("d0", slots=2, latency=0.001)
        outcomes = []

        async def use(key):
            start_using_key(disk, key)
            for unit in range(4):
                await write(disk, unit, pattern(UNIT), key, unit)

        async def evict(key):
            for _ in range(6):
                await trio.sleep(0.0005)
                before = disk.engine.slots.slot_of(key)
                try:
                    evict_key(disk, key)
                    outcomes.append("evicted")
                    assert disk.engine.slots.slot_of(key) is None
                except KeyBusy:
                    outcomes.append("busy")
                    assert disk.engine.slots.slot_of(key) == before

        async with trio.open_nursery() as nursery:
            for key in KEYS:
                nursery.start_soon(use, key)
                nursery.start_soon(evict, key)
        disk.engine.slots.slots.check_invariants()
        return outcomes

    assert {"busy", "evicted"} <= set(run_seeded(seed, main))

"""What `why` says of a random stack is what planning, and carrying out, does there."""

import trio
from hypothesis import given, settings
from trio.testing import MockClock

from fusedm.block import CryptoConfig, CryptoCounts
from fusedm.crypto import make_plan, start_using_key, submit_bio
from fusedm.inspect.extents import NATIVE, extents
from fusedm.inspect.sight import Sight
from tests.helpers.builders import MODE, make_key, read_bio
from tests.helpers.random_stacks import SIZE, build, crypto_points, stacks

UNITS = (512, 1024, 4096)


@settings(max_examples=25)
@given(stacks())
def test_every_data_unit_goes_the_way_why_says(stack):
    async def main():
        (top, _, _), _ = await build(stack)
        for unit in UNITS:
            key = make_key(f"{unit}", unit)
            start_using_key(top, key)
            found = extents(Sight(), top, key.config)
            sectors = unit // 512
            covered = {(one.start, one.length) for one in found}
            assert sum(length for _, length in covered) == SIZE - SIZE % sectors
            for sector in range(0, SIZE - sectors + 1, sectors):
                bio, _ = read_bio(sector, unit, key)
                (done,) = crypto_points(make_plan(top, [bio]).root)
                said = [one for one in found if one.start <= sector < one.start + one.length]
                assert done in {(one.how, one.where) for one in said}, (sector, unit, found)
                assert len(said) == 1 or all(one.part for one in said)

    trio.run(main)


@settings(max_examples=25)
@given(stacks())
def test_the_counters_move_as_why_says(stack):
    async def main():
        (top, _, _), disks = await build(stack)
        key = make_key("k", 4096)
        start_using_key(top, key)
        for one in extents(Sight(), top, key.config):
            if one.part:
                continue
            entry = top.live.find(one.start)
            before = entry.counts.native, entry.counts.fallback
            bio, _ = read_bio(one.start, 4096, key)
            await submit_bio(top, bio)
            native = one.how == NATIVE
            after = CryptoCounts(before[0] + native, before[1] + (not native))
            assert entry.counts == after, one
            assert one.why
        assert all(disk.stats.in_flight == 0 for disk in disks)

    trio.run(main, clock=MockClock(autojump_threshold=0))


@settings(max_examples=25)
@given(stacks())
def test_there_is_an_obstacle_exactly_where_a_capability_is_missing(stack):
    async def main():
        mapped, disks = await build(stack)
        for device in (*mapped, *disks):
            for unit in (512, 1024, 2048, 4096, 8192):
                for dun_bytes in (1, 8, 9):
                    config = CryptoConfig(MODE, unit, dun_bytes)
                    obstacles = Sight().obstacles(device, config)
                    assert device.capabilities.supports(config) == (not obstacles)

    trio.run(main)


@settings(max_examples=25)
@given(stacks(), stacks())
def test_a_table_looked_at_ahead_is_seen_as_if_it_were_live(stack, other):
    async def main():
        (top, high, lower), disks = await build(stack)
        (later, _, later_lower), _ = await build((other[0], stack[1], stack[2]))
        ahead = Sight({lower: later_lower.live})
        for unit in UNITS:
            config = CryptoConfig(MODE, unit, 8)
            seen = [(one.start, one.length, one.how) for one in extents(ahead, top, config)]
            real = [(one.start, one.length, one.how) for one in extents(Sight(), later, config)]
            assert seen == real
            assert bool(ahead.obstacles(top, config)) == bool(Sight().obstacles(later, config))

    trio.run(main)

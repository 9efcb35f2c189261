"""Delays end when a suspend is on its way, before it holds anything up."""

import trio
from trio.testing import wait_all_tasks_blocked

from tests.helpers.builders import make_disk, make_mapped, medium, pattern, write

HOUR = "0 64 delay d0 0 3600000"
TEXT = bytes(pattern(4096))


async def test_a_hurry_lets_delayed_bios_go_on_and_delays_no_other(autojump_clock, nursery):
    disk = make_disk()
    mapped = await make_mapped(HOUR, disk)
    nursery.start_soon(write, mapped, 0, TEXT)
    await wait_all_tasks_blocked()
    await mapped.prepare_suspend()
    await wait_all_tasks_blocked()
    await write(mapped, 8, TEXT)
    assert medium(disk, 0, 8192) == TEXT + TEXT
    assert trio.current_time() < 60


async def test_after_a_hurry_that_came_to_nothing_bios_are_delayed_again(autojump_clock):
    mapped = await make_mapped(HOUR, make_disk())
    await mapped.prepare_suspend()
    mapped.give_up_suspend()
    began = trio.current_time()
    await write(mapped, 0, TEXT)
    assert trio.current_time() - began >= 3600


async def test_after_a_suspend_bios_are_delayed_again(autojump_clock):
    mapped = await make_mapped(HOUR, make_disk())
    await mapped.prepare_suspend()
    await mapped.suspend()
    await mapped.resume()
    began = trio.current_time()
    await write(mapped, 0, TEXT)
    assert trio.current_time() - began >= 3600

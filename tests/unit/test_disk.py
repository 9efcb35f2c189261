"""A disk: the leaf where bios end."""

import pytest

from fusedm.block import FLUSH, MODES, NO_CAPABILITIES, Bio, Op
from fusedm.crypto import start_using_key, submit_bio
from fusedm.stores import MemoryStore
from tests.helpers import reference_xts
from tests.helpers.builders import make_disk, make_key, medium, pattern, read, write
from tests.helpers.references import REFERENCES

KEY = make_key(unit=4096)
TEXT = bytes(pattern(8192))


def test_a_disk_takes_size_and_limits_from_its_store():
    disk = make_disk(sectors=64, block=4096)
    assert disk.sector_count == 64
    assert (disk.limits.logical_block_size, disk.limits.io_min_bytes) == (4096, 4096)
    assert list(disk.underlying()) == []


@pytest.mark.parametrize("slots", [0, 4])
def test_a_disk_can_natively_what_its_engine_can(slots):
    assert make_disk(slots=slots).capabilities.supports(KEY.config)
    assert make_disk().capabilities == NO_CAPABILITIES


@pytest.mark.parametrize("slots", [None, 0, 2])
async def test_the_medium_holds_the_reference_ciphertext(slots):
    disk = make_disk(slots=slots)
    start_using_key(disk, KEY)
    await write(disk, 16, TEXT, KEY, 9)
    assert medium(disk, 16, 8192) == reference_xts.encrypt(bytes(KEY.raw), 4096, 9, TEXT)
    assert await read(disk, 16, 8192, KEY, 9) == TEXT
    assert await read(disk, 16, 8192, KEY, 8) != TEXT
    assert await read(disk, 16, 8192, make_key("other", 4096), 9) != TEXT


async def test_an_engine_that_lacks_the_unit_size_leaves_it_to_the_fallback():
    disk = make_disk(slots=2, units=[512])
    start_using_key(disk, KEY)
    await write(disk, 0, TEXT, KEY)
    assert (disk.counts.native, disk.counts.fallback) == (0, 1)
    assert disk.engine.slots.slots.index_of(KEY) is None


@pytest.mark.parametrize("unit", [512, 4096, 8192])
@pytest.mark.parametrize("mode", MODES)
async def test_the_fallback_does_every_mode_and_units_larger_than_a_page_too(mode, unit):
    disk, key = make_disk(), make_key(mode=mode, unit=unit, dun_bytes=MODES[mode].iv_size)
    start_using_key(disk, key)
    await write(disk, 0, TEXT, key, 9)
    assert medium(disk, 0, 8192) == REFERENCES[mode].encrypt(bytes(key.raw), unit, 9, TEXT)
    assert await read(disk, 0, 8192, key, 9) == TEXT


async def test_a_bio_through_the_fallback_is_counted_once():
    disk = make_disk()
    start_using_key(disk, KEY)
    await write(disk, 0, TEXT, KEY)
    assert (disk.stats.ios, disk.stats.sectors) == ([0, 1, 0, 0], [0, 16, 0, 0])


@pytest.mark.parametrize("op", [Op.DISCARD, Op.WRITE_ZEROES])
async def test_a_range_given_up_reads_as_zeros(op):
    disk = make_disk()
    await write(disk, 0, TEXT)
    await submit_bio(disk, Bio(op, 4, 8))
    assert medium(disk, 0, 8192) == TEXT[:2048] + bytes(4096) + TEXT[6144:]


async def test_a_flush_reaches_the_store_and_is_counted():
    class Counting(MemoryStore):
        flushes = 0

        def flush(self):
            self.flushes += 1

    store = Counting(1 << 16)
    disk = make_disk(store=store)
    await submit_bio(disk, FLUSH)
    assert (store.flushes, disk.stats.ios[3]) == (1, 1)


async def test_closing_a_disk_closes_its_store():
    disk = make_disk()
    disk.store.pwrite(0, memoryview(TEXT))
    await disk.close()
    assert disk.store.allocated_bytes == 0

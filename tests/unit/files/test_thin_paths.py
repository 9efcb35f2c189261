"""Requests for thin devices in the compiled loop: what has a place goes there without Python."""

from tests.helpers.builders import make_disk, medium, pattern, write
from tests.helpers.express_loop import RoutedLoop, add_mapped

BLOCK = 128
BLOCK_BYTES = BLOCK * 512
NEW = bytes(pattern(2 * BLOCK_BYTES, 4))


async def add_thin(loop: RoutedLoop) -> None:
    """A thin device `t0` of a pool, with its second and third block written."""
    for name in ("meta", "data"):
        loop.system.add_disk(make_disk(name, 2048))
    await add_mapped(loop.system, "pool", "0 2048 thin-pool meta data 128 0")
    await loop.system.mapped_device("pool").message(0, ["create_thin", "0"])
    await add_mapped(loop.system, "t0", "0 512 thin pool 0")
    await write(loop.system.mapped_device("t0"), BLOCK, NEW)


async def test_mapped_blocks_of_a_thin_device_are_read_and_written_on_a_path(loop: RoutedLoop):
    await add_thin(loop)
    handle = loop.open("t0")
    assert loop.reads(handle, BLOCK_BYTES, len(NEW)) == NEW
    assert loop.writes(handle, 2 * BLOCK_BYTES, b"x" * 4096)
    assert medium(loop.system.disks["data"], BLOCK, 4096) == b"x" * 4096


async def test_what_has_no_place_has_no_path_until_it_is_written(loop: RoutedLoop):
    await add_thin(loop)
    handle = loop.open("t0")
    assert loop.reads(handle, 0, 4096) is None
    await write(loop.system.mapped_device("t0"), 0, NEW[:512])
    assert loop.reads(handle, 0, 4096) == NEW[:512] + bytes(3584)


async def test_what_a_snapshot_shares_is_read_on_a_path_and_not_written(loop: RoutedLoop):
    await add_thin(loop)
    handle = loop.open("t0")
    assert loop.writes(handle, BLOCK_BYTES, NEW[:4096])
    await loop.system.mapped_device("pool").message(0, ["create_snap", "1", "0"])
    assert loop.reads(handle, BLOCK_BYTES, 4096) == NEW[:4096]
    assert not loop.writes(handle, BLOCK_BYTES, b"x" * 4096)
    await write(loop.system.mapped_device("t0"), BLOCK, NEW[:512])
    assert loop.writes(handle, BLOCK_BYTES, b"x" * 4096)

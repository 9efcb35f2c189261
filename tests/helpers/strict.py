"""Systems with and without strict mode, over disks that can do different things."""

import pytest

from fusedm.block.errors import BlockIOError
from fusedm.crypto import submit_bio
from fusedm.stores import MemoryStore
from fusedm.system import System
from tests.helpers.builders import make_disk

MIXED = "0 32 linear rich 0\n32 32 linear poor 0"
both = pytest.mark.parametrize("strict", [False, True], ids=["default", "strict"])


async def make_system(strict: bool = True, **tables: str) -> System:
    """rich (an engine), less (only 4096-byte units), poor (none), fixed (read-only), and tables."""
    system = System(strict=strict)
    system.add_disk(make_disk("rich", slots=2))
    system.add_disk(make_disk("less", slots=2, units=(4096,)))
    system.add_disk(make_disk("poor"))
    system.add_disk(make_disk("fixed", store=MemoryStore(1 << 19, read_only=True)))
    for name, table in tables.items():
        system.add_mapped(name)
        system.load(name, table, read_only="fixed" in table)
        await system.resume(name)
    return system


async def failed(number, device, bio):
    with pytest.raises(BlockIOError) as caught:
        await submit_bio(device, bio)
    assert caught.value.errno == number
    return str(caught.value)

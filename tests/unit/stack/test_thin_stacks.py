"""Stack files with thin pools: what their metadata say is not known before they are read."""

import pytest

from fusedm.block.errors import SpecError
from fusedm.stack import MapperSpec, Stack, format_spec
from tests.helpers.builders import pattern, read, write

POOL = """\
version = 1

[disks.meta]
size = "1MiB"
store = "file:meta.img"

[disks.data]
size = "1MiB"
store = "file:data.img"

[mapper.pool]
table = "0 2048 thin-pool meta data 128 0"
"""
THIN = """
[mapper.t0]
table = "0 512 thin pool 0"
"""
DATA = bytes(pattern(4096))


async def test_a_saved_stack_with_a_thin_device_is_checked_and_built_again(tmp_path):
    (tmp_path / "pool.toml").write_text(POOL)
    async with Stack.from_toml(tmp_path / "pool.toml") as stack:
        await stack.system.mapped_device("pool").message(0, ["create_thin", "0"])
        await stack.add_mapped(MapperSpec("t0", "0 512 thin pool 0"))
        await write(stack.system.device("t0"), 8, DATA)
        saved = format_spec(stack.spec())
    (tmp_path / "saved.toml").write_text(saved)
    await Stack.from_toml(tmp_path / "saved.toml").check()
    async with Stack.from_toml(tmp_path / "saved.toml") as stack:
        assert await read(stack.system.device("t0"), 8, 4096) == DATA


async def test_a_thin_device_that_its_pool_has_not_is_refused_when_the_stack_is_built(tmp_path):
    (tmp_path / "both.toml").write_text(POOL + THIN)
    await Stack.from_toml(tmp_path / "both.toml").check()
    with pytest.raises(SpecError, match="the pool has no thin device 0"):
        async with Stack.from_toml(tmp_path / "both.toml"):
            raise AssertionError("it cannot be built")
    assert not (tmp_path / "meta.img").exists()

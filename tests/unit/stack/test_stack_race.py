"""Two stacks of one stack file at once: one is built, and the other harms nothing of it."""

import errno
from pathlib import Path

import pytest
import trio

from fusedm.block.errors import FusedmError
from fusedm.stack import Stack

TOML = """\
version = 1
[disks.d0]
size = "1MiB"
store = "file:d0.img"
"""


@pytest.mark.parametrize("try_number", range(5))
async def test_the_loser_does_not_remove_the_winners_file(tmp_path: Path, try_number: int) -> None:
    (tmp_path / "stack.toml").write_text(TOML)
    built: list[Stack] = []
    refused: list[FusedmError] = []
    known, over = [trio.Event(), trio.Event()], trio.Event()

    async def build(is_known: trio.Event) -> None:
        try:
            async with Stack.from_toml(tmp_path / "stack.toml") as stack:
                built.append(stack)
                is_known.set()
                await over.wait()
        except FusedmError as error:
            refused.append(error)
            is_known.set()

    async with trio.open_nursery() as nursery:
        for event in known:
            nursery.start_soon(build, event)
        for event in known:
            await event.wait()
        assert len(built) == 1
        assert [error.errno for error in refused] == [errno.EBUSY]
        assert (tmp_path / "d0.img").stat().st_size == 1 << 20
        over.set()
    assert (tmp_path / "d0.img").exists()

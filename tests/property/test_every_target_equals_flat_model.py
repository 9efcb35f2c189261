"""A stack of any targets is a flat array, also where they have disks of their own, and change."""

from contextlib import suppress
from random import Random

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from fusedm.block.errors import StackError
from fusedm.crypto import start_using_key
from fusedm.dm import MappedDevice
from tests.helpers.builders import (
    assert_nothing_is_held,
    make_disk,
    make_mapped,
    patch,
    pattern,
    read,
    read_bio,
    write_bio,
)
from tests.helpers.model import FlatModel
from tests.helpers.own_disks import (
    ARRAYS,
    Piece,
    assert_members_agree,
    is_too_early,
    load_opened,
    make_disks,
    make_piece,
    make_pool,
)
from tests.property.test_stack_equals_flat_model import EVERY_KEY, SIZE, accesses, do, targets

changes = st.sampled_from(["swap", "swap", "suspend", "check", "wait"])


class Lower:
    """A device of 2 * SIZE sectors, of whose lines each has disks of its own."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.pieces: list[Piece] = []
        while (start := sum(piece.count for piece in self.pieces)) < 2 * SIZE:
            most = min(random.choice([16, 40, 96, 2 * SIZE]), 2 * SIZE - start)
            piece = make_piece(random, start, most)
            if piece is not None:
                self.pieces.append(piece)

    async def make(self) -> MappedDevice:
        self.disks = await make_disks(self.pieces, self.random)
        pool = await make_pool(self.pieces)
        self.devices = [*self.disks, *pool]
        self.device = MappedDevice("lower")
        await self.load([piece.line for piece in self.pieces])
        return self.device

    async def load(self, lines: list[str]) -> None:
        await load_opened(self.device, "\n".join(lines), self.devices)
        await self.device.resume()

    async def change(self, how: str) -> None:
        """What must not be noticed above."""
        match how:
            case "swap":
                try:
                    await self.load([piece.other_line(self.random) for piece in self.pieces])
                except StackError as error:
                    if not is_too_early(error):
                        raise
            case "suspend":
                await self.device.suspend()
                await self.device.resume()
            case "check":
                for piece in self.pieces:
                    if piece.kind in ARRAYS and piece.kind != "raid0":
                        with suppress(StackError):  # Something else is under way.
                            await self.device.message(piece.start, ["check"])
            case "wait":
                await trio.sleep(self.random.choice([0.01, 0.1]))


async def run(lines, random, slots, some, way):
    lower = Lower(random)
    disks = [
        make_disk(f"d{index}", SIZE * 2, slots=count, latency=0.001)
        for index, count in enumerate(slots, 1)
    ]
    disks.append(make_disk("d4", SIZE * 4))
    device = await make_mapped("\n".join(lines), await lower.make(), *disks)
    model = FlatModel(SIZE)
    for entry in device.live.entries:
        if entry.target.name == "zero":
            model.holes.update(range(entry.start_sector, entry.end_sector))
    for key in EVERY_KEY:
        start_using_key(device, key)
    for seed, each in enumerate(some):
        if isinstance(each, str):
            await lower.change(each)
            continue
        kind, sector, length, key, dun = each
        if kind == "write":
            text = bytes(pattern(length, seed))
            await do(device, write_bio(sector, text, key, dun), way)
            model.write(sector, text, key, dun)
        elif kind == "patch":
            payload = bytes(pattern(37, seed))
            await do(device, patch(sector, length, 100, payload, key, dun), way)
            text = bytearray(model.read(sector, length, key, dun))
            text[100:137] = payload
            model.write(sector, bytes(text), key, dun)
        bio, got = read_bio(sector, length, key, dun)
        await do(device, bio, way)
        assert model.mismatch(sector, bytes(got), key, dun) is None
    assert await read(device, 0, SIZE * 512) == model.raw
    await lower.load([piece.line for piece in lower.pieces])
    await assert_members_agree(lower.device)
    assert await read(device, 0, SIZE * 512) == model.raw
    await device.end()
    await lower.device.end()
    assert_nothing_is_held(device, lower.device, *disks, *lower.disks)


@settings(max_examples=40)
@given(
    targets(SIZE, ["lower", "d1", "d2"]),
    st.randoms(use_true_random=False),
    st.tuples(*[st.sampled_from([None, 0, 1, 2])] * 2),
    st.lists(accesses() | accesses() | changes, max_size=12),
    st.sampled_from(["by span", "by span", "on the spot", "waiting"]),
)
def test_a_stack_over_any_targets_is_a_flat_array_whatever_changes(lines, random, slots, some, way):
    trio.run(run, lines, random, slots, some, way, clock=MockClock(autojump_threshold=0))

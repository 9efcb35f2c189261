"""Views anywhere on any table, through the lane: the device is a flat array of what they wrote."""

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from fusedm.files.handles import OpenDevice
from fusedm.system import System
from tests.helpers.builders import make_key, medium, pattern
from tests.helpers.lane_kernel import Kernel, done, running, written
from tests.helpers.model import FlatModel

SECTORS = 192
UNITS = {"small": 512, "middle": 1024, "large": 4096}
TABLES = (
    f"0 {SECTORS} linear d0 64",
    f"0 {SECTORS} striped 2 8 d0 0 d0 1024",
    "0 96 linear d0 0\n96 96 linear d0 512",
    "0 20 linear d0 8\n20 100 linear d0 300\n120 72 striped 2 4 d0 600 d0 800",
)


@st.composite
def placed_views(draw):
    """(key, dun base, start, length) in bytes: aligned to the key's unit, within the device."""
    key = draw(st.sampled_from(list(UNITS)))
    unit = UNITS[key] // 512
    length = draw(st.integers(1, SECTORS // unit)) * unit
    start = draw(st.integers(0, (SECTORS - length) // unit)) * unit
    return key, draw(st.sampled_from([0, 77, 1 << 40])), start * 512, length * 512


accesses = st.lists(
    st.tuples(st.integers(0, 2), st.booleans(), st.floats(0, 1), st.floats(0, 1)),
    min_size=1,
    max_size=12,
)


class Rig:
    """A lane over dm0 with some views, and the model of dm0."""

    def __init__(self, kernel: Kernel, views):
        self.kernel, self.model = kernel, FlatModel(SECTORS)
        system: System = kernel.system
        for name, unit in UNITS.items():
            system.add_key(make_key(name, unit))
        self.views = [
            system.add_view(f"v{index}", "dm0", key, dun_base, start, length)
            for index, (key, dun_base, start, length) in enumerate(views)
        ]
        for index, view in enumerate(self.views):
            kernel.handles[100 + index] = OpenDevice(view, False)

    async def access(self, number, which, writes, where, how_much):
        """One whole-block READ or WRITE, and what the model says of it."""
        index = which % len(self.views)
        view = self.views[index]
        unit = view.key.config.data_unit_size
        units = view.size // unit
        first = min(int(where * units), units - 1)
        count = max(int(how_much * (units - first)), 1)
        offset, length = first * unit, count * unit
        sector, dun = view.sector(offset), view.dun_base + first
        if writes:
            text = bytes(pattern(length, number))
            self.kernel.write(100 + index, number, offset, text)
            assert await self.kernel.reply() == written(number, length)
            self.model.write(sector, text, view.key, dun)
            return
        self.kernel.read(100 + index, number, offset, length)
        want = b"".join(
            self.one_unit(view, sector + at // 512, dun + at // unit)
            for at in range(0, length, unit)
        )
        assert await self.kernel.reply() == done(number, want)

    def one_unit(self, view, sector, dun):
        unit = view.key.config.data_unit_size
        if not any(self.model.read(sector, unit)):
            return bytes(unit)
        return self.model.read(sector, unit, view.key, dun)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(TABLES), st.lists(placed_views(), min_size=1, max_size=3), accesses)
def test_placed_views_through_the_lane_are_a_flat_array(table, views, some):
    async def main():
        kernel = Kernel()
        try:
            kernel.system.add_mapped("dm0")
            kernel.system.load("dm0", table)
            await kernel.system.resume("dm0")
            rig = Rig(kernel, views)
            async with running(kernel):
                for number, access in enumerate(some, 1):
                    # Twice: the first brings the key into a slot, the second may go by a path.
                    await rig.access(2 * number, *access)
                    await rig.access(2 * number + 1, *access)
                got = bytearray(SECTORS * 512)
                kernel.handles[99] = OpenDevice(kernel.system.view("dm0"), False)
                kernel.read(99, 1000, 0, len(got))
                assert await kernel.reply() == done(1000, bytes(rig.model.raw))
        finally:
            kernel.close()

    trio.run(main)


def test_a_placed_view_has_a_path_of_the_compiled_loop():
    async def main():
        kernel = Kernel()
        try:
            kernel.system.add_mapped("dm0")
            kernel.system.load("dm0", TABLES[0])
            await kernel.system.resume("dm0")
            rig = Rig(kernel, [("large", 5, 8192, 16384)])
            async with running(kernel):
                for number in (1, 2):
                    await rig.access(number, 0, True, 0, 1)
                (stretch,) = kernel.handles[100].spans
                assert stretch.path is not None
                assert (stretch.begin, stretch.end) == (0, 16384)
            assert medium(kernel.system.disks["d0"], 80, 16384) == bytes(rig.model.raw)[8192:24576]
        finally:
            kernel.close()

    trio.run(main)

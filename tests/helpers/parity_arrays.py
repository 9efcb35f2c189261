"""Arrays with parity over members in memory, and the flat model of what they hold."""

import random
from itertools import combinations

import pytest

from fusedm.block import Bio
from fusedm.block.units import SECTOR_SIZE
from fusedm.dm.raid.layouts import LAYOUTS
from fusedm.dm.raid.parity import Parity
from fusedm.dm.raid.personality import Shape
from tests.helpers.raid_legs import ArrayInMemory, Runner
from tests.helpers.reference_parity import p_of, q_of

CHUNK = 16
ROWS = 6
MEMBERS = 5


class Arranged:
    """An array of a layout with some data, and what it should read as."""

    def __init__(self, name: str, seed: int = 0, members: int = MEMBERS, rows: int = ROWS) -> None:
        self.parities = LAYOUTS[name].parities
        data_members = members - self.parities
        self.sector_count = data_members * CHUNK * rows
        self.array = ArrayInMemory.of(members, CHUNK * rows, self.parities)
        shape = Shape(name, members, CHUNK, self.sector_count)
        self.parity = Parity(shape, self.array)
        self.some = random.Random(seed)
        self.model = bytearray(self.sector_count * SECTOR_SIZE)
        self.runner = Runner()
        self.members = members
        self.rows = rows

    def fill(self) -> "Arranged":
        step = self.parity.max_io_sectors
        for begin in range(0, self.sector_count, step):
            self.write(begin, min(step, self.sector_count - begin))
        return self

    def bytes_of(self, sector: int, count: int) -> slice:
        return slice(sector * SECTOR_SIZE, (sector + count) * SECTOR_SIZE)

    def write(self, sector: int, count: int, flags: int = 0) -> None:
        data = self.some.randbytes(count * SECTOR_SIZE)
        self.runner.do(self.parity.map(Bio.write(sector, memoryview(data), flags=flags)))
        self.model[self.bytes_of(sector, count)] = data

    def read(self, sector: int, count: int) -> bytes:
        data = bytearray(count * SECTOR_SIZE)
        self.runner.do(self.parity.map(Bio.read(sector, memoryview(data))))
        return bytes(data)

    def check(self, sector: int, count: int) -> None:
        assert self.read(sector, count) == self.model[self.bytes_of(sector, count)], (sector, count)

    def check_all(self) -> None:
        self.check(0, self.sector_count)
        for sector in range(0, self.sector_count, CHUNK):
            self.check(sector, CHUNK)

    def range(self) -> tuple[int, int]:
        """Some sectors, often at the ends of chunks and stripes."""
        ends = self.some.choice([1, 8, CHUNK, CHUNK * 3])
        begin = self.some.randrange(0, self.sector_count, ends)
        count = self.some.choice([1, 7, 8, CHUNK, 2 * CHUNK + 3, 3 * CHUNK, 7 * CHUNK])
        return begin, min(count, self.sector_count - begin)

    def fail(self, *indices: int) -> "Arranged":
        for index in indices:
            self.array.members[index].is_failed = True
            self.array.devices[index].is_broken = True
        return self

    def repair(self) -> None:
        """What the frame does in the background about what could not be read."""
        for index, begin, end in self.array.repairs:
            self.runner.run(self.parity.recover(begin, end, {index}))
        self.array.repairs.clear()

    def assert_parity(self) -> None:
        """All members there, each stripe's parity is that of its data, by the reference."""
        for stripe in range(self.rows):
            row = self.parity.geometry.row(stripe)
            at = self.bytes_of(stripe * CHUNK, CHUNK)
            chunks = [bytes(device.data[at]) for device in self.array.devices]
            data = [chunks[member] for member in row.data]
            assert chunks[row.p] == p_of(data), stripe
            if row.q is not None:
                assert chunks[row.q] == q_of(data, row.exponents), stripe


every_layout = pytest.mark.parametrize("name", LAYOUTS)


def losses(name: str, members: int = MEMBERS) -> list[tuple[int, ...]]:
    """Each set of members that may be lost, the empty one too."""
    counts = range(LAYOUTS[name].parities + 1)
    return [lost for count in counts for lost in combinations(range(members), count)]


LOSSES = [(name, lost) for name in LAYOUTS for lost in losses(name)]
#: Some of them, of each layout others.
SOME_LOSSES = [each for each in LOSSES if each[1]][::3]

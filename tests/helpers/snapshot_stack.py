"""An origin, its snapshot-origin and one snapshot, for tests."""

from fusedm.dm import MappedDevice, format_status, parse_table
from fusedm.stores import MemoryStore
from tests.helpers.builders import make_disk, pattern, write
from tests.helpers.devices import lookup_in

SECTORS = 128
OLD = bytes(pattern(SECTORS * 512, 1))
NEW = bytes(pattern(SECTORS * 512, 2))


class SlowStore(MemoryStore):
    """A store whose calls are made in a worker thread, so that tasks come in between."""

    def may_block(self, op):
        return True


class Stack:
    """An origin with OLD on it, its snapshot-origin, and one snapshot over a COW disk."""

    def __init__(self, kind="P", chunk=8, cow_sectors=400, features="", cow=None, origin=None):
        self.base = origin or make_disk("base", SECTORS)
        self.cow = cow or make_disk("cow", cow_sectors)
        self.sectors = SECTORS
        self.words = f"base cow {kind} {chunk}{features}"
        self.origin = MappedDevice("origin")
        self.snap = MappedDevice("snap")

    async def make(self) -> "Stack":
        await write(self.base, 0, OLD)
        return await self.open()

    async def open(self) -> "Stack":
        await self.load(self.origin, "snapshot-origin base")
        await self.load(self.snap, f"snapshot {self.words}")
        return self

    def table(self, line: str):
        text = f"0 {self.sectors} {line}"
        return parse_table(text, lookup_in(self.base, self.cow), lambda: 0.0)

    async def load(self, mapped: MappedDevice, line: str) -> None:
        mapped.load(self.table(line))
        await mapped.resume()

    @property
    def status(self) -> str:
        return format_status(self.snap.live).split(" snapshot ")[1]

    async def close(self) -> None:
        for mapped in (self.snap, self.origin):
            await mapped.end()

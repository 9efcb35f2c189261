"""Mirrors over disks that fail when they are told to, for tests."""

import errno

import trio
from trio.testing import MockClock

from fusedm.block import Op
from fusedm.block.errors import BlockIOError
from fusedm.dm import MappedDevice, format_status, parse_table
from fusedm.dm.targets.mirror import Mirror
from fusedm.stores import MemoryStore
from tests.helpers.builders import make_disk, medium, pattern
from tests.helpers.devices import lookup_in

SECTORS, REGION = 64, 8
ALL = 1 << 40
WAIT, KEEP = "1 handle_errors", "2 handle_errors keep_log"


class FailingStore(MemoryStore):
    """Calls on a range fail if they are of a kind that is to fail; writes and flushes are noted."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.failing: dict[Op, tuple[int, int]] = {}
        self.noted: list[tuple[Op, int]] = []

    def fail(self, op: Op, begin: int = 0, end: int = ALL) -> None:
        """Have calls fail from now on that touch some sectors."""
        self.failing[op] = (begin * 512, end * 512)

    def _call(self, op: Op, offset: int = 0, length: int = 1) -> None:
        begin, end = self.failing.get(op, (0, 0))
        if offset < end and begin < offset + length:
            raise OSError(errno.EIO, "told to fail")
        if op is not Op.READ:
            self.noted.append((op, offset // 512))

    def pread_into(self, offset, buffer):
        self._call(Op.READ, offset, len(buffer))
        super().pread_into(offset, buffer)

    def pwrite(self, offset, data, durably=False):
        self._call(Op.WRITE, offset, len(data))
        super().pwrite(offset, data, durably)

    def flush(self):
        self._call(Op.FLUSH)
        super().flush()

    def discard(self, offset, length):
        self._call(Op.DISCARD, offset, length)
        super().discard(offset, length)

    def direct_fd(self):
        """None, or workers would not be told to fail."""
        return None


class Stack:
    """Legs d0, d1, ... full of something else each, a log lg, and a mirror of them."""

    def __init__(self, log: str = "core 1 8", legs: int = 2, features: str = "") -> None:
        names = [*(f"d{index}" for index in range(legs)), "lg"]
        self.disks = [make_disk(name, store=FailingStore(SECTORS * 512)) for name in names]
        self.stores = {disk.name: disk.store for disk in self.disks}
        for seed, disk in enumerate(self.disks[:-1]):
            disk.store.pwrite(0, memoryview(pattern(disk.store.size, seed)))
            disk.store.noted.clear()
        self.words = f"{log} {legs} {' '.join(f'd{i} 0' for i in range(legs))} {features}".strip()
        self.device = MappedDevice("dm0")

    def table(self, words: str = ""):
        """Its table, or another one over the same disks."""
        text = f"0 {SECTORS} mirror {words or self.words}"
        return parse_table(text, lookup_in(*self.disks, make_disk("small", 2)), lambda: 0.0)

    async def make(self, words: str = "") -> "Stack":
        """Bring it up, or another table in its place."""
        self.device.load(self.table(words))
        await self.device.resume()
        return self

    async def copied(self) -> "Stack":
        """Bring it up and wait until all that can be is in sync and marked clean."""
        await self.make()
        await trio.sleep(5)
        return self

    @property
    def target(self) -> Mirror:
        target = self.device.live.entries[0].target
        assert isinstance(target, Mirror)
        return target

    @property
    def status(self) -> str:
        """What status says, without the devices."""
        words = format_status(self.device.live).split()[3:]
        count = int(words[0])
        return " ".join(words[1 + count :])

    def leg(self, index: int) -> bytes:
        return medium(self.disks[index])

    @property
    def clean(self) -> str:
        """The marks on the log, a digit for each region."""
        bits = medium(self.disks[-1], 2, 512)[0]
        return f"{bits:08b}"[::-1]


async def mirror(features: str = "", log: str = "core 2 8 nosync", legs: int = 2) -> Stack:
    """A mirror whose legs hold the same."""
    stack = Stack(log, legs, features)
    for index in range(1, legs):
        stack.stores[f"d{index}"].pwrite(0, memoryview(stack.leg(0)))
    return await stack.copied()


async def fails(work, *arguments) -> bool:
    """Whether something fails with EIO."""
    try:
        await work(*arguments)
    except BlockIOError as error:
        return error.errno == errno.EIO
    return False


def run(main) -> None:
    """A test whose clock jumps."""
    trio.run(main, clock=MockClock(autojump_threshold=0))

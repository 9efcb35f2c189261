"""A target with a life of its own, for the tests of scripts and of targets' lives."""

import errno
from collections.abc import Iterable
from dataclasses import dataclass, field

from fusedm.block import FLUSH, Bio, BlockDevice, Op, RangeLocks
from fusedm.block.errors import BlockIOError, StackError
from fusedm.dm import (
    Action,
    Arguments,
    Many,
    MappedDevice,
    Remap,
    Script,
    Segment,
    Steps,
    Table,
    TableEntry,
    Target,
    Word,
)
from tests.helpers.builders import make_disk


@dataclass
class Copier(Target):
    """Writes everything to two devices, the second after the first, and tells of its life."""

    name = "copier"
    version = (1, 0, 0)
    passes_crypto = False

    first: BlockDevice
    second: BlockDevice
    sector_count: int = 64
    locks: RangeLocks | None = None
    life: list[str] = field(default_factory=list)
    refuses: str = ""

    @classmethod
    def make(cls, line: Arguments) -> "Copier":
        raise AssertionError("made by hand")

    def params(self) -> list[Word]:
        return [self.first, self.second]

    def devices(self) -> Iterable[Segment]:
        return [Segment(device, 0, self.sector_count) for device in (self.first, self.second)]

    def map(self, bio: Bio) -> Action:
        if bio.op is not Op.WRITE:
            return Remap(self.first, bio)
        locks = ((self.locks, bio.sector, bio.end_sector),) if self.locks else ()
        return Script(lambda: self._copy(bio), locks)

    def _copy(self, bio: Bio) -> Steps[None]:
        yield Remap(self.first, bio)
        try:
            yield Remap(self.second, bio)
        except BlockIOError as error:
            self.life.append(f"second failed: {error.errno}")

    def end_io(self, bio: Bio, error: BlockIOError | None) -> BlockIOError | None:
        self.life.append(f"end of {bio.op.value}")
        return error

    def message(self, words: list[str]) -> str | Steps[str]:
        if words == ["hello"]:
            return "hello yourself"
        if words == ["sign"]:
            return self._sign()
        return super().message(words)

    def _sign(self) -> Steps[str]:
        mark = Bio.write(8, memoryview(b"signed".ljust(512)))
        yield Many((Remap(self.first, mark), Remap(self.second, mark)))
        return "done"

    def opening(self) -> Steps[None]:
        head = bytearray(512)
        yield Remap(self.first, Bio.read(0, memoryview(head)))
        self.life.append(f"opened on {bytes(head[:4])!r}")
        if self.refuses == "opening":
            raise StackError("no such magic")

    def start(self) -> None:
        self.life.append("start")
        if self.refuses == "start":
            raise StackError("not started")

    def preresume(self) -> Steps[None]:
        yield from self._turn("preresume")

    def presuspend(self) -> Steps[None]:
        yield from self._turn("presuspend")

    def postsuspend(self) -> Steps[None]:
        yield from self._turn("postsuspend")

    def _turn(self, name: str) -> Steps[None]:
        yield Remap(self.first, FLUSH)
        if self.refuses == name:
            raise StackError(f"no {name}", errno.EAGAIN)
        self.life.append(name)

    def resumed(self) -> None:
        self.life.append("resumed")

    def closing(self) -> Steps[None]:
        yield Remap(self.first, Bio.write(63, memoryview(b"the end".ljust(512))))
        self.life.append("closed")

    def stop(self) -> None:
        self.life.append("stop")

    def forget(self) -> None:
        self.life.append("forgotten")


def table_of(*targets: Target) -> Table:
    entries, start = [], 0
    for target in targets:
        entries.append(TableEntry(start, target.sector_count, target))
        start += target.sector_count
    return Table(entries)


async def make_copier(strict: bool = False, **options) -> tuple[MappedDevice, Copier]:
    """A mapped device with a live copier over two disks."""
    copier = Copier(make_disk("d0", 64), make_disk("d1", 64), **options)
    mapped = MappedDevice("dm0", strict=strict)
    mapped.load(table_of(copier))
    await mapped.resume()
    return mapped, copier

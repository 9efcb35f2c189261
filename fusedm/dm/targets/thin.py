"""thin: a device whose blocks are taken from a pool when they are written to.  See thin.md."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from fusedm.block import Bio, BlockDevice
from fusedm.block.errors import StackError, Status
from fusedm.dm.arguments import Arguments
from fusedm.dm.target import NEVER, Action, Fail, Segment, Steady, Target, Word
from fusedm.dm.thin.bios import ThinBios
from fusedm.dm.thin.mode import Mode
from fusedm.dm.thin.pool_target import live_pool
from fusedm.dm.turns import Steps


def examples() -> list[str]:
    """Arguments the contract suite tries."""
    return ["d0 0", "d0 5"]


@dataclass
class Thin(Target):
    """Blocks have a place in the pool or none; data go there as they come, never looked at."""

    name = "thin"
    version = (1, 24, 0)
    passes_crypto = True
    discards_end_here = True

    sector_count: int
    pool_device: BlockDevice
    number: int
    origin: BlockDevice | None = None
    bios: ThinBios | None = field(default=None, init=False, compare=False, repr=False)

    @classmethod
    def make(cls, line: Arguments) -> "Thin":
        pool, origin = line.device("pool"), line.device_or_none("external_origin")
        if origin is pool:
            line.refuse("external_origin", f"{pool.name} is the pool itself")
        return cls(line.sector_count, pool, line.number("id"), origin)

    def params(self) -> list[Word]:
        words: list[Word] = [self.pool_device, str(self.number)]
        return [*words, self.origin] if self.origin is not None else words

    def devices(self) -> Iterable[Segment]:
        yield Segment(self.pool_device, 0, self.pool_device.sector_count)

    def own_devices(self) -> Iterable[BlockDevice]:
        if self.origin is not None:
            yield self.origin

    def map(self, bio: Bio) -> Action:
        return self.bios.map(bio) if self.bios is not None else Fail(Status.IOERR)

    def steady(self, sector: int) -> Steady:
        return self.bios.steady(sector) if self.bios is not None else NEVER

    def status(self) -> list[Word]:
        if self.bios is None or self.bios.pool.mode is Mode.FAIL:
            return ["Fail"]
        metadata, size = self.bios.pool.metadata, self.bios.pool.block_sectors
        highest = metadata.highest_mapped(self.number)
        last = "-" if highest is None else str((highest + 1) * size - 1)
        return [str(metadata.mapped_blocks(self.number) * size), last]

    # Turns.

    def start(self) -> None:
        """The device is in use from now on: it cannot be deleted from the pool.

        Raises: StackError: EINVAL if there is no pool or it is suspended or has failed, ENODATA.
        """
        pool = live_pool(self.pool_device)
        if pool is None:
            raise StackError(f"{self.pool_device.name} is not a pool")
        device = pool.open(self.number, self.host.is_dry)
        self.bios = ThinBios(pool, device, self.pool_device, self.origin)
        self.max_io_sectors = pool.block_sectors
        shows_what_was = self.origin is not None and not self.pool_device.strict
        self.takes_discards = not (pool.features.ignore_discard or shows_what_was)

    def preresume(self) -> Steps[None]:
        if self.bios is not None and self.origin is not None:
            self.bios.origin_sectors = self.origin.sector_count
        yield from ()

    def stop(self) -> None:
        assert self.bios is not None, "it has been started"
        self.bios.pool.close(self.bios.device)
        self.bios.pool.room.notify()
        self.bios = None

"""thin-pool: blocks of a device, given out to thin devices as they write.  See thin_pool.md."""

import errno
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from fusedm.block import Bio, BlockDevice, Limits
from fusedm.block.errors import BlockIOError, StackError
from fusedm.block.units import sectors_to_bytes
from fusedm.dm.arguments import Arguments
from fusedm.dm.target import ALWAYS, Action, Script, Segment, Steady, Word
from fusedm.dm.thin.messages import carry_out
from fusedm.dm.thin.mode import FEATURES, Features, Mode
from fusedm.dm.thin.pool import Pool
from fusedm.dm.thin.pool_metadata import PoolMetadata
from fusedm.dm.thin.pool_target import PoolTarget, pools_of, pools_over
from fusedm.dm.turns import Steps


def examples() -> list[str]:
    """Arguments the contract suite tries."""
    return ["d0 d1 128 0", "d0 d1 256 10 2 skip_block_zeroing error_if_no_space"]


@dataclass
class ThinPool(PoolTarget):
    """Its own bios go to the same sectors of the data device; thin devices find their pool here.

    It moves data and never looks at them. Of the metadata device no bio of others is ever told.
    """

    name = "thin-pool"
    version = (1, 24, 0)
    passes_crypto = True
    discards_end_here = True
    is_immutable = True
    needs_writing = True

    sector_count: int
    metadata_device: BlockDevice
    data_device: BlockDevice
    block_sectors: int
    low_water_blocks: int
    features: Features
    pool: Pool | None = field(default=None, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        asked = self.features
        self.takes_discards = not (asked.ignore_discard or asked.no_discard_passdown)

    @classmethod
    def make(cls, line: Arguments) -> "ThinPool":
        metadata, data = line.device("meta"), line.device("data")
        if metadata is data:
            line.refuse("data", f"{data.name} is the metadata device as well")
        block, low_water = line.number("block"), line.number("low_water")
        features = Features(**{feature: line.has(feature) for feature in FEATURES})
        return cls(line.sector_count, metadata, data, block, low_water, features)

    def params(self) -> list[Word]:
        words = self.features.words()
        block = self.pool.block_sectors if self.pool is not None else self.block_sectors
        numbers = [str(block), str(self.low_water_blocks), str(len(words))]
        return [self.metadata_device, self.data_device, *numbers, *words, ""]

    def devices(self) -> Iterable[Segment]:
        yield Segment(self.data_device, 0, self.sector_count)

    def own_devices(self) -> Iterable[BlockDevice]:
        yield self.metadata_device

    def limits(self) -> Limits:
        size = sectors_to_bytes(self.block_sectors)
        return Limits(io_min_bytes=size, io_opt_bytes=size)

    def map(self, bio: Bio) -> Action:
        return Segment(self.data_device, 0, self.sector_count).remap(bio)

    def steady(self, sector: int) -> Steady:
        return ALWAYS

    def message(self, words: list[str]) -> Steps[str]:
        assert self.pool is not None, "a live target has been opened"
        return carry_out(self.pool, words)

    def status(self) -> list[Word]:
        pool = self.pool
        if pool is None or pool.mode is Mode.FAIL:
            return ["Fail"]
        metadata, features = pool.metadata, pool.features
        used = metadata.metadata_blocks - metadata.free_metadata_blocks
        discards = "no_discard_passdown" if features.no_discard_passdown else "discard_passdown"
        return [
            str(metadata.transaction_id),
            f"{used}/{metadata.metadata_blocks}",
            f"{metadata.data_blocks - metadata.free_data_blocks}/{metadata.data_blocks}",
            str(metadata.held_root or "-"),
            pool.mode.word,
            "ignore_discard" if features.ignore_discard else discards,
            "error_if_no_space" if features.error_if_no_space else "queue_if_no_space",
            "needs_check" if metadata.needs_check else "-",
            str(pool.metadata_threshold),
            "",
        ]

    # Turns.

    def opening(self) -> Steps[None]:
        """The pool of the table that this one replaces is taken over, a new one is opened.

        Source: __pool_find in dm-thin.c. Other than there, a data device is of one pool only.
        """
        own = next(pools_of(self.host), None)
        if own is not None and self.metadata_device is not own.metadata_device:
            raise StackError(
                f"another pool cannot take the place of the one on {own.metadata_device.name}"
            )
        for device in (self.metadata_device, self.data_device):
            for holder, pool in pools_over(device):
                if pool is not own:
                    text = f"{device.name} is in use by the pool {holder.name}"
                    raise StackError(text, errno.EBUSY)
        if own is not None and self.data_device is not own.data_device:
            text = f"the pool on {own.metadata_device.name} is on {own.data_device.name}"
            raise StackError(text, errno.EBUSY)
        if own is not None and self.features.ignore_discard != own.features.ignore_discard:
            raise StackError("ignore_discard cannot change with a table: thin devices go by it")
        self.pool = own or (yield from self._open())

    def _open(self) -> Steps[Pool]:
        metadata = yield from PoolMetadata.open(
            self.metadata_device, self.block_sectors, is_read_only=self.features.read_only
        )
        pool = Pool(self.metadata_device, self.data_device, metadata)
        pool.features = self.features
        return pool

    def preresume(self) -> Steps[None]:
        assert self.pool is not None, "it has been opened"
        asked = Mode.READ_ONLY if self.features.read_only else Mode.WRITE
        self._bind(self.pool.mode if self.pool.owner is self else asked)
        try:
            yield from self.pool.fit(self.sector_count // self.pool.block_sectors)
        except (BlockIOError, StackError):
            # A pool that has failed is let go of by resuming it.
            if self.pool.mode is not Mode.FAIL:
                raise

    def _bind(self, mode: Mode) -> None:
        assert self.pool is not None, "it has been opened"
        cannot = self.features.no_discard_passdown or not self.data_device.limits.discard
        features = replace(self.features, no_discard_passdown=cannot)
        self.pool.bind(self, self.raise_event, features, self.low_water_blocks, mode)

    def resumed(self) -> None:
        assert self.pool is not None, "it has been opened"
        self.pool.note_resumed()

    def background(self) -> Iterable[Steps[None]]:
        assert self.pool is not None, "it has been opened"
        return self.pool.background()

    def stop(self) -> None:
        """Nobody waits for room any more: what does is planned on what is there now."""
        if self.pool is not None:
            self.pool.room.notify()

    def presuspend(self) -> Steps[None]:
        assert self.pool is not None, "it has been opened"
        self.pool.is_suspended = True
        yield from ()

    def postsuspend(self) -> Steps[None]:
        assert self.pool is not None, "it has been opened"
        yield Script(self.pool.commit, self.pool.lock)
        self.pool.note_idle()

"""A disk: the leaf where bios end. A store, and perhaps an inline engine in front of it."""

import errno
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Literal

import trio

from fusedm.block import (
    NO_CAPABILITIES,
    Bio,
    BlockDevice,
    Capabilities,
    CryptoCounts,
    CryptoKey,
    Generation,
    IoStats,
    KeyHolder,
    Leg,
    Limits,
    Op,
    RangeLocks,
    Span,
)
from fusedm.block.errors import BlockIOError, CryptoError, StackError, Status
from fusedm.block.plan import Cipher, KeyslotSource, LeafIO, Node, PlanBuilder, Route
from fusedm.block.span import own_span
from fusedm.block.units import bytes_to_sectors
from fusedm.crypto import Fallback, InlineEngine, not_native, plan_bio
from fusedm.disk.io import BlockingIO, io_on
from fusedm.stores import Lines, MakeLines, Store, VolatileCacheStore, WaitingStore


class Disk:
    """A leaf device.

    An engine may come and go while bios are under way: each finishes where it was planned to be
    transformed, and what is planned later goes where that can be done then.
    Owns: its store, engine and fallback. Lives: until close().
    """

    def __init__(
        self, name: str, store: Store | WaitingStore, engine: InlineEngine | None = None
    ) -> None:
        self.name = name
        self.engine = engine
        self.fallback = Fallback(name)
        self.sector_count = bytes_to_sectors(store.size)
        self.limits = Limits(store.logical_block_size, store.logical_block_size)
        self.read_only = store.read_only
        self.strict = False
        #: In strict mode, what the engine that it was made with could do.
        self.told: Capabilities | None = None
        self.stats = IoStats()
        self.holders: dict[BlockDevice, None] = {}
        #: The whole disk is one extent.
        self.counts = CryptoCounts()
        self.range_locks = RangeLocks()
        self._generation = Generation()
        #: Bios in flight on the engine.
        self.engine_stats = IoStats()
        #: Engines that are gone but for bios planned on them.
        self._leaving: list[InlineEngine] = []
        self._io = io_on(name, store)

    @property
    def store(self) -> Store | WaitingStore:
        """What the bytes are in; another of the same size may take its place."""
        return self._io.store

    @store.setter
    def store(self, store: Store | WaitingStore) -> None:
        """Put another in its place, with nothing in flight."""
        self._io = io_on(self.name, store)

    @property
    def capabilities(self) -> Capabilities:
        """The engine's; none without one."""
        return self.engine.capabilities if self.engine is not None else NO_CAPABILITIES

    @property
    def engine_slots(self) -> KeyslotSource:
        """The engine's profile."""
        assert self.engine is not None, f"{self.name} has no engine"
        return self.engine.slots

    def become_strict(self) -> None:
        """Follow the kernel's decisions to the letter from now on."""
        self.strict = True
        self.told = self.capabilities
        if self.engine is not None:
            self.engine.take_weak_keys()

    def plan(self, bio: Bio, builder: PlanBuilder, route: Route) -> Node:
        """Straight to the store, through the engine if it can; else the fallback comes first."""
        route = (*route, self.counts)
        if bio.crypt is not None and not self.capabilities.supports(bio.crypt.key.config):
            if self.strict and len(route) > 1:
                raise not_native(self.name, bio)
            return self.fallback.plan(
                bio, route, lambda clear: plan_bio(self, clear, builder, route)
            )
        builder.visits.append((self.stats, bio.op, bio.sector_count))
        if bio.op.changes_medium:
            builder.extents.append((self.range_locks, bio.sector, bio.end_sector))
        if bio.crypt is None:
            return LeafIO(self, bio, route)
        builder.visits.append((self.engine_stats, bio.op, bio.sector_count))
        return LeafIO(self, bio, route, self.engine_slots)

    def span(self, sector: int) -> Span:
        """The whole disk is one stretch."""
        more = {"end": self.sector_count, "legs": (Leg(self),), "route": (self.counts,)}
        return own_span(self.stats, self._generation, self.read_only, **more)

    def flush_span(self) -> Span:
        """A FLUSH ends here."""
        return replace(self.span(0), ops=frozenset({Op.FLUSH}))

    def direct_fd(self) -> int | None:
        """The store's, if it has one."""
        return self._io.direct_fd()

    @property
    def has_lines(self) -> bool:
        """Whether the store has lines for workers."""
        return self._io.lined is not None

    def lines(self, make: MakeLines) -> Lines:
        """The store's lines, made the first time."""
        store = self._io.lined
        assert store is not None, f"{self.name} has no lines"
        return store.lines(make)

    def may_block(self, op: Op) -> bool:
        """Whether the store may block the thread, or has to be waited for."""
        return self._io.may_block(op)

    @property
    def waits_on(self) -> str:
        """What a bio waits for at this disk, if it has to."""
        return self._io.waits_on

    def perform(self, bio: Bio, cipher: Cipher | None) -> None:
        """Transform and do the I/O, all in the calling thread; bio.data is left alone on a WRITE.

        Raises: BlockIOError with the store's errno.
        """
        self._io.perform(bio, cipher)

    async def perform_waiting(self, bio: Bio, cipher: Cipher | None) -> None:
        """The same where it may take long: in a thread, or as the store waits.

        Raises: BlockIOError with the store's errno.
        """
        await self._io.perform_waiting(bio, cipher)

    async def seek(self, offset: int, for_data: bool) -> int:
        """Where the store has data, or a hole, at offset or after it.

        Raises: BlockIOError with the store's errno.
        """
        try:
            return await self._io.seek(offset, for_data)
        except OSError as error:
            text = f"seek of {'data' if for_data else 'a hole'} from {offset}"
            raise BlockIOError(error.errno or Status.IOERR, self.name, text) from error

    def underlying(self) -> Iterable["Disk"]:
        """Nothing lies below a disk."""
        return ()

    def start_using_key(self, key: CryptoKey) -> None:
        """Ready the fallback, also where the engine does the work today; a wrapped key has none.

        Raises: CryptoError for a wrapped key: EOPNOTSUPP if the engine cannot use such a key,
                EBADMSG if it is not the engine's.
        """
        if not key.config.is_wrapped:
            self.fallback.start(key.config.mode)
        elif self.engine is not None:
            self.engine.check_key(key)
        else:
            text = f"key {key.name!r} is hardware-wrapped, and {self.name!r} has no inline engine"
            raise CryptoError(text, errno.EOPNOTSUPP)

    def key_users(self, key: CryptoKey) -> Iterable[KeyHolder]:
        """The fallback and the engine, whichever holds the key; engines on their way out too."""
        yield self.fallback
        for engine in (self.engine, *self._leaving):
            if engine is not None:
                yield engine.slots

    def prepare_engine(self, engine: InlineEngine | None, keys: Iterable[CryptoKey]) -> None:
        """Ready what the keys will need once this is the engine (None: once there is none).

        Raises: CryptoError(EOPNOTSUPP) if some key could not be used then, as a wrapped key without
                an engine for it: no software can. Nothing has changed then.
        """
        able = engine.capabilities if engine is not None else NO_CAPABILITIES
        in_software = []
        for key in keys:
            if engine is not None and key.config.is_wrapped:
                engine.check_key(key)
            elif key.config.is_wrapped:
                text = f"key {key.name!r} is hardware-wrapped: no software can use it"
                raise CryptoError(text, errno.EOPNOTSUPP)
            elif not able.supports(key.config):
                in_software.append(key.config.mode)
        for mode in in_software:
            self.fallback.start(mode)

    def swap_engine(self, engine: InlineEngine | None) -> Callable[[], Awaitable[None]]:
        """Have another engine, or none, from the next bio on; after prepare_engine it cannot fail.

        Bios in flight on the old one finish there; it loses every key when the last has ended.
        Returns a wait for that, which need not be awaited.
        """
        old, in_flight, ended = self.engine, self.engine_stats, trio.Event()
        self.engine, self.engine_stats = engine, IoStats()
        self._generation.advance()
        if engine is not None and self.strict:
            engine.take_weak_keys()
        if old is None:
            ended.set()
            return ended.wait
        self._leaving.append(old)

        def end() -> None:
            in_flight.on_idle = None
            old.slots.evict_all()
            self._leaving.remove(old)
            ended.set()

        if in_flight.in_flight:
            in_flight.on_idle = end
        else:
            end()
        return ended.wait

    async def flush(self) -> None:
        """Make durable what the store has acknowledged.

        Raises: OSError.
        """
        await self._io.flush()

    async def lose_power(self, keep: Literal["nothing", "random", "everything"]) -> None:
        """Have the volatile cache lose what was not flushed.

        Raises: StackError(EOPNOTSUPP) for a disk without one; OSError.
        """
        store = self.store
        if not (isinstance(self._io, BlockingIO) and isinstance(store, VolatileCacheStore)):
            text = f"{self.name!r} has no volatile cache: its store does not begin with volatile:"
            raise StackError(text, errno.EOPNOTSUPP)
        await self._io.in_thread(partial(store.lose_power, keep))

    async def close(self) -> None:
        """Close the store; cancelled, it is closed all the same.

        Raises: OSError.
        """
        with trio.CancelScope(shield=True):
            await self._io.close()


async def close_disks(disks: Iterable[Disk]) -> None:
    """Close several at the same time, all of them, whichever fails.

    Raises: OSError, the first there was.
    """
    errors: list[OSError] = []

    async def close(disk: Disk) -> None:
        try:
            await disk.close()
        except OSError as error:
            errors.append(error)

    with trio.CancelScope(shield=True):
        async with trio.open_nursery() as nursery:
            for disk in disks:
                nursery.start_soon(close, disk)
    if errors:
        raise errors[0]

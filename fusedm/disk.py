"""A disk: the leaf where bios end. A store, and perhaps an inline engine in front of it."""

import errno
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import TypeVar

import trio

from fusedm.block import (
    FUA,
    NO_CAPABILITIES,
    PREFLUSH,
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
from fusedm.block.errors import BlockIOError, CryptoError, Status
from fusedm.block.plan import Cipher, KeyslotSource, LeafIO, Node, PlanBuilder, Route
from fusedm.block.span import own_span
from fusedm.block.units import SECTOR_SHIFT, bytes_to_sectors
from fusedm.crypto import Fallback, InlineEngine, Workers, decrypt_data, not_native, plan_bio
from fusedm.stores import Store

T = TypeVar("T")

#: Calls on one store at a time that may block; more wait for these, so that a hung store ties up
#: no more threads than this. 8 keeps a disk with some latency busy.
MAX_STORE_THREADS = 8


class Disk:
    """A leaf device.

    An engine may come and go while bios are under way: each finishes where it was planned to be
    transformed, and what is planned later goes where that can be done then.
    Owns: its store, engine and fallback. Lives: until close().
    """

    def __init__(self, name: str, store: Store, engine: InlineEngine | None = None) -> None:
        self.name = name
        self.store = store
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
        self._threads = Workers(MAX_STORE_THREADS)

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
        return self.store.direct_fd()

    def may_block(self, op: Op) -> bool:
        """Whether the store may block the thread."""
        return self.store.may_block(op)

    def perform(self, bio: Bio, cipher: Cipher | None) -> None:
        """Transform and do the I/O, all in the calling thread; bio.data is left alone on a WRITE.

        Raises: BlockIOError with the store's errno.
        """
        offset = bio.sector << SECTOR_SHIFT
        length = bio.sector_count << SECTOR_SHIFT
        try:
            match bio.op:
                case Op.READ:
                    self.store.pread_into(offset, bio.data)
                    if cipher is not None and bio.crypt is not None:
                        decrypt_data(cipher, bio.crypt, bio.data)
                case Op.WRITE:
                    data = bio.data
                    if cipher is not None and bio.crypt is not None:
                        data = memoryview(bytearray(length))
                        cipher.encrypt(bio.crypt.dun, bio.data, data)
                    if bio.flags & PREFLUSH:
                        self.store.flush()
                    self.store.pwrite(offset, data, durably=bool(bio.flags & FUA))
                case Op.FLUSH:
                    self.store.flush()
                case Op.DISCARD:
                    self.store.discard(offset, length)
                case Op.WRITE_ZEROES:
                    self.store.write_zeroes(offset, length)
        except OSError as error:
            raise BlockIOError(error.errno or Status.IOERR, self.name, str(bio)) from error

    async def seek(self, offset: int, for_data: bool) -> int:
        """Where the store has data, or a hole, at offset or after it.

        Raises: BlockIOError with the store's errno.
        """
        find = partial(self.store.seek_data if for_data else self.store.seek_hole, offset)
        try:
            if self.may_block(Op.READ):
                return await self.run_in_thread(find)
            return find()
        except OSError as error:
            text = f"seek of {'data' if for_data else 'a hole'} from {offset}"
            raise BlockIOError(error.errno or Status.IOERR, self.name, text) from error

    async def run_in_thread(self, work: Callable[[], T]) -> T:
        """Run work in one of this disk's worker threads."""
        return await self._threads.run(work)

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

    def close(self) -> None:
        """Close the store."""
        self.store.close()

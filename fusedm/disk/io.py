"""The two ways of a disk to its store: calls that may block a thread, and ones that wait.

Where calls block, the cipher and the store's call are one step, on the spot or in one thread; where
they wait they are two, and only the first may need a thread.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NoReturn, TypeVar

import trio

from fusedm.block import FUA, PREFLUSH, Bio, Op
from fusedm.block.errors import BlockIOError, Status
from fusedm.block.plan import Cipher
from fusedm.block.units import SECTOR_SHIFT
from fusedm.crypto import Workers, decrypt_data, is_slow
from fusedm.stores import LinedStore, Store, WaitingStore

T = TypeVar("T")

#: Calls on one store at a time that may block; more wait for these, so that a hung store ties up
#: no more threads than this. 8 keeps a disk with some latency busy.
MAX_STORE_THREADS = 8

#: Requests at a time on one store that waits: as many as keep one 10 ms away busy, and as a client
#: and its server take on; more wait for these, so that a hung one is lent no more data than theirs.
MAX_STORE_REQUESTS = 128


class BlockingIO:
    """Cipher and store in one step, on the spot or in one of the disk's threads."""

    def __init__(self, name: str, store: Store) -> None:
        self.waits_on = f"a worker thread of {name}: its store may block"
        self._name = name
        self.store = store
        self._threads = Workers(MAX_STORE_THREADS)

    def may_block(self, op: Op) -> bool:
        """Whether the store may block the thread."""
        return self.store.may_block(op)

    def direct_fd(self) -> int | None:
        """The store's, if it has one."""
        return self.store.direct_fd()

    @property
    def lined(self) -> None:
        """None: only stores that wait have lines."""

    def perform(self, bio: Bio, cipher: Cipher | None) -> None:
        """Transform and do the I/O, all in the calling thread; bio.data is left alone on a WRITE.

        Raises: BlockIOError with the store's errno.
        """
        store, offset = self.store, bio.sector << SECTOR_SHIFT
        length = bio.sector_count << SECTOR_SHIFT
        with _store_errors(self._name, bio):
            match bio.op:
                case Op.READ:
                    store.pread_into(offset, bio.data)
                    _decrypt(cipher, bio)
                case Op.WRITE:
                    data = _encrypted(cipher, bio)
                    if bio.flags & PREFLUSH:
                        store.flush()
                    store.pwrite(offset, data, durably=bool(bio.flags & FUA))
                case Op.FLUSH:
                    store.flush()
                case Op.DISCARD:
                    store.discard(offset, length)
                case Op.WRITE_ZEROES:
                    store.write_zeroes(offset, length)

    async def perform_waiting(self, bio: Bio, cipher: Cipher | None) -> None:
        """The same in a thread.

        Raises: BlockIOError with the store's errno.
        """
        await self._threads.run(partial(self.perform, bio, cipher))

    async def seek(self, offset: int, for_data: bool) -> int:
        """Where the store has data, or a hole, at offset or after it.

        Raises: OSError.
        """
        find = partial(self.store.seek_data if for_data else self.store.seek_hole, offset)
        return await self.in_thread(find) if self.may_block(Op.READ) else find()

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run work in one of the disk's threads."""
        return await self._threads.run(work)

    async def flush(self) -> None:
        """Flush the store.

        Raises: OSError.
        """
        await self.in_thread(self.store.flush)

    async def close(self) -> None:
        """Close the store.

        Raises: OSError.
        """
        await self.in_thread(self.store.close)


class WaitingIO:
    """Cipher and store in two steps; what has begun is not cancelled, but ended by the store."""

    def __init__(self, name: str, store: WaitingStore) -> None:
        self.waits_on = f"the store of {name}, which answers later"
        self.close = store.aclose
        self._name = name
        self.store = store
        self._room = trio.Semaphore(MAX_STORE_REQUESTS)

    def may_block(self, _: Op) -> bool:
        """Whether there is something to wait for: always."""
        return True

    def direct_fd(self) -> None:
        """None: there is no descriptor of the medium."""

    @property
    def lined(self) -> LinedStore | None:
        """The store, if it has lines."""
        store = self.store
        return store if isinstance(store, LinedStore) and store.has_lines else None

    def perform(self, bio: Bio, _: Cipher | None) -> NoReturn:
        """Never on the spot."""
        raise AssertionError(f"{self._name}: {bio} has to wait")

    async def perform_waiting(self, bio: Bio, cipher: Cipher | None) -> None:
        """Transform, and wait for the store; bio.data is left alone on a WRITE.

        Raises: BlockIOError with the store's errno.
        """
        async with self._room:
            with _store_errors(self._name, bio), trio.CancelScope(shield=True):
                await self._perform(bio, cipher)

    async def _perform(self, bio: Bio, cipher: Cipher | None) -> None:
        store, offset = self.store, bio.sector << SECTOR_SHIFT
        length = bio.sector_count << SECTOR_SHIFT
        match bio.op:
            case Op.READ:
                await store.read_into(offset, bio.data)
                await _where_it_may_take_long(cipher, bio, partial(_decrypt, cipher, bio))
            case Op.WRITE:
                data = await _where_it_may_take_long(cipher, bio, partial(_encrypted, cipher, bio))
                if bio.flags & PREFLUSH:
                    await store.flush()
                await store.write(offset, data, durably=bool(bio.flags & FUA))
            case Op.FLUSH:
                await store.flush()
            case Op.DISCARD:
                await store.discard(offset, length)
            case Op.WRITE_ZEROES:
                await store.write_zeroes(offset, length)

    async def seek(self, offset: int, for_data: bool) -> int:
        """Where the store has data, or a hole, at offset or after it.

        Raises: OSError.
        """
        return await self._finish(
            self.store.seek_data(offset) if for_data else self.store.seek_hole(offset)
        )

    async def flush(self) -> None:
        """Flush the store.

        Raises: OSError.
        """
        await self._finish(self.store.flush())

    async def _finish(self, work: Awaitable[T]) -> T:
        with trio.CancelScope(shield=True):
            result = await work
        return result


def io_on(name: str, store: Store | WaitingStore) -> BlockingIO | WaitingIO:
    """The way of a disk to its store."""
    if isinstance(store, WaitingStore):
        return WaitingIO(name, store)
    return BlockingIO(name, store)


def _encrypted(cipher: Cipher | None, bio: Bio) -> memoryview:
    """What is to be written."""
    if cipher is None or bio.crypt is None:
        return bio.data
    data = memoryview(bytearray(len(bio.data)))
    cipher.encrypt(bio.crypt.dun, bio.data, data)
    return data


def _decrypt(cipher: Cipher | None, bio: Bio) -> None:
    """Make what was read what it says."""
    if cipher is not None and bio.crypt is not None:
        decrypt_data(cipher, bio.crypt, bio.data)


async def _where_it_may_take_long(cipher: Cipher | None, bio: Bio, work: Callable[[], T]) -> T:
    """Do what a cipher does to a bio's data on the spot, or in a thread where that takes long."""
    crypt = bio.crypt if cipher is not None else None
    if crypt is not None and is_slow(crypt.key.config.mode, len(bio.data)):
        return await trio.to_thread.run_sync(work)
    return work()


@contextmanager
def _store_errors(name: str, bio: Bio) -> Iterator[None]:
    """Give what a store raises its place, and keep its errno."""
    try:
        yield
    except OSError as error:
        raise BlockIOError(error.errno or Status.IOERR, name, str(bio)) from error

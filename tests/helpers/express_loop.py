"""The compiled loop of the lane without the lane: what it answers, and what it hands out."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from threading import Thread
from time import monotonic, sleep
from typing import Any, Protocol

from fusedm.crypto import CompiledCipher
from fusedm.disk import Disk
from fusedm.files import Gate, Handles, OpenDevice, Path, Paths
from fusedm.files.path import KINDS, Medium
from fusedm.fuse.express import Express
from fusedm.system import System, View
from tests.helpers import reference_xts
from tests.helpers.builders import make_disk, make_key, medium, pattern, prime
from tests.helpers.held_calls import Call, HeldCalls
from tests.helpers.lane_kernel import flush_request, make_room, read_request, write_request

DATA_SIZE = 1 << 20

#: Of each disk.
SIZE = 1 << 16
SECTORS = SIZE // 512

#: How long a test waits for what workers do.
PATIENCE_SECONDS = 10.0


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait for what threads do."""
    give_up = monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert monotonic() < give_up
        sleep(0.0001)


class Traffic(Protocol):
    """What finds paths for workers, and moves their gate: Paths, or a test's own."""

    gate: Gate

    def find(self, handle: int, kind: int, offset: int, size: int) -> bool: ...
    def open(self) -> None: ...
    def close(self) -> None: ...


class Loop:
    """Workers over a socket pair; they get on while they are asked something."""

    def __init__(self, traffic: Traffic, data_size: int = DATA_SIZE) -> None:
        self.socket, self.device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self.socket, self.device):
            end.setblocking(False)
            make_room(end)
        self._traffic = traffic
        self.refused: list[tuple[int, int]] = []
        self.express = Express(
            self.device.fileno(),
            data_size,
            traffic.gate,
            traffic.find,
            traffic.open,
            traffic.close,
            lambda *why: self.refused.append(why),
        )
        self.express.start()

    def close(self) -> None:
        """End the workers, and close both ends."""
        self.express.close()
        self.socket.close()
        self.device.close()

    def ask(self, *requests: bytes) -> tuple[list[bytes], list[bytes]]:
        """Send requests, all before the first is answered; the replies, and what was handed out."""
        for message in requests:
            self.socket.send(message)
        return self._see_through(len(requests))

    def ask_at_full_speed(self, messages: list[bytes]) -> tuple[list[bytes], list[bytes]]:
        """The same for more than there is room for; a thread sends what does not fit at first."""
        unsent = iter(messages)
        sender = Thread(target=self._send_rest, args=(self._send_some(unsent), unsent))
        sender.start()
        answers = self._see_through(len(messages))
        sender.join()
        return answers

    def _send_some(self, unsent: Iterator[bytes]) -> bytes | None:
        """Send messages while there is room; the first that there was none for."""
        for message in unsent:
            try:
                self.socket.send(message)
            except BlockingIOError:
                return message
        return None

    def _send_rest(self, first: bytes | None, unsent: Iterator[bytes]) -> None:
        with self.socket.dup() as sending:
            sending.settimeout(PATIENCE_SECONDS)
            for message in chain([] if first is None else [first], unsent):
                sending.send(message)

    def _see_through(self, count: int) -> tuple[list[bytes], list[bytes]]:
        """Wait until so many requests are answered or handed out."""
        replies: list[bytes] = []
        handed_out: list[bytes] = []
        give_up = monotonic() + PATIENCE_SECONDS
        while len(replies) + len(handed_out) < count:
            assert monotonic() < give_up, f"{replies}, {handed_out} of {count}"
            came = self.express.next(0.001)
            if isinstance(came, memoryview):
                handed_out.append(came.tobytes())
            replies += self.replies()
        self.express.next(0.0)
        self._traffic.close()  # What was answered after it had closed last is settled too.
        return replies, handed_out

    def replies(self) -> list[bytes]:
        """The replies that have come."""
        replies = []
        while True:
            try:
                replies.append(self.socket.recv(DATA_SIZE + 4096))
            except BlockingIOError:
                return replies


class HeldLoop(Loop):
    """A loop whose workers' calls on a descriptor wait for a test.

    Unless steps are made here, for what only this thread may do, workers hired later are held too.
    """

    def __init__(self, traffic: Traffic, held: HeldCalls, steps_here: bool = False) -> None:
        self._held = held
        self._make = self._step if steps_here else partial(held.run, self._step)
        self.got: tuple[list[bytes], list[bytes]] = [], []
        held.run(super().__init__, traffic)

    def close(self) -> None:
        """Let everything go that waits, and end."""
        self._held.let_go()
        super().close()

    def send(self, *requests: bytes) -> None:
        """Send requests."""
        for message in requests:
            self.socket.send(message)

    def until(self, is_done: Callable[[], bool]) -> None:
        """Go on until something is so; got is what has been answered and handed out by then."""
        give_up = monotonic() + PATIENCE_SECONDS
        while not is_done():
            assert monotonic() < give_up, f"{self.got}, {self._held.waiting()}"
            self._make()

    def until_held(self, *calls: Call) -> None:
        """Go on until exactly these calls wait."""
        self.until(lambda: self._held.waiting() == list(calls))

    def until_got(self, replies: list[bytes], handed_out: list[bytes]) -> None:
        """Go on until there are so many replies and others; they are these, in any order."""
        wanted = sorted(replies), sorted(handed_out)
        self.until(lambda: [len(each) for each in self.got] >= [len(each) for each in wanted])
        assert tuple(sorted(each) for each in self.got) == wanted
        self.got = [], []

    def _step(self) -> None:
        came = self.express.next(0.001)
        if isinstance(came, memoryview):
            self.got[1].append(came.tobytes())
        self.got[0].extend(self.replies())


class Finder:
    """Paths by handle, opened as Paths does when they are asked for."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.paths: dict[tuple[int, bool], Path] = {}
        self.cipher: CompiledCipher | None = None
        self.may_read = self.may_write = True
        self.until: int | None = None
        self.asked: list[tuple[int, int, int, int]] = []
        #: What is at the gate, and what has been asked for once: it is opened again each time.
        self._at_gate: set[tuple[int, bool]] = set()
        self._known: set[tuple[int, bool]] = set()

    def add(
        self,
        handle: int,
        fd: int,
        begin: int = 0,
        end: int = DATA_SIZE,
        shift: int = 0,
        dun_base: int = 0,
        unit: int = 512,
        blocks: bool = False,
    ) -> None:
        """A path in blocks of the size of its data units."""
        self.add_legs(handle, [(Medium(fd, blocks), shift)], begin, end, unit)
        self.paths[handle, False].numbers(dun_base, zeros_are_holes=True)

    def add_legs(
        self,
        handle: int,
        legs: list[tuple[Medium, int]],
        begin: int = 0,
        end: int = DATA_SIZE,
        unit: int = 512,
        *chunks: int,
    ) -> None:
        """A path over several legs, in chunks from an origin on."""
        self.paths[handle, False] = Path(handle, begin, end, legs, unit, *chunks)

    def add_flush(self, handle: int, *fds: int, blocks: bool = True) -> None:
        """Where flushes of a handle go."""
        legs = [(Medium(fd, blocks), 0) for fd in fds]
        self.paths[handle, True] = Path(handle, 0, 0, legs, 1, is_flush=True)

    def find(self, handle: int, kind: int, offset: int, size: int) -> bool:
        """Have the path of a handle at the gate, whatever the request."""
        self.asked.append((handle, kind, offset, size))
        key = handle, KINDS[kind] == "flush"
        if key not in self.paths:
            return False
        self._known.add(key)
        served = self.gate.serves(handle, kind, offset, size)
        return self._add(key) if served is None else served

    def open(self) -> None:
        """Open the gate."""
        for key in self._known & self.paths.keys() - self._at_gate:
            self._add(key)
        self.gate.open()

    def close(self) -> None:
        """Close it."""
        self.gate.close()
        self._at_gate.clear()

    def _add(self, key: tuple[int, bool]) -> bool:
        until = () if self.until is None else (self.until,)
        self.paths[key].ready(self.cipher, self.may_read, self.may_write, *until)
        is_added = self.gate.add(self.paths[key])
        if is_added:
            self._at_gate.add(key)
        return is_added

    def take_back(
        self, handle: int, is_flush: bool = False
    ) -> tuple[list[Any], tuple[int, ...], tuple[int, int]]:
        """What a path has done since the last time, and what is under way."""
        return self.gate.take_back(self.paths[handle, is_flush])

    def done(self, handle: int, is_flush: bool = False) -> list[tuple[int, int]]:
        """Count and bytes of the reads, writes and flushes on a path since the last time."""
        return [numbers[:2] for numbers in self.take_back(handle, is_flush)[0][0]]


class RoutedLoop(Loop):
    """Workers whose paths are found in a system."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.handles: Handles = {}
        self.paths = Paths(self.handles, system)
        super().__init__(self.paths)

    def open(self, name: str) -> int:
        """Open a view or device; its handle."""
        handle = len(self.handles) + 1
        self.handles[handle] = OpenDevice(self.system.view(name), False)
        return handle

    def reads(self, handle: int, offset: int, size: int) -> bytes | None:
        """What is read; None if the request was handed out."""
        return self._one(read_request(handle, 7, offset, size))

    def writes(self, handle: int, offset: int, data: bytes) -> bool:
        """Whether a write was answered, and not handed out."""
        return self._one(write_request(handle, 7, offset, data)) is not None

    def flushes(self, handle: int) -> bool:
        """Whether a flush was answered, and not handed out."""
        return self._one(flush_request(handle, 7)) is not None

    def _one(self, message: bytes) -> bytes | None:
        replies, handed_out = self.ask(message)
        if not replies:
            assert handed_out == [message]
            return None
        (reply,) = replies
        assert handed_out == []
        assert reply[4:16] == b"\0\0\0\0" + (7).to_bytes(8, "little")
        return reply[16:]


@contextmanager
def routed() -> Iterator[RoutedLoop]:
    """A loop over two disks with engines, and the keys k (units of 4096) and small (512)."""
    system = System()
    for name in ("d0", "d1"):
        add_disk(system, make_disk(name, SECTORS, slots=4))
    for name, unit in (("k", 4096), ("small", 512)):
        system.add_key(make_key(name, unit, 8))
    loop = RoutedLoop(system)
    try:
        yield loop
    finally:
        loop.close()


def add_disk(system: System, disk: Disk) -> None:
    """A disk with something on it."""
    disk.store.pwrite(0, memoryview(pattern(disk.store.size, len(system.disks))))
    system.add_disk(disk)


async def add_mapped(system: System, name: str, table: str) -> None:
    """A mapped device with a live table."""
    system.add_mapped(name)
    await swap(system, name, table)


async def swap(system: System, name: str, table: str, read_only: bool = False) -> None:
    """Make another table live."""
    system.load(name, table, read_only)
    await system.resume(name)


async def add_view(system: System, name: str, device: str, key: str, dun_base: int = 0) -> View:
    """A view whose key is in a keyslot of every engine."""
    view = system.add_view(name, device, key, dun_base)
    for disk in system.disks.values():
        if disk.engine is not None:
            await prime(disk.engine_slots, system.keys[key])
    return view


def in_clear(system: System, disk: str, key: str, sector: int, length: int, dun: int) -> bytes:
    """What is on a disk, decrypted by the reference."""
    raw, own = medium(system.disks[disk], sector, length), system.keys[key]
    return reference_xts.decrypt(bytes(own.raw), own.config.data_unit_size, dun, raw)

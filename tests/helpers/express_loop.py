"""The compiled loop of the lane without the lane: what it answers, and what it hands out."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from threading import Thread

from fusedm.crypto import EvpCipher
from fusedm.disk import Disk
from fusedm.files import Handles, OpenDevice, Path, Routes
from fusedm.fuse.express import NOTHING_CAME, TURN_OVER, Express
from fusedm.system import System, View
from tests.helpers import reference_xts
from tests.helpers.builders import make_disk, make_key, medium, pattern, prime
from tests.helpers.lane_kernel import make_room, read_request, write_request

DATA_SIZE = 1 << 20

#: Of each disk.
SIZE = 1 << 16
SECTORS = SIZE // 512

Find = Callable[[int, int, int], Path | None]


class Loop:
    """A loop over a socket pair; it runs while it is asked something, in the caller's thread."""

    def __init__(
        self, find: Find, end_batch: Callable[[], None], data_size: int = DATA_SIZE
    ) -> None:
        self.socket, self.device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self.socket, self.device):
            end.setblocking(False)
            make_room(end)
        self.refused: list[tuple[int, int]] = []
        self.express = Express(
            self.device.fileno(), data_size, find, end_batch, lambda *why: self.refused.append(why)
        )

    def close(self) -> None:
        """End the helper, and close both ends."""
        self.express.close()
        self.socket.close()
        self.device.close()

    def ask(self, *requests: bytes) -> tuple[list[bytes], list[bytes]]:
        """Send requests, all before the first is taken; the replies, and what was handed out."""
        for message in requests:
            self.socket.send(message)
        handed_out = self.run()
        return self.replies(), handed_out

    def ask_at_full_speed(self, messages: list[bytes]) -> tuple[list[bytes], list[bytes]]:
        """The same for more than there is room for; a thread sends what does not fit at first."""
        replies: list[bytes] = []
        handed_out: list[bytes] = []
        unsent = iter(messages)
        sender = Thread(target=self._send_rest, args=(self._send_some(unsent), unsent))
        sender.start()
        more = True
        while more:
            more = sender.is_alive()
            while self._take_turn(0.002, handed_out):
                replies += self.replies()
            replies += self.replies()
        return replies, handed_out

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
            sending.settimeout(10)
            for message in chain([] if first is None else [first], unsent):
                sending.send(message)

    def run(self) -> list[bytes]:
        """Let the loop take what there is; what was handed out."""
        handed_out: list[bytes] = []
        while self._take_turn(10.0, handed_out):
            pass
        return handed_out

    def _take_turn(self, seconds: float, handed_out: list[bytes]) -> bool:
        """Call next() once; whether there may be more."""
        came = self.express.next(0.0, seconds)
        if isinstance(came, memoryview):
            handed_out.append(came.tobytes())
            return True
        assert came in (NOTHING_CAME, TURN_OVER)
        return came == TURN_OVER

    def replies(self) -> list[bytes]:
        """The replies that have come."""
        replies = []
        while True:
            try:
                replies.append(self.socket.recv(DATA_SIZE + 4096))
            except BlockingIOError:
                return replies


class Finder:
    """Paths by handle, given out as routes do: readied for a batch, and settled at its end."""

    def __init__(self) -> None:
        self.paths: dict[int, Path] = {}
        self.cipher: EvpCipher | None = None
        self.may_write = True
        self.asked: list[tuple[int, int, int]] = []
        #: Of each batch, what each of its paths has done.
        self.batches: list[list[tuple[int, ...]]] = []
        self._out: list[Path] = []

    def add(
        self,
        handle: int,
        fd: int,
        begin: int = 0,
        end: int = DATA_SIZE,
        shift: int = 0,
        dun_base: int = 0,
        unit: int = 512,
    ) -> None:
        """A path in blocks of the size of its data units."""
        self.paths[handle] = Path(handle, begin, end, fd, shift, unit, dun_base, unit)

    def find(self, handle: int, offset: int, size: int) -> Path | None:
        """The path of a handle, whatever the request."""
        self.asked.append((handle, offset, size))
        path = self.paths.get(handle)
        if path is not None and path not in self._out:
            path.set_out(self.cipher, self.may_write)
            self._out.append(path)
        return path

    def end_batch(self) -> None:
        """Keep what each path has done."""
        self.batches.append([path.come_back() for path in self._out])
        self._out.clear()


class RoutedLoop(Loop):
    """A loop whose paths are found in a system."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.handles: Handles = {}
        self.routes = Routes(self.handles, system)
        super().__init__(self.routes.find, self.routes.end_batch)

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

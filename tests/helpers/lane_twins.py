"""Two equal systems: one behind a lane, the other asked in Python; and requests to ask both."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from fusedm.block import Op
from fusedm.block.errors import FusedmError
from fusedm.files import device_file
from fusedm.stores import MemoryStore
from fusedm.system import System, View
from tests.helpers.builders import contents, make_disk, make_key, pattern
from tests.helpers.lane_kernel import (
    NONE,
    TEXT,
    done,
    failed,
    read_request,
    request,
    write_request,
    written,
)

#: Linear, cut data units, chunks, and a target that looks at each bio.
TABLE = """
0 1000 linear d0 24
1000 512 striped 2 16 plain 8 d0 1048
1512 88 flakey d0 1400 1 0
"""
#: All but d4k and ro lie over others.
NAMES = dict(enumerate(["d0", "plain", "dm0", "home", "small", "large", "d4k", "v4k", "ro"], 10))
DISKS = ("d0", "plain", "d4k", "ro")
GETATTR = 3


async def make_system() -> System:
    """Disks with and without an engine, a mapped device, and views in units of every kind."""
    system = System(clock=lambda: 0.0)
    system.add_disk(make_disk("d0", 2048, slots=2, units=(512, 4096, 65536), dun_bytes=16))
    system.add_disk(make_disk("plain", 512))
    system.add_disk(make_disk("d4k", 512, slots=1, block=4096))
    ro = MemoryStore(1 << 16, read_only=True)
    system.add_disk(make_disk("ro", store=ro, slots=0))
    for seed, name in enumerate(("d0", "plain", "d4k")):
        store = system.disks[name].store
        store.pwrite(0, memoryview(pattern(store.size, seed)))
        store.discard(store.size // 4, store.size // 4)
    system.add_mapped("dm0")
    system.load("dm0", TABLE)
    await system.resume("dm0")
    for name, unit, device, dun_base in (
        ("home", 4096, "dm0", (1 << 64) - 20),
        ("small", 512, "dm0", 7),
        ("large", 65536, "dm0", 0),
        ("v4k", 4096, "d4k", 0),
    ):
        system.add_key(make_key(name, unit, 16 if device == "dm0" else 8))
        system.add_view(name, device, name, dun_base)
    return system


def state(system: System) -> dict[str, object]:
    """All that requests may change, but for times."""
    found: dict[str, object] = {}
    for name, disk in system.disks.items():
        found[f"{name} holds"] = contents(disk.store)
        found[f"{name} encrypted"] = (disk.counts.native, disk.counts.fallback)
    for index, entry in enumerate(system.mapped["dm0"].live.entries):
        found[f"line {index} encrypted"] = (entry.counts.native, entry.counts.fallback)
    for name, device in (*system.disks.items(), *system.mapped.items()):
        found[f"{name} did"] = (list(device.stats.ios), list(device.stats.sectors))
        found[f"{name} in flight"] = device.stats.in_flight
    return found


@dataclass(frozen=True)
class Ask:
    """A READ or WRITE, or something else for libfuse."""

    handle: int
    op: Op | None
    offset: int = 0
    size: int = 0
    data: bytes = b""
    flags: int = 0

    def message(self, unique: int) -> bytes:
        """As the kernel sends it."""
        if self.op is Op.READ:
            return read_request(self.handle, unique, self.offset, self.size)
        if self.op is Op.WRITE:
            return write_request(self.handle, unique, self.offset, self.data, self.flags)
        return request(GETATTR, unique, bytes(self.size))


async def answer(system: System, ask: Ask, unique: int) -> bytes | None:
    """The reply that Python gives; None if it is libfuse's to reply."""
    if ask.op is None:
        return None
    if ask.handle == TEXT and ask.op is Op.READ:
        return done(unique, b"0123456789\n"[ask.offset : ask.offset + ask.size])
    if ask.handle not in NAMES:
        return failed(unique, 9)
    view = system.view(NAMES[ask.handle])
    try:
        if ask.op is Op.READ:
            return done(unique, bytes(await device_file.read(view, ask.offset, ask.size)))
        await device_file.write(
            view, ask.offset, memoryview(ask.data), durable=bool(ask.flags & os.O_DSYNC)
        )
    except FusedmError as error:
        return failed(unique, error.errno)
    return written(unique, len(ask.data))


def some_asks(system: System, random: Random) -> Iterator[Ask]:
    """Requests of one file that the kernel may send at once: no two of them touch one data unit."""
    handle = random.choice([*NAMES] * 3 + [TEXT, NONE])
    if handle not in NAMES:
        yield _any_ask(random, handle, random.choice([0, 5, 512]), 100, 1)
        return
    view = system.view(NAMES[handle])
    count = random.choice([1, 1, 3, 8, 12])
    unit = max(view.block_size, 4096)
    part = max(view.size // count // unit * unit, unit)
    for index in range(count):
        begin = index * part
        longest = min(part, 100_000 if count == 1 else 9000)
        if index == count - 1 and random.random() < 0.2:  # Perhaps past the end.
            longest, begin = 9000, max(view.size - 6000, begin)
        yield _within(random, handle, view, begin, longest, begin + part)


def _within(random: Random, handle: int, view: View, begin: int, longest: int, end: int) -> Ask:
    """A request between two offsets, mostly of whole blocks; it may end past the file's end."""
    block = view.block_size if random.random() < 0.7 else 1
    offset = begin + random.randrange(max(end - begin, 1)) // block * block
    if end <= view.size:
        longest = min(longest, end - offset)
    size = max(longest * random.randrange(1, 5) // 4 // block * block, min(block, longest))
    return _any_ask(random, handle, offset, size, block)


def _any_ask(random: Random, handle: int, offset: int, size: int, block: int) -> Ask:
    kind = random.random()
    if kind < 0.05:
        return Ask(handle, None, size=random.randrange(100))
    if kind < 0.5:
        return Ask(handle, Op.READ, offset, size)
    flags = random.choice([0, 0, 0, 0, os.O_DSYNC, os.O_SYNC, os.O_DIRECT])
    return Ask(handle, Op.WRITE, offset, size, random.randbytes(size), flags)

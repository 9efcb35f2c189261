"""A pool's metadata on a device in memory, and thin-provisioning-tools to compare with."""

import random
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fusedm.block import FUA, Bio, Limits, Op
from fusedm.block.errors import BlockIOError, Status
from fusedm.dm.thin.pool_metadata import PoolMetadata

BLOCK = 4096
BLOCK_SECTORS = 128
#: Data blocks of a Pool.
DATA = 1000

needs_tools = pytest.mark.skipif(
    shutil.which("thin_check") is None, reason="needs thin-provisioning-tools"
)


class Medium:
    """A device of bytes that does the steps of metadata on the spot, and remembers writes.

    log: offset and data of each write, None where all before became durable. fails and fails_late
    say which bios shall fail: before anything is done, or when it has been.
    """

    limits = Limits()
    name = "meta"

    def __init__(self, blocks: int = 256, image: bytes | None = None) -> None:
        self.image = bytearray(blocks * BLOCK) if image is None else bytearray(image)
        self.log: list[tuple[int, bytes] | None] = []
        self.fails: Callable[[Bio], bool] = lambda bio: False
        self.fails_late: Callable[[Bio], bool] = lambda bio: False

    @property
    def sector_count(self) -> int:
        return len(self.image) // 512

    def run(self, steps):
        """Carry out steps, and return what they return."""
        error = None
        try:
            while True:
                step = steps.send(None) if error is None else steps.throw(error)
                error = None
                for remap in getattr(step, "actions", (step,)):
                    assert remap.device is self
                    try:
                        self.submit(remap.bio)
                    except BlockIOError as failed:
                        error = error or failed
        except StopIteration as end:
            return end.value

    def submit(self, bio: Bio) -> None:
        if self.fails(bio):
            raise BlockIOError(Status.IOERR, self.name, str(bio))
        begin, end = bio.sector * 512, bio.end_sector * 512
        assert end <= len(self.image)
        if bio.op is Op.READ:
            bio.data[:] = self.image[begin:end]
        elif bio.op is Op.FLUSH:
            self.log.append(None)
        else:
            self.image[begin:end] = bio.data
            self.log.append((begin, bytes(bio.data)))
            if bio.flags & FUA:
                # Only the superblock, before which all has been flushed.
                self.log.append(None)
        if self.fails_late(bio):
            raise BlockIOError(Status.IOERR, self.name, str(bio))

    def open(self, block_sectors: int = BLOCK_SECTORS, **options) -> PoolMetadata:
        return self.run(PoolMetadata.open(self, block_sectors, **options))


def mappings(metadata: PoolMetadata) -> dict[int, dict[int, int]]:
    """All devices and what they map."""
    return {
        device: dict(metadata.mapped(device, 0, 1 << 64)) for device in sorted(metadata.devices)
    }


def refill(metadata: PoolMetadata) -> None:
    """What commits have freed may be given out again."""
    metadata.recycle(metadata.take_freed())


class Pool:
    """A pool that has DATA blocks and device 1."""

    def __init__(self, blocks: int = 256) -> None:
        self.medium = Medium(blocks)
        self.metadata = self.medium.open()
        self.metadata.resize_data(DATA)
        self.metadata.create_thin(1)
        self.commit()

    def commit(self) -> None:
        self.medium.run(self.metadata.commit())
        refill(self.metadata)

    def abort(self) -> None:
        self.medium.run(self.metadata.abort())

    def map(self, device: int, *blocks: int) -> list[int]:
        given = [self.metadata.allocate() for _ in blocks]
        for block, data in zip(blocks, given, strict=True):
            self.metadata.insert(device, block, data)
        return given


@dataclass
class Dump:
    """What thin_dump says."""

    transaction: int
    data_blocks: int
    block_sectors: int
    mappings: dict[int, dict[int, int]] = field(default_factory=dict)
    times: dict[int, dict[int, int]] = field(default_factory=dict)
    details: dict[int, tuple[int, int, int, int]] = field(default_factory=dict)


class Tools:
    """thin_check and the others, on images in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def call(self, *words: str) -> str:
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def _image(self, image: bytes) -> str:
        path = self.folder / "image"
        path.write_bytes(image)
        return str(path)

    def check(self, image: bytes) -> None:
        """Fail if thin_check finds anything."""
        self.call("thin_check", self._image(image))

    def xml(self, image: bytes, *options: str) -> str:
        return self.call("thin_dump", *options, self._image(image))

    def dump(self, image: bytes, *options: str) -> Dump:
        return parse_dump(self.xml(image, *options))

    def restored(self, xml: str, blocks: int) -> bytes:
        """An image that thin_restore makes."""
        source, target = self.folder / "xml", self.folder / "restored"
        source.write_text(xml)
        target.write_bytes(bytes(blocks * BLOCK))
        self.call("thin_restore", "-i", str(source), "-o", str(target))
        return target.read_bytes()


def parse_dump(xml: str) -> Dump:
    root = ElementTree.fromstring(xml)
    dump = Dump(
        int(root.attrib["transaction"]),
        int(root.attrib["nr_data_blocks"]),
        int(root.attrib["data_block_size"]),
    )
    for device in root.iter("device"):
        number = int(device.attrib["dev_id"])
        words = ("mapped_blocks", "transaction", "creation_time", "snap_time")
        dump.details[number] = tuple(int(device.attrib[word]) for word in words)
        of, times = dump.mappings.setdefault(number, {}), dump.times.setdefault(number, {})
        for entry in device:
            word = "data_begin" if entry.tag == "range_mapping" else "data_block"
            first = "origin_begin" if entry.tag == "range_mapping" else "origin_block"
            for at in range(int(entry.attrib.get("length", 1))):
                of[int(entry.attrib[first]) + at] = int(entry.attrib[word]) + at
                times[int(entry.attrib[first]) + at] = int(entry.attrib["time"])
    return dump


def make_nodes_small(monkeypatch: pytest.MonkeyPatch, most: int = 6) -> None:
    """Have trees of many levels with few entries; the tools read them like any."""
    monkeypatch.setattr("fusedm.dm.thin.blocks.MOST_CHILDREN", most)
    monkeypatch.setattr("fusedm.dm.thin.blocks.Kind.most", most)
    monkeypatch.setattr("fusedm.dm.thin.tree.ROOM_WORTH_USING", 2)


class Model:
    """A pool as dictionaries, on which the same is done as on metadata, at random.

    What it maps it takes from metadata; what has been committed it keeps to go back to.
    """

    def __init__(self, medium: Medium, seed: int, blocks: int = 60) -> None:
        self.random = random.Random(seed)
        self.medium = medium
        self.blocks = blocks
        self.metadata = medium.open()
        self.metadata.resize_data(blocks * 4)
        self.now: dict[int, dict[int, int]] = {}
        self.committed: dict[int, dict[int, int]] = {}
        self.held: dict[int, dict[int, int]] | None = None
        self.committed_held: dict[int, dict[int, int]] | None = None
        self.commit()

    def step(self) -> None:
        """Do one thing."""
        names = ["insert"] * 12 + ["remove"] * 3 + ["create", "snap", "snap", "delete"]
        names += ["commit"] * 3 + ["abort", "hold"]
        getattr(self, self.random.choice(names))()

    def commit(self) -> None:
        self.medium.run(self.metadata.commit())
        refill(self.metadata)
        self.committed = {device: dict(blocks) for device, blocks in self.now.items()}
        self.committed_held = self.held

    def abort(self) -> None:
        self.medium.run(self.metadata.abort())
        self.now = {device: dict(blocks) for device, blocks in self.committed.items()}
        self.held = self.committed_held

    def create(self) -> None:
        if (device := self.random.randrange(8)) not in self.now:
            self.metadata.create_thin(device)
            self.now[device] = {}

    def snap(self) -> None:
        device = self.random.randrange(8)
        if self.now and device not in self.now:
            origin = self.random.choice(sorted(self.now))
            self.metadata.create_snap(device, origin)
            self.now[device] = dict(self.now[origin])

    def delete(self) -> None:
        if self.now:
            device = self.random.choice(sorted(self.now))
            self.metadata.delete(device)
            del self.now[device]

    def insert(self) -> None:
        if self.now:
            device = self.random.choice(sorted(self.now))
            first = self.random.randrange(self.blocks)
            for block in range(first, min(first + self.random.randrange(1, 9), self.blocks)):
                if self.metadata.can_allocate:
                    data = self.metadata.allocate()
                    assert data not in self.in_use(), "a data block is given out twice"
                    self.metadata.insert(device, block, data)
                    self.now[device][block] = data

    def in_use(self) -> set[int]:
        """Data blocks that something leads to, or will after an abort or a power cut."""
        states = self.now, self.committed, self.held or {}, self.committed_held or {}
        return {data for state in states for of in state.values() for data in of.values()}

    def remove(self) -> None:
        if self.now:
            device = self.random.choice(sorted(self.now))
            begin = self.random.randrange(self.blocks)
            end = begin + self.random.choice((1, 1, 5, self.blocks))
            gone = [block for block in self.now[device] if begin <= block < end]
            assert self.metadata.remove(device, begin, end) == len(gone)
            for block in gone:
                del self.now[device][block]

    def hold(self) -> None:
        """Reserve a metadata snapshot, or release the one there is."""
        if self.metadata.held_root:
            self.metadata.release_metadata_snap()
            self.held = None
            return
        self.medium.run(self.metadata.reserve_metadata_snap())
        refill(self.metadata)
        self.committed = {device: dict(blocks) for device, blocks in self.now.items()}
        self.held, self.committed_held = self.committed, None

    def compare(self) -> None:
        """Metadata say what the model says."""
        metadata = self.metadata
        assert mappings(metadata) == dict(sorted(self.now.items()))
        users: dict[int, int] = {}
        for device, of in self.now.items():
            assert metadata.mapped_blocks(device) == len(of)
            assert metadata.highest_mapped(device) == max(of, default=None)
            for data in of.values():
                users[data] = users.get(data, 0) + 1
        for device, of in self.now.items():
            for block in range(self.blocks):
                found = metadata.lookup(device, block)
                assert (found and found[0]) == of.get(block)
                assert not found or found[1] or users[found[0]] == 1
        states = self.now, self.held or {}
        used = {data for state in states for of in state.values() for data in of.values()}
        assert metadata.data_blocks - metadata.free_data_blocks == len(used)


def power_cuts(before: bytes, log: list[tuple[int, bytes] | None], some: random.Random):
    """What a device may hold after a power cut: how far writes had come, and an image of each.

    After each write, with all sectors written since the last flush, with none, and with some.
    """
    durable = bytearray(before)
    pending: list[tuple[int, bytes]] = []
    yield 0, bytes(durable)
    for number, entry in enumerate(log, 1):
        if entry is None:
            for offset, data in pending:
                durable[offset : offset + len(data)] = data
            pending = []
            yield number, bytes(durable)
            continue
        offset, data = entry
        pending += [(offset + at, data[at : at + 512]) for at in range(0, len(data), 512)]
        for chance in (0.5, 0.9, 1):
            image = bytearray(durable)
            for at, sector in pending:
                if some.random() < chance:
                    image[at : at + 512] = sector
            yield number, bytes(image)

"""Targets over disks of their own, for random tables: arrays, thin devices, snapshots, mirrors.

Of each there are many tables that mean the same, so one may take the place of another at any time:
a member is missing, is rebuilt or comes back, a snapshot is merged, or is one still.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

import trio

from fusedm.block import BlockDevice
from fusedm.block.errors import StackError
from fusedm.disk import Disk
from fusedm.dm import MappedDevice, open_targets, parse_table
from fusedm.dm.targets.raid import Raid
from tests.helpers.builders import make_disk
from tests.helpers.devices import lookup_in

CHUNK, META_SECTORS = 8, 64

#: Type of array: members, and how many of them have room for the same as the array. Of two mirrors
#: one that was missing would be taken for good if the table said of the other that it be rebuilt.
ARRAYS: dict[str, tuple[int, int]] = {
    "raid0": (2, 2),
    "raid1": (3, 1),
    "raid10": (4, 2),
    "raid4": (3, 2),
    "raid5_ls": (3, 2),
    "raid5_ra": (3, 2),
    "raid6_zr": (4, 2),
    "raid6_ls_6": (4, 2),
}
KINDS = (*ARRAYS, "thin", "thin", "snapshot", "snapshot-merge", "snapshot-origin", "mirror")

#: What is rebuilt in one step, in sectors, and KiB a second: it takes as long as several changes.
STEP, RATE = 16, 3000

#: Of the pool for all thin devices.
THIN_BLOCK, POOL_BLOCKS = 128, 64


@dataclass
class Piece:
    """One line of a table, from sector start on; number tells it from others."""

    kind: str
    start: int
    count: int
    disks: dict[str, int] = field(default_factory=dict)
    is_merged: bool = False

    def __post_init__(self) -> None:
        """Its disks, by their names, and their sizes."""
        if self.kind in ARRAYS:
            members, of_data = ARRAYS[self.kind]
            for index in range(members):
                self.disks[self._name("m", index)] = META_SECTORS
                self.disks[self._name("d", index)] = self.count // of_data
        elif self.kind == "mirror":
            self.disks |= {self._name("d", index): self.count for index in range(2)}
            self.disks[self._name("m", 0)] = META_SECTORS
        elif self.kind != "thin":
            self.disks[self._name("d", 0)] = self.count
            self.disks[self._name("m", 0)] = 16 + 3 * self.count + 64

    def _name(self, letter: str, index: int) -> str:
        return f"{letter}{index}_{self.start}"

    @property
    def line(self) -> str:
        """The first of its lines."""
        return f"{self.start} {self.count} {self._words(None)}"

    def other_line(self, random: Random) -> str:
        """Another one that means the same."""
        return f"{self.start} {self.count} {self._words(random)}"

    def _words(self, random: Random | None) -> str:
        data, meta = self._name("d", 0), self._name("m", 0)
        if self.kind in ARRAYS:
            return self._array(random)
        if self.kind == "thin":
            return f"thin pool {self.start}"
        if self.kind == "snapshot-origin":
            return f"snapshot-origin {data}"
        if self.kind == "mirror":
            options = random.choice(["", " 1 handle_errors"]) if random else ""
            return f"mirror disk 2 {meta} 8 2 {data} 0 {self._name('d', 1)} 0{options}"
        # What is merged by one table is not merged by the next, which would be refused.
        may_merge = self.kind == "snapshot-merge" and random is not None and not self.is_merged
        self.is_merged = may_merge and random.random() < 0.5
        return f"{'snapshot-merge' if self.is_merged else 'snapshot'} {data} {meta} P 2"

    def _array(self, random: Random | None) -> str:
        members, _ = ARRAYS[self.kind]
        words, lost = [0 if self.kind == "raid1" else CHUNK], None
        if self.kind != "raid0":
            words += ["region_size", 16, "daemon_sleep", 20, "max_recovery_rate", RATE]
            if random is not None and random.random() < 0.3:
                words += ["rebuild", random.randrange(members)]
            elif random is not None and random.random() < 0.3:
                lost = random.randrange(members)
        names = (
            "- -" if index == lost else f"{self._name('m', index)} {self._name('d', index)}"
            for index in range(members)
        )
        count = len(words)
        return f"raid {self.kind} {count} {' '.join(map(str, words))} {members} {' '.join(names)}"


def make_piece(random: Random, start: int, most: int, step: int = 1) -> Piece | None:
    """A line of at most so many sectors, in whole steps; None if they are too few for its kind."""
    kind = random.choice(KINDS)
    unit = CHUNK * 2 if kind == "mirror" or (kind in ARRAYS and kind != "raid1") else step
    count = most // unit * unit
    return Piece(kind, start, count) if count else None


def is_too_early(error: StackError) -> bool:
    """Whether a table is refused for what is still under way.

    A member of an array would be rebuilt beside another, or a snapshot merged by two at a time.
    """
    return any(text in str(error) for text in ("not enough are left", "is being merged already"))


async def make_disks(pieces: Iterable[Piece], random: Random) -> list[Disk]:
    """Their disks, some of those for data with an engine."""
    disks = []
    for piece in pieces:
        for name, sectors in piece.disks.items():
            slots = random.choice([None, None, 1]) if name[0] == "d" else None
            disks.append(make_disk(name, sectors, slots=slots))
    return disks


async def make_pool(pieces: Iterable[Piece]) -> list[BlockDevice]:
    """The pool with the devices of those that are thin, and its disks, if there are any."""
    numbers = [piece.start for piece in pieces if piece.kind == "thin"]
    if not numbers:
        return []
    disks = [make_disk("pool_meta", 2048), make_disk("pool_data", POOL_BLOCKS * THIN_BLOCK)]
    pool = MappedDevice("pool")
    line = f"0 {POOL_BLOCKS * THIN_BLOCK} thin-pool pool_meta pool_data {THIN_BLOCK} 0"
    await load_opened(pool, line, disks)
    await pool.resume()
    for number in numbers:
        await pool.message(0, ["create_thin", str(number)])
    return [pool, *disks]


async def load_opened(mapped: MappedDevice, text: str, devices: Sequence[BlockDevice]) -> None:
    """Put a table into the inactive slot, once its targets have read what they need.

    Raises: StackError of a target that cannot be.
    """
    table = parse_table(text, lookup_in(*devices), lambda: 0.0)
    for entry in table.entries:
        if isinstance(entry.target, Raid):
            entry.target.level.step_sectors = STEP
    await open_targets(table, mapped)
    mapped.load(table)


async def assert_members_agree(device: MappedDevice) -> None:
    """All members of its arrays are there, or come back, and what is redundant is right."""
    assert device.live is not None, "it has been started"
    arrays = [each for each in device.live.entries if isinstance(each.target, Raid)]
    arrays = [each for each in arrays if each.target.level.is_redundant]
    await trio.sleep(1)
    for entry in arrays:
        await device.message(entry.start_sector, ["check"])
    await trio.sleep(1)
    for entry in arrays:
        words = [str(word) for word in entry.target.status()]
        assert set(words[2]) == {"A"}, words
        assert words[4:6] == ["idle", "0"], words

"""switch: each region by a path that messages choose.  See switch.md."""

import re
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from fusedm.block import Bio, Op
from fusedm.block.errors import StackError
from fusedm.dm.arguments import Arguments
from fusedm.dm.target import ALWAYS, Action, Many, Segment, Steady, Target, Word

#: Steady looks for neighbours with the same path within so many regions.
WINDOW = 256

_MAPPING = re.compile("([0-9a-fA-F]*):([0-9a-fA-F]+)")
_REPEAT = re.compile("[rR]([0-9a-fA-F]+),([0-9a-fA-F]+)")


def examples() -> list[str]:
    """Arguments the contract suite tries."""
    return ["1 64 0 d0 0", "2 32 0 d0 0 d1 2048", "3 7 0 d0 0 d1 8 d0 2048"]


@dataclass
class Switch(Target):
    """Sectors keep their numbers, whichever path they go by; data are moved, never touched."""

    name = "switch"
    version = (1, 1, 0)
    passes_crypto = False  # Nor does the kernel's, though it could.

    sector_count: int
    region_sectors: int
    paths: tuple[Segment, ...]
    #: The path of each region.
    table: "array[int]" = field(init=False, compare=False)

    def __post_init__(self) -> None:
        self.max_io_sectors = self.region_sectors
        count = -(-self.sector_count // self.region_sectors)
        paths = len(self.paths)
        in_turn = array(_typecode(paths), range(paths))
        self.table = (in_turn * -(-count // paths))[:count]

    @classmethod
    def make(cls, line: Arguments) -> "Switch":
        return cls(line.sector_count, line.number("region_size"), tuple(line.segments()))

    def params(self) -> list[Word]:
        paths = [word for path in self.paths for word in path.params()]
        return [str(len(self.paths)), str(self.region_sectors), "0", *paths]

    def devices(self) -> Iterable[Segment]:
        return self.paths

    def map(self, bio: Bio) -> Action:
        if bio.op is Op.FLUSH:
            return Many(tuple(path.remap(bio) for path in self.paths))
        actions = tuple(self._map_regions(bio))
        return actions[0] if len(actions) == 1 else Many(actions)

    def _map_regions(self, bio: Bio) -> Iterator[Action]:
        """A DISCARD may be of many regions: neighbours with the same path get one."""
        size, begin = self.region_sectors, bio.sector
        last = (bio.end_sector - 1) // size
        for region in range(begin // size, last + 1):
            path = self.table[region]
            if region < last and self.table[region + 1] == path:
                continue
            end = min((region + 1) * size, bio.end_sector)
            yield self.paths[path].remap(bio.slice(begin - bio.sector, end - bio.sector))
            begin = end

    def steady(self, sector: int) -> Steady:
        if len(self.paths) == 1:
            return ALWAYS
        region = begin = sector // self.region_sectors
        first = region - region % WINDOW
        path, last = self.table[region], min(first + WINDOW, len(self.table))
        while begin > first and self.table[begin - 1] == path:
            begin -= 1
        end = region + 1
        while end < last and self.table[end] == path:
            end += 1
        size = self.region_sectors
        return Steady(begin * size, end * size)

    def message(self, words: list[str]) -> str:
        """Each word is done before the next is looked at, as in the kernel."""
        if words[0].lower() != "set_region_mappings":
            raise StackError(f"switch: message {words[0]!r} is not set_region_mappings")
        self.changed()
        region = 0
        for word in words[1:]:
            if repeat := _REPEAT.fullmatch(word):
                region = self._repeat(region, *(int(digits, 16) for digits in repeat.groups()))
            elif mapping := _MAPPING.fullmatch(word):
                region = int(mapping[1], 16) if mapping[1] else region + 1
                self._set(region, int(mapping[2], 16))
            else:
                text = f"switch: {word!r} is none of REGION:PATH, :PATH, RN,M (hexadecimal)"
                raise StackError(text)
        return ""

    def _set(self, region: int, path: int) -> None:
        self._check(region)
        if path >= len(self.paths):
            raise StackError(f"switch: path {path} is not below {len(self.paths)}")
        self.table[region] = path

    def _repeat(self, region: int, cycle: int, count: int) -> int:
        """Give as many regions after a region the paths of those up to it, in turn."""
        if not 0 < cycle <= region + 1:
            text = f"switch: there are {region + 1} regions up to region {region}, not {cycle}"
            raise StackError(text)
        self._check(region + count)
        paths = self.table[region + 1 - cycle : region + 1]
        self.table[region + 1 : region + 1 + count] = (paths * -(-count // cycle))[:count]
        return region + count

    def _check(self, region: int) -> None:
        if region >= len(self.table):
            raise StackError(f"switch: region {region} is not below {len(self.table)}")


def _typecode(paths: int) -> str:
    """The type of an array that holds the numbers of so many paths."""
    return "B" if paths <= 1 << 8 else "H" if paths <= 1 << 16 else "L"

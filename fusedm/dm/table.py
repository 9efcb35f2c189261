"""Tables: the text that makes a mapped device, and the search for the target of a sector.

A line is `start length type arguments`, in sectors; blank lines and lines that begin with # say
nothing; a backslash takes the next character literally, so an argument may hold a blank.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from fusedm.block import BlockDevice, CryptoCounts, Limits
from fusedm.block.device_mapper import TargetLine
from fusedm.block.errors import StackError, TableError
from fusedm.block.limits import stack_all
from fusedm.block.units import MAX_SECTORS, SECTOR_SHIFT
from fusedm.dm.registry import target_class
from fusedm.dm.target import NO_KEYS, KeyRing, Params, Target, Word, whole_number

if TYPE_CHECKING:
    from fusedm.dm.background import Background

#: A table is parsed in one go while nothing else runs, at some 50 microseconds a line, and has
#: to fit into one control message; LVM's largest tables have a few thousand lines.
MAX_TABLE_TARGETS = 1 << 14

_WORD = re.compile(r"(?:\\.|\S)+")
_ESCAPED = re.compile(r"\\(.)")
_TO_ESCAPE = re.compile(r"[\\\s]")

Lookup = Callable[[str], BlockDevice]

#: What a device is called in a text.
Namer = Callable[[BlockDevice], str]


@dataclass(frozen=True, slots=True)
class TableEntry:
    """A target, where it lies in its table, and how bios with a context went through it.

    line is where it stood in the text (0: nowhere), for errors.
    """

    start_sector: int
    sector_count: int
    target: Target
    counts: CryptoCounts = field(default_factory=CryptoCounts)
    line: int = 0

    @property
    def end_sector(self) -> int:
        """The first sector after the target."""
        return self.start_sector + self.sector_count


class Table:
    """Adjacent targets from sector 0 on, at least one.

    is_open, is_started and is_running say how far its targets have come, background is what they do
    there (lifecycle.py).
    """

    __slots__ = (
        "_devices", "_starts", "background", "entries", "is_open", "is_running", "is_started",
        "sector_count",
    )  # fmt: skip

    def __init__(self, entries: Sequence[TableEntry]) -> None:
        self.is_open = self.is_started = self.is_running = False
        self.background: Background | None = None
        ends = [0, *(entry.end_sector for entry in entries)]
        self.entries = tuple(entries)
        self.sector_count = ends[-1]
        self._starts = [entry.start_sector for entry in entries]
        self._devices: list[BlockDevice] | None = None
        assert entries, "a table has at least one target"
        assert self._starts == ends[:-1], f"starts {self._starts} do not follow ends {ends}"

    def find(self, sector: int) -> TableEntry:
        """The entry that holds a sector."""
        assert 0 <= sector < self.sector_count, f"{sector} of {self.sector_count}"
        return self.entries[bisect_right(self._starts, sector) - 1]

    def devices(self) -> list[BlockDevice]:
        """Each device below once, in the order of the table, those of its targets' own last."""
        if self._devices is None:
            own = [device for entry in self.entries for device in entry.target.own_devices()]
            self._devices = list(dict.fromkeys([*self.data_devices(), *own]))
        return self._devices

    def data_devices(self) -> list[BlockDevice]:
        """Each device below once that bios may be sent to."""
        segments = (part for entry in self.entries for part in entry.target.devices())
        return list(dict.fromkeys(segment.device for segment in segments))


def parse_table(
    text: str,
    lookup: Lookup,
    clock: Callable[[], float],
    is_checked: bool = True,
    ring: KeyRing = NO_KEYS,
) -> Table:
    """Make a table of its text, devices found by lookup, times told by clock, keys in ring.

    is_checked has it refused if it does not fit the devices below as they are now.
    Units:  clock in seconds from any start.
    Raises: TableError with the line; a failed lookup's errno is kept.
    """
    entries: list[TableEntry] = []
    try:
        for line, words in _lines(text):
            if len(entries) == MAX_TABLE_TARGETS:
                raise TableError(line, "", f"a table has at most {MAX_TABLE_TARGETS} targets")
            entries.append(_parse_line(line, words, entries, lookup, clock, ring))
        if not entries:
            raise TableError(0, "", "is empty: at least one line `start length type arguments`")
        table = Table(entries)
        if is_checked:
            check_table(table)
    except TableError:
        for entry in entries:
            entry.target.forget()
        raise
    return table


def key_references(text: str) -> list[str]:
    """The words of a table that name keys of a keyring: the second arguments that look so."""
    seconds = (words[4] for _, words in _lines(text) if len(words) > 4)
    return [word for word in seconds if word.startswith(":")]


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(text.split("\n"), 1):
        words = _WORD.findall(line)
        if words and not words[0].startswith("#"):
            yield number, [_ESCAPED.sub(r"\1", word) for word in words]


def _parse_line(
    line: int,
    words: list[str],
    before: list[TableEntry],
    lookup: Lookup,
    clock: Callable[[], float],
    ring: KeyRing,
) -> TableEntry:
    if len(words) < 3:
        raise TableError(line, "", f"{' '.join(words)!r} is not `start length type arguments`")
    start = _number(line, "start", words[0])
    length = _number(line, "length", words[1])
    _check_place(line, start, length, before)
    try:
        kind = target_class(words[2])
    except StackError as error:
        raise TableError(line, "", str(error)) from None
    params = Params(kind.name, kind.usage, words[3:], length, lookup, clock, line, ring)
    target = kind.parse(params)
    params.finish()
    return TableEntry(start, length, target, line=line)


def _number(line: int, name: str, word: str) -> int:
    number = whole_number(word)
    if number is None:
        raise TableError(line, "", f"{name}: {word!r} is not a number")
    return number


def _check_place(line: int, start: int, length: int, before: list[TableEntry]) -> None:
    if not before and start:
        raise TableError(line, "", f"start {start}: the first target must start at 0")
    end = before[-1].end_sector if before else 0
    if start != end:
        what = "gap" if start > end else "overlap"
        raise TableError(line, "", f"{what}: starts at {start}, the target before ends at {end}")
    if not length:
        raise TableError(line, "", "length 0: a target has at least 1 sector")
    if start + length > MAX_SECTORS:
        raise TableError(line, "", f"{start} + {length} sectors ends past {MAX_SECTORS} sectors")


def check_table(table: Table) -> None:
    """Refuse ranges that do not fit the devices below as they are now.

    Raises: TableError. The kernel lets a device of size 0 pass; here it is too small as any other.
    Source: device_area_is_invalid and validate_hardware_logical_block_alignment in dm-table.c.
    """
    for entry in table.entries:
        _check_entry(entry)
    block = stack_all(target_limits(entry.target) for entry in table.entries).logical_block_size
    if table.sector_count % (block >> SECTOR_SHIFT):
        raise TableError(0, "", _not_aligned("length", table.sector_count, block))


def _check_entry(entry: TableEntry) -> None:
    target = entry.target
    segments = list(target.devices())
    for segment in segments:
        end, size = segment.start_sector + segment.sector_count, segment.device.sector_count
        if end > size:
            raise TableError(
                entry.line,
                target.name,
                f"{segment.start_sector} + {segment.sector_count} sectors ends past "
                f"{segment.device.name} ({size} sectors)",
            )
    block = target_limits(target).logical_block_size
    aligned = [("start", entry.start_sector), ("length", entry.sector_count)]
    aligned += [(f"offset into {part.device.name}", part.start_sector) for part in segments]
    if target.max_io_sectors is not None:
        aligned.append(("largest I/O", target.max_io_sectors))
    for what, sectors in aligned:
        if sectors % (block >> SECTOR_SHIFT):
            raise TableError(entry.line, target.name, _not_aligned(what, sectors, block))


def _not_aligned(what: str, sectors: int, block: int) -> str:
    return (
        f"{what} {sectors} is not a multiple of {block >> SECTOR_SHIFT} sectors, "
        f"the logical block size of {block} bytes"
    )


def target_limits(target: Target) -> Limits:
    """What a target and the devices it uses ask of bios, and whether all take DISCARD and such.

    Source: dm_table_supports_discards, dm_table_supports_write_zeroes in the kernel's dm-table.c.
    """
    limits = stack_all([target.limits(), *(part.device.limits for part in target.devices())])
    return replace(
        limits,
        discard=target.takes_discards and (target.discards_end_here or limits.discard),
        write_zeroes=target.passes_zeroes and limits.write_zeroes,
    )


def name_of(device: BlockDevice) -> str:
    """What a device is called in the tables of its own stack."""
    return device.name


def table_lines(table: Table, namer: Namer = name_of, show_keys: bool = False) -> list[TargetLine]:
    """The lines of a table, one for each target; parse_table of them gives the same targets.

    Keys are masked unless they are to be shown; a table with masked keys is refused when loaded.
    """
    if show_keys:
        return _lines_of(table, namer, lambda target: target.key_params())
    return _lines_of(table, namer, lambda target: target.params())


def status_lines(table: Table, namer: Namer = name_of) -> list[TargetLine]:
    """What each target has to say about its state."""
    return _lines_of(table, namer, lambda target: target.status())


def format_table(table: Table, namer: Namer = name_of, show_keys: bool = False) -> str:
    """table_lines as a text."""
    return "\n".join(map(str, table_lines(table, namer, show_keys)))


def format_status(table: Table, namer: Namer = name_of) -> str:
    """status_lines as a text."""
    return "\n".join(map(str, status_lines(table, namer)))


def _lines_of(
    table: Table, namer: Namer, words: Callable[[Target], list[Word]]
) -> list[TargetLine]:
    return [
        TargetLine(
            entry.start_sector,
            entry.sector_count,
            entry.target.name,
            " ".join(_word(word, namer) for word in words(entry.target)),
        )
        for entry in table.entries
    ]


def _word(word: Word, namer: Namer) -> str:
    text = word if isinstance(word, str) else namer(word)
    return _TO_ESCAPE.sub(r"\\\g<0>", text)

"""Tables: the text that makes a mapped device, and the search for the target of a sector.

A line is `start length type arguments`, in sectors; blank lines and lines that begin with # say
nothing; a backslash takes the next character literally, so an argument may hold a blank.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from fusedm.block import BlockDevice, CryptoCounts, CryptoKey, Limits
from fusedm.block.device_mapper import TargetLine
from fusedm.block.errors import StackError, TableError
from fusedm.block.limits import stack_all
from fusedm.block.units import SECTOR_SHIFT
from fusedm.dm.arguments import NO_KEYS, Arguments, KeyRing, Lookup
from fusedm.dm.registry import target_class
from fusedm.dm.target import Target, Word
from fusedm.tables import Reader, escaped, read_lines

if TYPE_CHECKING:
    from fusedm.dm.background import Background

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

    def devices_for(self, key: CryptoKey) -> list[BlockDevice]:
        """Those that are to be made ready for a key.

        A wrapped one is of no use on devices of a target's own: it is for engines only.
        """
        return self.data_devices() if key.config.is_wrapped else self.devices()

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
    return make_table(read_lines(text, limits=is_checked), lookup, clock, is_checked, ring)


def make_table(
    lines: Iterable[Reader],
    lookup: Lookup,
    clock: Callable[[], float],
    is_checked: bool = True,
    ring: KeyRing = NO_KEYS,
) -> Table:
    """The same of lines that have been read.

    Raises: TableError.
    """
    entries: list[TableEntry] = []
    try:
        for line in lines:
            entries.append(_make_entry(line, lookup, clock, ring))
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


def key_references(lines: Iterable[Reader]) -> list[str]:
    """The words of lines that have been read that name keys of a keyring."""
    keys = (field.word.text for line in lines for field in line.fields if field.is_secret)
    return [word for word in keys if word.startswith(":")]


def _make_entry(
    line: Reader, lookup: Lookup, clock: Callable[[], float], ring: KeyRing
) -> TableEntry:
    number = line.line.number
    try:
        kind = target_class(line.target)
    except StackError as error:
        raise TableError(number, "", str(error)) from None
    target = kind.make(Arguments(line, lookup, clock, ring))
    return TableEntry(line.start_sector, line.sector_count, target, line=number)


def check_table(table: Table) -> None:
    """Refuse ranges that do not fit the devices below as they are now.

    Raises: TableError. The kernel lets a device of size 0 pass; here it is too small as any other.
    Source: device_area_is_invalid and validate_hardware_logical_block_alignment in dm-table.c.
    """
    limits = [target_limits(entry.target) for entry in table.entries]
    for entry, own in zip(table.entries, limits, strict=True):
        _check_entry(entry, own.logical_block_size)
    block = stack_all(limits).logical_block_size
    if table.sector_count % (block >> SECTOR_SHIFT):
        raise TableError(0, "", _not_aligned("length", table.sector_count, block))


def check_types(live: Table | None, new: Table, read_only: bool) -> None:
    """Refuse a table that cannot be read-only, or cannot take the place of a live one.

    Raises: TableError(EINVAL).
    Source: dm_table_add_target in the kernel's dm-table.c, table_load in dm-ioctl.c.
    """
    for entry in new.entries:
        if read_only and entry.target.needs_writing:
            raise TableError(entry.line, entry.target.name, "cannot be in a read-only table")
    names = {entry.target.name for entry in new.entries}
    for entry in live.entries if live is not None and "error" not in names else ():
        if entry.target.is_immutable and entry.target.name not in names:
            text = f"{', '.join(sorted(names))} cannot take the place of {entry.target.name}"
            raise TableError(0, "", text)


def _check_entry(entry: TableEntry, block: int) -> None:
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
    own = target.limits()
    limits = stack_all([own, *(part.device.limits for part in target.devices())])
    block = own.logical_block_size if target.hides_blocks else limits.logical_block_size
    return replace(
        limits,
        logical_block_size=block,
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
    return escaped(word if isinstance(word, str) else namer(word))

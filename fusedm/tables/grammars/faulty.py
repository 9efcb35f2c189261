"""flakey, delay, dust and log-writes: devices that fail, are late, or keep a record."""

import errno

from fusedm.block.units import SECTOR_SIZE
from fusedm.tables.finding import Kernel
from fusedm.tables.grammar import Grammar
from fusedm.tables.pieces import (
    MAX_32_BITS,
    Choice,
    Device,
    Feature,
    Group,
    Number,
    Offset,
    read_all,
)
from fusedm.tables.reader import Reader

#: In the order in which the kernel prints them.
_PRINTED = (
    "error_reads",
    "drop_writes",
    "error_writes",
    "corrupt_bio_byte",
    "random_read_corrupt",
    "random_write_corrupt",
)

#: Random corruption is so many times in 10**9 bios.
_CERTAIN = 10**9

#: A time longer than this was perhaps given in another unit.
_LONG_SECONDS = 3600
_LONG_MS = 60_000

#: The largest block of dust.
_MAX_DUST_SECTORS = 1 << 21


def _period(line: Reader) -> None:
    up, down = line.number("up"), line.number("down")
    if not 0 < up + down <= MAX_32_BITS:
        line.error(f"up {up} + down {down} is not in 1..{MAX_32_BITS} seconds", line.get("down"))
    for name in ("up", "down"):
        if line.number(name) > _LONG_SECONDS:
            line.warn(
                f"{name} {line.number(name)}: is in seconds: {line.number(name) / 3600:.1f} hours",
                line.get(name),
            )


def _flakey_kinds(line: Reader) -> tuple[set[str], bool, bool]:
    """The features that do anything, and whether reads and writes are corrupted."""
    names = {name for name, _ in line.features}
    reads, writes = line.number("random_read_corrupt"), line.number("random_write_corrupt")
    byte = line.text("direction")
    return names, byte == "r" or reads > 0, byte == "w" or writes > 0


def _flakey_features(line: Reader) -> None:
    names, corrupts_reads, corrupts_writes = _flakey_kinds(line)
    if {"drop_writes", "error_writes"} <= names:
        line.error("drop_writes and error_writes exclude each other", line.get("feature"))
    for name in ("drop_writes", "error_writes"):
        if name in names and corrupts_writes:
            line.error(f"{name} and corruption of writes exclude each other", line.get("feature"))
    if "error_reads" in names and corrupts_reads:
        line.error("error_reads and corruption of reads exclude each other", line.get("feature"))


def _flakey_printed(line: Reader) -> list[str]:
    names, corrupts_reads, corrupts_writes = _flakey_kinds(line)
    words = {name: printed for name, printed in line.features}
    if not names & {"error_reads", "drop_writes", "error_writes"} and not (
        corrupts_reads or corrupts_writes
    ):
        words |= {"error_reads": ["error_reads"], "error_writes": ["error_writes"]}
    for name in ("random_read_corrupt", "random_write_corrupt"):
        if not line.number(name):
            words.pop(name, None)
    features = [word for name in _PRINTED for word in words.get(name, [])]
    first = [found.printed for found in line.fields[:4]]
    return [*first, str(len(features)), *features]


class _Ways:
    """One to three times: for all, for writes, for flushes."""

    def read(self, line: Reader) -> bool:
        """Read all words."""
        if line.left not in (3, 6, 9):
            line.error(f"{line.left} arguments: it takes 3, 6 or 9 ({line.usage})")
            return False
        way = (Device(), Offset(), Number("ms", "ms", maximum=MAX_32_BITS))
        return all(read_all(way, line) for _ in range(line.left // 3))


def _long_delay(line: Reader) -> None:
    for found in line.all("ms"):
        if isinstance(found.value, int) and found.value > _LONG_MS:
            line.warn(f"ms {found.value}: is {found.value / 60_000:.1f} minutes", found)


class _DustBlock:
    """The block of dust, which must not be larger than the target."""

    def read(self, line: Reader) -> bool:
        """Take one word."""
        most = min(line.sector_count, _MAX_DUST_SECTORS) * SECTOR_SIZE
        return Number("blksz", "bytes", SECTOR_SIZE, most, power_of_two=True).read(line)


class _Ignored:
    """Words the kernel does not look at."""

    def read(self, line: Reader) -> bool:
        """Read them all."""
        if line.left:
            extra = line.span(line.rest())
            line.warn(f"{line.quote(extra)} is ignored: it takes {line.usage}", extra)
        return True


def _same_log(line: Reader) -> None:
    if line.text("dev") == line.text("logdev"):
        line.error(
            f"logdev: the log is written to dev {line.quote(line.fields[0].word)} itself",
            line.get("logdev"),
            Kernel(0, why="the log and the data overwrite each other"),
        )


GRAMMARS = [
    Grammar(
        "flakey",
        "dev offset up down [n feature...]",
        (
            Device(),
            Offset(),
            Number("up", "seconds", maximum=MAX_32_BITS),
            Number("down", "seconds", maximum=MAX_32_BITS),
            Group(
                (
                    Feature("error_reads"),
                    Feature("drop_writes"),
                    Feature("error_writes"),
                    Feature(
                        "corrupt_bio_byte",
                        (
                            Number("byte", minimum=1, maximum=MAX_32_BITS),
                            Choice("direction", ("r", "w"), ignore_case=True),
                            Number("value", maximum=255),
                            Number("flags", maximum=MAX_32_BITS),
                        ),
                    ),
                    Feature(
                        "random_read_corrupt",
                        (Number("random_read_corrupt", "in 10^9", maximum=_CERTAIN),),
                    ),
                    Feature(
                        "random_write_corrupt",
                        (Number("random_write_corrupt", "in 10^9", maximum=_CERTAIN),),
                    ),
                ),
                maximum=11,
                ignore_case=True,
            ),
        ),
        (_period, _flakey_features),
        _flakey_printed,
    ),
    Grammar("delay", "dev offset ms [dev offset ms [dev offset ms]]", (_Ways(),), (_long_delay,)),
    # As in the kernel, which device it is that is missing makes no difference.
    Grammar(
        "dust", "dev offset blksz", (Device(), Offset(), _DustBlock()), lookup_errno=errno.EINVAL
    ),
    Grammar("log-writes", "dev logdev", (Device(), Device("logdev"), _Ignored()), (_same_log,)),
]

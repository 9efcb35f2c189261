"""mirror: the same data on several devices, with a log of what is in sync."""

from fusedm.tables.finding import REFUSES_IT, Kernel
from fusedm.tables.grammar import Grammar
from fusedm.tables.pieces import (
    Choice,
    Device,
    Feature,
    Group,
    Number,
    Offset,
    Piece,
    Repeat,
    read_all,
)
from fusedm.tables.reader import Reader

_SYNC = ("sync", "nosync")

#: As many as fusedm has memory for, in bits; the kernel takes what fits into its own.
MAX_REGIONS = 1 << 26

#: Logs that a daemon keeps, of LVM's clusters.
_OF_DAEMONS = ("userspace", "clustered-core", "clustered-disk", "clustered_core", "clustered_disk")


class _Log:
    """core REGION [sync|nosync], or disk LOGDEV REGION [sync|nosync], counted."""

    def read(self, line: Reader) -> bool:
        """Read the log and its arguments."""
        if line.peek() in _OF_DAEMONS:
            word = line.take("log")
            kernel = Kernel(why="unless there is such a daemon")
            line.error("log: a daemon in userspace keeps it, there is none here", word, kernel)
            return False
        if not read_all((Choice("log", ("core", "disk")), Number("log arguments")), line):
            return False
        kind, counted = line.text("log"), line.get("log arguments")
        if not kind or counted is None or not isinstance(counted.value, int):
            return False
        least = 1 if kind == "core" else 2
        if counted.value not in (least, least + 1):
            line.error(
                f"log arguments {counted.value}: a {kind} log takes {least} or {least + 1}",
                counted,
            )
            return False
        region = Number("region", "sectors", minimum=2, power_of_two=True)
        pieces: list[Piece] = [region]
        if kind == "disk":
            pieces.insert(0, Device("logdev"))
        if counted.value > least:
            pieces.append(Choice("sync", _SYNC))
        return read_all(pieces, line)


def _regions(line: Reader) -> None:
    region = line.number("region")
    count = -(-line.sector_count // region)
    if count > MAX_REGIONS:
        line.error(
            f"region {region}: {count} regions, more than {MAX_REGIONS}",
            line.get("region"),
            Kernel(0, why="if there is memory for its log"),
            REFUSES_IT,
        )
    if region > line.sector_count:
        line.error(
            f"region {region}: is larger than the {line.sector_count} sectors of the target",
            line.get("region"),
        )


def _keep_log(line: Reader) -> None:
    names = {name for name, _ in line.features}
    if "keep_log" in names and "handle_errors" not in names:
        line.error("keep_log needs handle_errors", line.get("feature"))
    if "handle_errors" not in names:
        line.warn("without handle_errors a write that fails on some mirrors is not noticed")


def _printed(line: Reader) -> list[str]:
    given = {name for name, _ in line.features}
    words = [name for name in ("handle_errors", "keep_log") if name in given]
    first = [one.printed for one in line.fields if one.name not in ("features", "feature")]
    return [*first, *([str(len(words)), *words] if words else [])]


GRAMMARS = [
    Grammar(
        "mirror",
        "logtype n logarg... mirrors [dev offset]+ [n feature...]",
        (
            _Log(),
            Number("mirrors", minimum=2, maximum=9),
            Repeat("mirrors", (Device(), Offset()), words=2, to_the_end=False),
            Group(
                (
                    Feature("handle_errors", repeatable=True),
                    Feature("keep_log", repeatable=True),
                ),
                maximum=2,
            ),
        ),
        (_regions, _keep_log),
        _printed,
    )
]

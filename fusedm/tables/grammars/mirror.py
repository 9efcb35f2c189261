"""mirror: the same data on several devices, with a log of what is in sync."""

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


class _Log:
    """core REGION [sync|nosync], or disk LOGDEV REGION [sync|nosync], counted."""

    def read(self, line: Reader) -> bool:
        """Read the log and its arguments."""
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
        pieces: list[Piece] = [Number("region", "sectors", minimum=1, power_of_two=True)]
        if kind == "disk":
            pieces.insert(0, Device("logdev"))
        if counted.value > least:
            pieces.append(Choice("sync", _SYNC))
        return read_all(pieces, line)


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
            Group((Feature("handle_errors"), Feature("keep_log")), maximum=2),
        ),
        (_keep_log,),
        _printed,
    )
]

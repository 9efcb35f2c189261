"""thin-pool and thin: space that is given out when it is written to."""

from fusedm.tables.finding import Kernel
from fusedm.tables.grammar import Grammar
from fusedm.tables.pieces import Device, Feature, Group, Maybe, Number
from fusedm.tables.reader import Reader, human

#: In the order in which they are usually printed.
_FEATURES = (
    "skip_block_zeroing",
    "ignore_discard",
    "no_discard_passdown",
    "read_only",
    "error_if_no_space",
)

MAX_THIN_ID = (1 << 24) - 1


def _pool_printed(line: Reader) -> list[str]:
    words = [name for name in _FEATURES if line.has(name)]
    return [*(found.printed for found in line.fields[:4]), str(len(words)), *words]


def _devices_differ(line: Reader) -> None:
    if line.text("meta") == line.text("data"):
        line.error(
            "data: is the metadata device itself",
            line.get("data"),
            Kernel(0, why="the metadata and the data overwrite each other"),
        )


def _low_water(line: Reader) -> None:
    if not line.number("low_water"):
        line.warn("low_water 0: nobody is told before the pool is full", line.get("low_water"))
    elif line.number("low_water") * line.number("block") >= line.sector_count:
        line.warn(
            f"low_water {line.number('low_water')}: is in blocks of "
            f"{human(line.number('block'))}, more than the pool has",
            line.get("low_water"),
        )


def _origin_differs(line: Reader) -> None:
    if line.text("external_origin") == line.text("pool"):
        line.error("external_origin: is the pool itself", line.get("external_origin"))


GRAMMARS = [
    Grammar(
        "thin-pool",
        "meta data block low_water [n feature...]",
        (
            Device("meta"),
            Device("data"),
            Number("block", "sectors", 128, 1 << 21, multiple_of=128),
            Number("low_water", "blocks"),
            # As in the kernel four at most, though there are five.
            Group(
                tuple(Feature(name, repeatable=True) for name in _FEATURES),
                maximum=4,
                ignore_case=True,
            ),
        ),
        (_devices_differ, _low_water),
        _pool_printed,
        is_alone=True,
        needs_writing=True,
    ),
    Grammar(
        "thin",
        "pool id [external_origin]",
        (Device("pool"), Number("id", maximum=MAX_THIN_ID), Maybe((Device("external_origin"),))),
        (_origin_differs,),
    ),
]

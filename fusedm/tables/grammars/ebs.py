"""ebs: a smaller logical block than the device has."""

from fusedm.tables.finding import TAKES_IT
from fusedm.tables.grammar import Grammar
from fusedm.tables.pieces import (
    LIMITS_REFUSE,
    SECTORS_OF_4096,
    Device,
    Maybe,
    Number,
    Offset,
)
from fusedm.tables.reader import Reader

#: The largest power of two that the kernel's 16 bits hold.
MAX_UNDERLYING = 1 << 15


def _block(name: str, most: int) -> Number:
    return Number(name, "sectors", 1, most, power_of_two=True)


def _blocks_fit(line: Reader) -> None:
    block = line.number("emulated")
    places = {"offset": line.number("offset"), "start": line.start_sector}
    for name, sectors in {**places, "length": line.sector_count}.items():
        if sectors % block:
            line.error(
                f"{name} {sectors}: is not a multiple of the emulated block of {block} sectors",
                line.get(name),
                LIMITS_REFUSE,
            )


def _offset_is_less(line: Reader) -> None:
    offset = line.number("offset")
    if offset >= line.sector_count:
        # A check that seems to be meant for something else.
        line.error(
            f"offset {offset}: is not below the length of {line.sector_count} sectors",
            line.get("offset"),
            fusedm=TAKES_IT,
        )


def _offset_fits(line: Reader) -> None:
    underlying = line.number("underlying", 1)
    if line.number("offset") % underlying:
        line.error(
            f"offset {line.number('offset')}: is not a multiple of the underlying block of "
            f"{underlying} sectors",
            line.get("offset"),
        )


GRAMMARS = [
    Grammar(
        "ebs",
        "dev offset emulated [underlying]",
        (
            Device(),
            Offset(),
            _block("emulated", SECTORS_OF_4096),
            Maybe((_block("underlying", MAX_UNDERLYING),)),
        ),
        (_offset_fits, _blocks_fit, _offset_is_less),
    )
]

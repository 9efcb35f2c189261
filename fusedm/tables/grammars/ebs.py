"""ebs: a smaller logical block than the device has."""

from fusedm.tables.grammar import Grammar
from fusedm.tables.pieces import SECTORS_OF_4096, Device, Maybe, Number, Offset
from fusedm.tables.reader import Reader


def _block(name: str) -> Number:
    return Number(name, "sectors", 1, SECTORS_OF_4096, power_of_two=True)


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
        (Device(), Offset(), _block("emulated"), Maybe((_block("underlying"),))),
        (_offset_fits,),
    )
]

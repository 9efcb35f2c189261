"""Targets with blocks of their own: what must be a multiple of them."""

from fusedm.block.units import SECTOR_SIZE
from fusedm.tables.finding import Kernel, When
from fusedm.tables.pieces import Feature, Number
from fusedm.tables.reader import Reader

SECTOR_SIZE_OPTION = Feature(
    "sector_size:", (Number("sector_size", "bytes", SECTOR_SIZE, 4096, power_of_two=True),)
)


#: A sector and the offset of its IV are added in 64 bits.
IV_OFFSET = Number("iv_offset", "sectors", maximum=(1 << 64) - 1)


def options_printed(line: Reader, order: tuple[str, ...]) -> list[str]:
    """The options in the kernel's order, counted; nothing if there is none. 512 is not said."""
    words = [word for name in order for each, ws in line.features if each == name for word in ws]
    words = [word for word in words if word != f"sector_size:{SECTOR_SIZE}"]
    return [str(len(words)), *words] if words else []


def blocks_fit(line: Reader, block_bytes: int, names: tuple[str, ...] = ("offset",)) -> None:
    """Start, length and offsets must be whole blocks."""
    block = block_bytes // SECTOR_SIZE
    if line.sector_count % block:
        line.error(_not_whole("length", line.sector_count, block))
    limits = Kernel(when=When.LIMITS)
    if line.start_sector % block:
        line.error(_not_whole("start", line.start_sector, block), kernel=limits)
    for name in names:
        found = line.get(name)
        if found is not None and line.number(name) % block:
            line.error(_not_whole(name, line.number(name), block), found, limits)


def iv_offset_fits(line: Reader) -> None:
    """An IV offset counts sectors of 512 bytes, but must be whole blocks."""
    block = line.number("sector_size", SECTOR_SIZE) // SECTOR_SIZE
    iv_offset = line.number("iv_offset")
    if iv_offset % block:
        line.error(_not_whole("iv_offset", iv_offset, block), line.get("iv_offset"))


def _not_whole(what: str, sectors: int, block: int) -> str:
    return (
        f"{what} {sectors}: is not a multiple of {block} sectors, the block of "
        f"{block * SECTOR_SIZE} bytes"
    )

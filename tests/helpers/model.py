"""The oracle: a device as a flat array of what its medium must hold, encrypted by the reference."""

from fusedm.block import CryptoKey
from tests.helpers.references import REFERENCES

SECTOR = 512


class FlatModel:
    """What a raw read of a device must give, sector by sector; some may be unknown after a fault.

    Sectors in a hole (a zero target) always read as zeros.
    """

    def __init__(self, sector_count: int) -> None:
        self.raw = bytearray(sector_count * SECTOR)
        self.unknown: set[int] = set()
        self.holes: set[int] = set()

    def write(self, sector: int, data: bytes, key: CryptoKey | None = None, dun: int = 0) -> None:
        """A write that succeeded; without a key the data are the medium's."""
        if key is not None:
            reference, unit = REFERENCES[key.config.mode], key.config.data_unit_size
            data = reference.encrypt(bytes(key.raw), unit, dun, data)
        for index in range(len(data) // SECTOR):
            if sector + index not in self.holes:
                at = (sector + index) * SECTOR
                self.raw[at : at + SECTOR] = data[index * SECTOR : (index + 1) * SECTOR]
            self.unknown.discard(sector + index)

    def part(self, sector: int, sector_count: int) -> "FlatModel":
        """A model of some of it, as it is now."""
        copy = FlatModel(sector_count)
        copy.raw[:] = self.raw[sector * SECTOR : (sector + sector_count) * SECTOR]
        touched = range(sector, sector + sector_count)
        copy.unknown = {at - sector for at in self.unknown.intersection(touched)}
        return copy

    def forget(self, sector: int, length: int) -> None:
        """A write that failed: each of its sectors may hold anything."""
        touched = set(range(sector, sector + length // SECTOR))
        self.unknown |= touched - self.holes

    def read(self, sector: int, length: int, key: CryptoKey | None = None, dun: int = 0) -> bytes:
        """What a read must give, where it is known."""
        data = bytes(self.raw[sector * SECTOR : sector * SECTOR + length])
        if key is not None:
            reference, unit = REFERENCES[key.config.mode], key.config.data_unit_size
            data = reference.decrypt(bytes(key.raw), unit, dun, data)
        return data

    def mismatch(
        self, sector: int, got: bytes, key: CryptoKey | None = None, dun: int = 0
    ) -> int | None:
        """The first sector of a read that is known and wrong; None if there is none."""
        unit = key.config.data_unit_size if key is not None else SECTOR
        want = self.read(sector, len(got), key, dun)
        for at in range(0, len(got), unit):
            first = sector + at // SECTOR
            touched = range(first, first + unit // SECTOR)
            if (
                not self.unknown.intersection(touched)
                and got[at : at + unit] != want[at : at + unit]
            ):
                return first
        return None

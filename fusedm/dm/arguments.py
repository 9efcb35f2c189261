"""The arguments of a table line, as a target is made of them."""

import errno
from collections.abc import Callable, Iterable, Mapping
from typing import NoReturn

from fusedm.block import BlockDevice
from fusedm.block.errors import CryptoError, FusedmError, TableError
from fusedm.dm.target import Segment
from fusedm.tables import DEVICE, NO_DEVICE, Field, Reader, all_grammars

Lookup = Callable[[str], BlockDevice]

#: What has been read from keyrings, or why it cannot be, by the words that name it.
KeyRing = Mapping[str, bytearray | CryptoError]

NO_KEYS: KeyRing = {}


class Arguments:
    """What a line says, by the names that the grammar of its target has for it.

    What the grammar refuses is refused before there are any, and every device has been looked up.
    What can only be told from the devices, or from the whole, a target refuses itself.
    """

    def __init__(
        self, line: Reader, lookup: Lookup, clock: Callable[[], float], ring: KeyRing = NO_KEYS
    ) -> None:
        self.line = line
        self.target = line.target
        self.sector_count = line.sector_count
        self.clock = clock
        self.ring = ring
        self._devices: dict[str, list[BlockDevice | None]] = {}
        for field in line.fields:
            if field.unit == DEVICE:
                self._devices.setdefault(field.name, []).append(self._look_up(field, lookup))
            elif field.unit == NO_DEVICE:
                self._devices.setdefault(field.name, []).append(None)
        if line.findings and any(device.strict for device in self.all_devices()):
            self._check_strict()

    def _look_up(self, field: Field, lookup: Lookup) -> BlockDevice:
        try:
            return lookup(str(field.value))
        except FusedmError as error:
            number = all_grammars()[self.line.target].lookup_errno or error.errno
            raise self._error(field, f"{field.name}: {error}", number) from None

    def _check_strict(self) -> None:
        for found in self.line.findings:
            if found.fusedm is not None and found.fusedm.not_in_strict:
                raise found.refusal(strict=True)

    def all_devices(self) -> list[BlockDevice]:
        """Every device it names, in the order of their first names."""
        return [device for found in self._devices.values() for device in found if device]

    def device(self, name: str = "dev") -> BlockDevice:
        """The device of a name, which every line of this target has."""
        (device,) = self.devices(name)
        return device

    def devices(self, name: str = "dev") -> list[BlockDevice]:
        """Every device of a name, in order."""
        return [device for device in self._devices.get(name, ()) if device is not None]

    def device_or_none(self, name: str) -> BlockDevice | None:
        """The device of a name; None if it is not given, or given as - where that is allowed."""
        (device,) = self._devices.get(name, (None,))
        return device

    def devices_or_none(self, name: str) -> list[BlockDevice | None]:
        """Every device of a name, in order; None for each that is given as -."""
        return list(self._devices.get(name, ()))

    def segment(self, sector_count: int | None = None) -> Segment:
        """The range that dev and offset stand for; as long as the target, unless that is told."""
        (segment,) = self.segments(sector_count)
        return segment

    def segments(self, sector_count: int | None = None) -> list[Segment]:
        """The same for each dev and offset."""
        length = self.sector_count if sector_count is None else sector_count
        pairs = zip(self.devices(), self.numbers("offset"), strict=True)
        return [Segment(device, offset, length) for device, offset in pairs]

    def number(self, name: str, default: int = 0) -> int:
        """The number of a name, if it is given; the last of several."""
        return self.line.number(name, default)

    def numbers(self, name: str) -> list[int]:
        """Every number of a name, in order."""
        return [field.value for field in self.line.all(name) if isinstance(field.value, int)]

    def text(self, name: str, default: str = "") -> str:
        """The word of a name, if it is given, as the grammar spells it; the last of several."""
        return self.line.text(name, default)

    def texts(self, name: str) -> list[str]:
        """Every word of a name, in order."""
        return [field.value for field in self.line.all(name) if isinstance(field.value, str)]

    def word(self, name: str) -> str:
        """The word of a name as it stands in the line, as for a key, which is read as its size."""
        field = self.line.get(name)
        return field.word.text if field is not None else ""

    def features(self, order: Iterable[str]) -> list[str]:
        """The features of some names in that order, each with the words that belong to it."""
        given = self.line.features
        return [word for name in order for each, words in given if each == name for word in words]

    def has(self, feature: str) -> bool:
        """Whether a feature is given."""
        return self.line.has(feature)

    def refuse(self, name: str, text: str, number: int = errno.EINVAL) -> NoReturn:
        """Refuse the argument of a name, the last of several; a name that is not given: the line.

        Raises: TableError.
        """
        raise self._error(self.line.get(name), f"{name}: {text}", number) from None

    def _error(self, field: Field | None, text: str, number: int) -> TableError:
        argument = self.line.argument_number(field.word) if field is not None else 0
        where = f"argument {argument}: " if argument else ""
        return TableError(self.line.line.number, self.line.target, where + text, number)

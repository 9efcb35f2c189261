"""Why a device cannot do a config natively: which device, target or split takes it away. Pure.

The rules are those of dm/stacking.py, asked the other way round: not what is left, but who took it.
A test holds the two together.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fusedm.block import BlockDevice, CryptoConfig
from fusedm.block.capabilities import data_unit_sizes
from fusedm.block.units import SECTOR_SIZE
from fusedm.disk import Disk
from fusedm.dm import MappedDevice, Table, TableEntry, stack_capabilities


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A reason why a config is not native: at which device, by which rule, in a sentence."""

    device: str
    rule: str
    text: str


@dataclass(slots=True)
class Sight:
    """Devices with their live tables, or with others instead: nothing is changed for that."""

    instead: Mapping[BlockDevice, Table] = field(default_factory=dict)
    _known: dict[tuple[int, CryptoConfig], list[Obstacle]] = field(default_factory=dict)

    def table(self, device: BlockDevice) -> Table | None:
        """The table a device has here; None for a disk, and for a mapped device without one."""
        if device in self.instead:
            return self.instead[device]
        return device.live if isinstance(device, MappedDevice) else None

    def sector_count(self, device: BlockDevice) -> int:
        """The size a device has here."""
        table = self.table(device)
        return table.sector_count if table is not None else device.sector_count

    def splits_bios(self, device: BlockDevice) -> bool:
        """Whether a device below splits bios itself, so that where it begins matters."""
        if device in self.instead:
            return bool(self.instead[device].devices())
        return any(True for _ in device.underlying())

    def obstacles(self, device: BlockDevice, config: CryptoConfig) -> list[Obstacle]:
        """Everything that keeps a device from doing a config natively all over; empty if it can."""
        known = self._known.get((id(device), config))
        if known is None:
            found = self._of_mapped if isinstance(device, MappedDevice) else self._of_leaf
            known = list(dict.fromkeys(found(device, config)))
            self._known[id(device), config] = known
        return known

    def is_told_native(self, device: BlockDevice, config: CryptoConfig) -> bool:
        """Whether a device says that it does a config natively; a strict one, as it was at load."""
        if device in self.instead:
            return stack_capabilities(self.instead[device]).supports(config)
        return device.capabilities.supports(config)

    def _of_mapped(self, device: BlockDevice, config: CryptoConfig) -> Iterator[Obstacle]:
        """What its table and all below it lack; then what a strict device has not yet noticed."""
        found = list(self._of_table(device, config))
        yield from found
        if device.strict and not found and not self.is_told_native(device, config):
            text = f"{device.name} lacked it when its table was loaded, which strict mode goes by"
            yield Obstacle(device.name, "strict", text)

    def _of_table(self, device: BlockDevice, config: CryptoConfig) -> Iterator[Obstacle]:
        table = self.table(device)
        if table is None:
            yield Obstacle(device.name, "no table", f"{device.name} has no live table")
            return
        deaf = [entry for entry in table.entries if not entry.target.passes_crypto]
        if deaf:
            where = f"{_place(deaf[0])}{_and_more(deaf)} of {device.name}"
            yield Obstacle(device.name, "target", f"target {where} does not pass contexts")
        below = table.data_devices()
        if not below and not deaf:
            yield Obstacle(device.name, "no device", f"nothing lies below {device.name}")
        for under in below:
            yield from self.obstacles(under, config)
        yield from self._splits(device, table, config)

    def _splits(
        self, device: BlockDevice, table: Table, config: CryptoConfig
    ) -> Iterator[Obstacle]:
        unit = config.data_unit_size // SECTOR_SIZE
        borders = [entry for entry in table.entries if entry.start_sector % unit]
        chunks = [entry for entry in table.entries if (entry.target.max_io_sectors or 0) % unit]
        for entry in borders[:1]:
            yield _split(device, f"the border at sector {entry.start_sector}{_and_more(borders)}")
        for entry in chunks[:1]:
            chunk = f"chunks of {entry.target.max_io_sectors} sectors"
            yield _split(device, f"{chunk} in {_place(entry)}{_and_more(chunks)}")
        shifted = [
            segment
            for entry in table.entries
            for segment in entry.target.devices()
            if segment.start_sector % unit and self.splits_bios(segment.device)
        ]
        for segment in shifted[:1]:
            name = segment.device.name
            what = f"the offset of {segment.start_sector} sectors into {name}{_and_more(shifted)}"
            yield _split(device, f"{what}, which splits bios itself,")

    def _of_leaf(self, device: BlockDevice, config: CryptoConfig) -> Iterator[Obstacle]:
        if device.capabilities.supports(config):
            return
        if isinstance(device, Disk) and device.engine is None:
            yield Obstacle(device.name, "no engine", f"{device.name} has no inline engine")
            return
        mask = device.capabilities.modes.get(config.mode, 0)
        most = device.capabilities.max_dun_bytes
        own = f"the engine of {device.name}"
        if not mask:
            yield Obstacle(device.name, "mode", f"{own} does not do {config.mode}")
        elif not mask & config.data_unit_size:
            sizes = ", ".join(map(str, data_unit_sizes(mask)))
            yield Obstacle(
                device.name,
                "data unit size",
                f"{own} does {config.mode} with data units of {sizes} bytes only",
            )
        if mask and config.key_type not in device.capabilities.key_types:
            types = ", ".join(sorted(one.value for one in device.capabilities.key_types))
            text = f"{own} takes keys of type {types} only, not {config.key_type.value}"
            yield Obstacle(device.name, "key type", text)
        if mask and config.dun_bytes > most:
            yield Obstacle(
                device.name, "DUN bytes", f"{own} takes {most} DUN bytes, not {config.dun_bytes}"
            )


def _split(device: BlockDevice, what: str) -> Obstacle:
    text = f"{what} in the table of {device.name} would cut data units of this size"
    return Obstacle(device.name, "split", text)


def _place(entry: TableEntry) -> str:
    return f"{entry.target.name} at {entry.start_sector}+{entry.sector_count}"


def _and_more(what: Sequence[object]) -> str:
    return f" (and {len(what) - 1} more)" if len(what) > 1 else ""

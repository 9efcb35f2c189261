"""Which keys were started on what below a mapped device. Pure.

Devices of tables since replaced stay listed until the key has been evicted from them: that is how
eviction reaches every device on which a key was used.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress

from fusedm.block import BlockDevice, CryptoKey, KeyHolder
from fusedm.block.errors import KeyBusy, TableError
from fusedm.dm.stacking import stack_capabilities
from fusedm.dm.table import Table


class StartedKeys:
    """The keys of one mapped device; itself a holder of them, which eviction makes forget.

    Lives: as long as its mapped device.
    """

    def __init__(self) -> None:
        self._devices: dict[CryptoKey, dict[BlockDevice, None]] = {}

    def __iter__(self) -> Iterator[CryptoKey]:
        """Every key, oldest first."""
        return iter(self._devices)

    def start(self, key: CryptoKey, tables: Iterable[Table]) -> None:
        """Start a key below some tables, on all devices or on none that is remembered here.

        Raises: CryptoError.
        """
        self._start({key: [each for table in tables for each in table.devices_for(key)]})

    def check_wrapped(self, table: Table) -> None:
        """Refuse a table on which a wrapped key that is started could not be used all over.

        Raises: TableError(EINVAL): no software can take over, wherever the table is too weak.
        """
        wrapped = [key for key in self._devices if key.config.is_wrapped]
        if not wrapped:
            return
        new = stack_capabilities(table)
        for key in wrapped:
            if not new.supports(key.config):
                text = (
                    f"key {key.name!r}, which is in use, is hardware-wrapped, which no software "
                    f"can use, and not all of it can do {key.config} with such a key natively"
                )
                raise TableError(0, "", text)

    def start_all(self, table: Table) -> None:
        """Start every key below a further table, likewise.

        Raises: CryptoError.
        """
        self._start({key: table.devices_for(key) for key in self._devices})

    def _start(self, wanted: dict[CryptoKey, list[BlockDevice]]) -> None:
        for key, devices in wanted.items():
            for device in devices:
                device.start_using_key(key)
        # Nothing below can fail.
        for key, devices in wanted.items():
            self._devices.setdefault(key, {}).update(dict.fromkeys(devices))

    def users(self, key: CryptoKey) -> Iterator[KeyHolder]:
        """Everything below that may hold the key, and this."""
        for device in self._devices.get(key, ()):
            yield from device.key_users(key)
        yield self

    def check_evictable(self, key: CryptoKey) -> None:
        """Nothing here is ever busy."""

    def evict(self, key: CryptoKey) -> None:
        """Forget where the key was started."""
        self._devices.pop(key, None)

    def evict_from(self, dropped: Iterable[BlockDevice]) -> None:
        """Evict every key from devices no longer used; one busy through another holder stays."""
        some = list(dropped)
        for key, started in self._devices.items():
            for device in some:
                with suppress(KeyBusy):
                    _evict_from_slots(device, key)
                    started.pop(device, None)


def _evict_from_slots(device: BlockDevice, key: CryptoKey) -> None:
    """Evict, but let mapped devices remember the key: others may use it there, through new tables.

    Raises: KeyBusy; then nothing has changed.
    """
    holders = [each for each in device.key_users(key) if not isinstance(each, StartedKeys)]
    for holder in holders:
        holder.check_evictable(key)
    for holder in holders:
        holder.evict(key)

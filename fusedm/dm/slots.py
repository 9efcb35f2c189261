"""The two tables of a mapped device, what they hold, and how those end that are replaced."""

from fusedm.block import BlockDevice
from fusedm.dm.events import EventCounter
from fusedm.dm.lifecycle import end_targets, must_be_ended, stop_targets
from fusedm.dm.table import Table


class TableSlots(EventCounter):
    """The live table and the inactive one; the devices below them know of it that holds them."""

    def __init__(self) -> None:
        super().__init__()
        self.live: Table | None = None
        self.inactive: Table | None = None
        self.holders: dict[BlockDevice, None] = {}
        #: Tables that are no more used, but whose targets have not yet written what they owe.
        self._owing: list[Table] = []

    def tables(self) -> list[Table]:
        """All whose targets have not been dropped."""
        return [table for table in (self.live, self.inactive, *self._owing) if table is not None]

    def underlying(self) -> list[BlockDevice]:
        """The devices of both tables, each once: what this device holds."""
        tables = [table for table in (self.live, self.inactive) if table is not None]
        return list(dict.fromkeys(device for table in tables for device in table.devices()))

    def _set_tables(self, live: Table | None, inactive: Table | None) -> None:
        """Change tables, and hold the devices below them and no others."""
        before, tables = self.underlying(), (self.live, self.inactive)
        self.live, self.inactive = live, inactive
        for device in before:
            device.holders.pop(self, None)  # type: ignore[call-overload]  # it is a mapped device
        for device in self.underlying():
            device.holders[self] = None  # type: ignore[index]  # as above
        for table in tables:
            if table is None or table in (live, inactive):
                continue
            if must_be_ended(table):
                self._owing.append(table)
            else:
                stop_targets(table)

    async def settle(self) -> None:
        """Let the targets of tables that were dropped write what they owe."""
        while self._owing:
            await end_targets(self._owing.pop())

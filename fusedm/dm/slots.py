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
        #: What a resume is about to make live: loading or clearing does not end it any more.
        self._incoming: Table | None = None
        self.holders: dict[BlockDevice, None] = {}
        #: Tables that are no more used, but whose targets have not yet written what they owe.
        self._owing: list[Table] = []

    def tables(self) -> list[Table]:
        """All whose targets have not been dropped."""
        return [*self._held_tables(), *self._owing]

    def underlying(self) -> list[BlockDevice]:
        """The devices of all tables it has, each once: what this device holds."""
        tables = self._held_tables()
        return list(dict.fromkeys(device for table in tables for device in table.devices()))

    @property
    def must_settle(self) -> bool:
        """Whether a target has something to write below before it may go, or is at work."""
        return self.live is not None and must_be_ended(self.live)

    def clear(self) -> None:
        """Drop the inactive table, if there is one."""
        self._set_inactive(None)

    def _held_tables(self) -> list[Table]:
        slots = (self.live, self.inactive, self._incoming)
        return list(dict.fromkeys(table for table in slots if table is not None))

    def _set_inactive(self, table: Table | None) -> None:
        self._set_tables(self.live, table, self._incoming)

    def _end_swap(self, live: Table | None) -> None:
        """Make a table live; what has been loaded or cleared meanwhile is for the next resume."""
        self._set_tables(live, None if self.inactive is self._incoming else self.inactive)

    def _set_tables(
        self, live: Table | None, inactive: Table | None, incoming: Table | None = None
    ) -> None:
        """Change tables, and hold the devices below them and no others."""
        before, tables = self.underlying(), self._held_tables()
        self.live, self.inactive, self._incoming = live, inactive, incoming
        for device in before:
            device.holders.pop(self, None)  # type: ignore[call-overload]  # it is a mapped device
        for device in self.underlying():
            device.holders[self] = None  # type: ignore[index]  # as above
        for table in tables:
            if table in self._held_tables():
                continue
            if must_be_ended(table):
                self._owing.append(table)
            else:
                stop_targets(table)

    async def settle(self) -> None:
        """Let the targets of tables that were dropped write what they owe."""
        while self._owing:
            await end_targets(self._owing.pop())

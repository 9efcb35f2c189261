"""The crypto profile of a mapped device in strict mode: what its first load fixes. Pure.

Capabilities are computed when a table is loaded and installed when it becomes live, the first
already at its load. A later table may add to them and never take away; what changes below is not
seen before the next load, and sysfs never shows a mode that the first table did not have.
Source: dm_table_construct_crypto_profile and dm_update_crypto_profile in drivers/md/dm-table.c.
"""

import errno

from fusedm.block import NO_CAPABILITIES, Capabilities
from fusedm.block.errors import TableError
from fusedm.dm.stacking import stack_capabilities
from fusedm.dm.table import Table


class FixedProfile:
    """What a strict mapped device says it can do natively.

    told is what sysfs has files of: modes, and types of keys.
    """

    def __init__(self) -> None:
        self.capabilities = NO_CAPABILITIES
        self.told = NO_CAPABILITIES
        self._loaded: Capabilities | None = None

    def check(self, table: Table) -> Capabilities:
        """The capabilities of a table that is to be loaded.

        Raises: TableError(EINVAL) if something would be lost.
        """
        new = stack_capabilities(table)
        if not new.covers(self.capabilities):
            raise TableError(
                0,
                "",
                f"its crypto capabilities ({_words(new)}) are fewer than the device has "
                f"({_words(self.capabilities)}), which strict mode refuses",
            )
        return new

    def load(self, new: Capabilities) -> None:
        """A table that was checked, and has these, is loaded; the first counts at once."""
        if self._loaded is None:
            self.capabilities = new
            self.told = new
        self._loaded = new

    def swap(self) -> None:
        """The table loaded last has become live."""
        assert self._loaded is not None, "a table was loaded"
        self.capabilities = self._loaded


def check_writable(table: Table) -> None:
    """Refuse a table to be written to over a device that may not be.

    Raises: TableError(EACCES).
    Source: dm_get_device opens what lies below with the mode of the table.
    """
    for entry in table.entries:
        for segment in entry.target.devices():
            if segment.device.read_only:
                text = f"{segment.device.name} is read-only: load the table read-only"
                raise TableError(entry.line, entry.target.name, text, errno.EACCES)


def _words(capabilities: Capabilities) -> str:
    if not capabilities:
        return "none"
    modes = (f"{name} {mask:#x}" for name, mask in capabilities.modes.items())
    return f"{', '.join(modes)}, {capabilities.max_dun_bytes} DUN bytes"

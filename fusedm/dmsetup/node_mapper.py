"""dmsetup's device mapper for whoever asks it in other words, as `fusedm dm` does."""

from fusedm.block.device_mapper import DeviceInfo, Name
from fusedm.control import MapperClient
from fusedm.dmsetup import attachment
from fusedm.dmsetup.attachment import NodeOptions
from fusedm.dmsetup.session import Session


class NodeMapper(MapperClient):
    """The devices of dmsetup: their nodes follow them, and the daemon ends with the last.

    Raises: also what making and removing loop devices and nodes does.
    """

    def __init__(self, dev_dir: str, mount_point: str) -> None:
        self._session = Session(dev_dir, mount_point)
        super().__init__(self._session.call)

    def add(
        self,
        name: str,
        table: str = "",
        uuid: str = "",
        read_only: bool = False,
        minor: int | None = None,
    ) -> DeviceInfo:
        """Make a device and its node; if that cannot be it is not there."""
        told = super().add(name, table, uuid, read_only, minor)
        try:
            return self._with_node(told)
        except BaseException:
            self.remove(name)
            raise

    def resume(self, name: Name, noflush: bool = False, nolockfs: bool = False) -> DeviceInfo:
        """Make the inactive table live, if any, and let bios in; the node is as the table is."""
        return self._with_node(super().resume(name, noflush, nolockfs))

    def rename(self, name: Name, new: str) -> DeviceInfo:
        """Give a device and its node another name."""
        before = self.info(name)
        told = super().rename(name, new)
        attachment.rename_node(self._session, before, told)
        return told

    def remove(self, name: Name, deferred: bool = False) -> bool:
        """Remove a device with its node; to wait until nobody uses it is not done here."""
        if deferred:
            return super().remove(name, deferred)
        attachment.remove(self._session, self.info(name))
        self._session.end_if_empty()
        return True

    def _with_node(self, told: DeviceInfo) -> DeviceInfo:
        attachment.attach(self._session, told, NodeOptions())
        return self.info(told.name)

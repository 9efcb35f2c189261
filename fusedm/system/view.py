"""Views: what opening a name gives. A device, or a part of one, with the contexts of a key."""

from dataclasses import dataclass

from fusedm.block import Bio, BlockDevice, CryptContext, CryptoKey, Op
from fusedm.block.capabilities import MAX_DUN_BYTES
from fusedm.block.crypt_ctx import dun_limit
from fusedm.block.errors import CryptoError, StackError
from fusedm.block.units import SECTOR_SHIFT, SECTOR_SIZE


@dataclass(frozen=True, slots=True)
class View:
    """A device as it is opened: with a key and a DUN base, every bio carries a context.

    It begins at start and has length, or all that follows; its data unit at offset 0 has the DUN
    dun_base, wherever it begins. Without a key it is the device itself, as disks/ and mapper/ show
    it. zeros_are_holes: data units of zeros on the medium read as zeros (see CryptContext).
    Units: start and length in bytes of the device; offsets everywhere else are of the view.
    """

    own_name: str
    device: BlockDevice
    key: CryptoKey | None = None
    dun_base: int = 0
    start: int = 0
    length: int | None = None
    zeros_are_holes: bool = True

    @property
    def name(self) -> str:
        """What it is called now: a device without key may be renamed while it is open."""
        return self.device.name if self.key is None else self.own_name

    @property
    def block_size(self) -> int:
        """Bytes; the larger of the device's logical block size and the data unit size."""
        own = self.key.config.data_unit_size if self.key is not None else SECTOR_SIZE
        return max(self.device.limits.logical_block_size, own)

    @property
    def size(self) -> int:
        """Bytes, down to whole blocks; less than its length on a device that has become smaller."""
        size = max((self.device.sector_count << SECTOR_SHIFT) - self.start, 0)
        if self.length is not None:
            size = min(size, self.length)
        return size - size % self.block_size

    @property
    def read_only(self) -> bool:
        """Whether the device is."""
        return self.device.read_only

    @property
    def has_holes(self) -> bool:
        """Whether what is given up on the medium reads as zeros here."""
        return self.key is None or self.zeros_are_holes

    @property
    def takes_discards(self) -> bool:
        """Whether space can be given up through it."""
        return self.has_holes and self.device.limits.discard

    def sector(self, offset: int) -> int:
        """The sector of the device at a byte offset."""
        return (self.start + offset) >> SECTOR_SHIFT

    def bio(self, op: Op, offset: int, data: memoryview) -> Bio:
        """A READ or WRITE of whole blocks at a byte offset, with the context that goes with it."""
        crypt = None
        if self.key is not None:
            unit = self.key.config.data_unit_size
            crypt = CryptContext(self.key, self.dun_base + offset // unit, self.zeros_are_holes)
        return Bio(op, self.sector(offset), len(data) >> SECTOR_SHIFT, data, crypt)


def check_view(view: View, key: CryptoKey) -> None:
    """Refuse a view under a key whose range or data unit numbers cannot be.

    Raises: StackError(EINVAL) for a range; CryptoError(EINVAL) for numbers.
    """
    _check_range(view)
    if view.dun_base.bit_length() > 8 * MAX_DUN_BYTES:
        raise CryptoError(f"view {view.name!r}: dun_base has more than {8 * MAX_DUN_BYTES} bits")
    last = view.dun_base + max(view.size // key.config.data_unit_size, 1) - 1
    if view.dun_base < 0 or last >= dun_limit(key.config):
        raise CryptoError(
            f"view {view.name!r}: data unit numbers {view.dun_base}..{last} do not fit the "
            f"{key.config.dun_bytes} DUN bytes of key {key.name!r}"
        )


def _check_range(view: View) -> None:
    for what, number in (("start", view.start), ("size", view.length)):
        if number is not None and number % view.block_size:
            raise StackError(
                f"view {view.name!r}: {what} {number} is not a multiple of {view.block_size} "
                "bytes, its block size (the larger of data unit and logical block)"
            )
    whole = view.device.sector_count << SECTOR_SHIFT
    least = view.block_size if view.length is None else view.length
    if view.start < 0 or least <= 0:
        raise StackError(f"view {view.name!r}: {least} bytes from {view.start} on are no range")
    if (view.start or view.length is not None) and view.start + least > whole:
        raise StackError(
            f"view {view.name!r}: {view.start} + {least} bytes ends past {view.device.name} "
            f"({whole} bytes)"
        )

"""The bio: one I/O on its way through the stack.

Three rules hold everywhere. A WRITE's buffer is never modified. A READ's buffer is filled in place
and nothing outside it is touched. Splitting advances the DUN of the back half; remapping changes
the sector only.
"""

from enum import Enum

from fusedm.block.crypt_ctx import CryptContext
from fusedm.block.units import SECTOR_SHIFT
from fusedm.block.value import value

NO_DATA = memoryview(b"")


class Op(Enum):
    """What a bio does. FLUSH makes durable what was acknowledged; DISCARD gives sectors up."""

    READ = "read"
    WRITE = "write"
    FLUSH = "flush"
    DISCARD = "discard"
    WRITE_ZEROES = "write zeroes"

    #: Whether the bio brings a buffer.
    has_data: bool
    #: Whether sectors are changed, so that a read-only device refuses it.
    changes_medium: bool

    def __init__(self, word: str) -> None:
        self.has_data = word in ("read", "write")
        self.changes_medium = word in ("write", "discard", "write zeroes")

    #: As any object has it: Enum makes it of the name, which is looked up for every bio.
    __hash__ = object.__hash__


#: Flags of a WRITE: its data are durable before it is acknowledged; what was acknowledged before is
#: durable before it is begun.
FUA, PREFLUSH = 1, 2


@value
class Bio:
    """An operation on sectors of one device.

    Units:  sector and sector_count are 512-byte sectors, relative to the device it is submitted to.
    Shapes: data has exactly sector_count sectors for READ (writable) and WRITE, else it is empty;
            FLUSH has sector 0 and sector_count 0.
    flags are FUA and PREFLUSH, or'ed. All parts of a bio with FUA have it; the mapped device that a
    PREFLUSH comes to makes an empty FLUSH of it, before the data, as the kernel's device mapper.
    is_encrypted says that the data went through a fallback above: where there is a key for all that
    nobody has encrypted (default-key), they are left as they are.
    Source: of that mark, bi_skip_dm_default_key in Android's kernels.
    """

    op: Op
    sector: int
    sector_count: int
    data: memoryview = NO_DATA
    crypt: CryptContext | None = None
    is_encrypted: bool = False
    flags: int = 0

    @classmethod
    def read(cls, sector: int, data: memoryview, crypt: CryptContext | None = None) -> "Bio":
        """A READ that fills the whole buffer."""
        return cls(Op.READ, sector, len(data) >> SECTOR_SHIFT, data, crypt)

    @classmethod
    def write(
        cls, sector: int, data: memoryview, crypt: CryptContext | None = None, flags: int = 0
    ) -> "Bio":
        """A WRITE of the whole buffer."""
        return cls(Op.WRITE, sector, len(data) >> SECTOR_SHIFT, data, crypt, False, flags)

    @property
    def end_sector(self) -> int:
        """The first sector after the bio."""
        return self.sector + self.sector_count

    def split(self, sector_count: int) -> "tuple[Bio, Bio]":
        """Front of sector_count sectors, and the rest with its DUN advanced.

        Units: 0 < sector_count < self.sector_count; with a context a whole number of data units.
        Source: bio_split and bio_crypt_advance.
        """
        assert 0 < sector_count < self.sector_count, f"{sector_count} of {self.sector_count}"
        return self.slice(0, sector_count), self.slice(sector_count, self.sector_count)

    def slice(self, begin: int, end: int) -> "Bio":
        """The part from sector begin to sector end of this bio (relative to its own start)."""
        crypt = self.crypt
        if begin and crypt is not None:
            crypt = crypt.advance(begin << SECTOR_SHIFT)
        data = self.data
        if data:
            data = data[begin << SECTOR_SHIFT : end << SECTOR_SHIFT]
        sector, count = self.sector + begin, end - begin
        return Bio(self.op, sector, count, data, crypt, self.is_encrypted, self.flags)

    def remap(self, sector: int) -> "Bio":
        """The same bio at a sector; the DUN does not change."""
        if sector == self.sector:
            return self
        encrypted = self.is_encrypted
        return Bio(self.op, sector, self.sector_count, self.data, self.crypt, encrypted, self.flags)

    def with_data(self, data: memoryview) -> "Bio":
        """The same I/O without context on another buffer, as it goes on below a crypto point."""
        assert len(data) == len(self.data), f"{len(data)} bytes for {len(self.data)}"
        return Bio(self.op, self.sector, self.sector_count, data, None, True, self.flags)

    def is_followed_by(self, other: "Bio") -> bool:
        """Whether other continues this bio: next sector, and contexts that follow each other."""
        if self.op is not other.op or self.end_sector != other.sector:
            return False
        if self.crypt is None:
            return other.crypt is None
        return self.crypt.is_followed_by(self.sector_count << SECTOR_SHIFT, other.crypt)

    def __str__(self) -> str:
        return f"{self.op.value} of sectors {self.sector}..{self.end_sector}"


FLUSH = Bio(Op.FLUSH, 0, 0)

"""What device mapper is asked about, and what it answers: the facts of struct dm_ioctl."""

from dataclasses import dataclass

#: A device's major and minor number.
Number = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Which:
    """A mapped device by one of the things it is known by: whichever is given."""

    name: str = ""
    uuid: str = ""
    number: Number | None = None


#: A mapped device, as a rule by its name.
Name = str | Which


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """What there is to know of a mapped device.

    number is what it is known by, minor its own. below are the devices under its live table, latest
    first, as the kernel lists them; open_count is of its file at path, holders use it as well.
    """

    name: str
    uuid: str
    number: Number
    minor: int
    is_live: bool
    is_inactive: bool
    is_suspended: bool
    is_read_only: bool
    is_deferred: bool
    open_count: int
    event_number: int
    target_count: int
    sector_count: int
    block_size: int
    takes_discards: bool
    path: str
    below: tuple[Number, ...]
    holders: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TargetLine:
    """What a table or its status says of one target: a line of it."""

    start_sector: int
    sector_count: int
    target: str
    words: str

    def __str__(self) -> str:
        # A blank follows the type even if nothing comes after it, as dmsetup prints it.
        return f"{self.start_sector} {self.sector_count} {self.target} {self.words}"

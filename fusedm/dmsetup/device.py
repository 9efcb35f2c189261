"""A mapped device as dmsetup tells of it: one to a block, one to a line. Pure."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from fusedm.block.device_mapper import DeviceInfo, Number


@dataclass(frozen=True, slots=True)
class Device:
    """What is known of a mapped device. read_ahead is in sectors, None where nobody can tell.

    below are the devices under its live table, latest first, as the kernel lists them.
    """

    name: str
    uuid: str
    number: Number
    is_live: bool
    is_inactive: bool
    is_suspended: bool
    is_read_only: bool
    is_deferred: bool
    open_count: int
    event_number: int
    target_count: int
    below: tuple[Number, ...] = ()
    read_ahead: int | None = None
    block_name: str | None = None

    @property
    def major(self) -> int:
        """The first part of its number."""
        return self.number[0]

    @property
    def minor(self) -> int:
        """The second."""
        return self.number[1]


def told_device(told: DeviceInfo, **known: Any) -> Device:
    """The device that the daemon tells of, with what is known here besides."""
    same = {field.name for field in fields(Device)} & {field.name for field in fields(DeviceInfo)}
    return Device(**{name: getattr(told, name) for name in same} | known)


def number_of(word: str) -> Number:
    """The number that `major:minor` stands for."""
    major, minor = word.split(":")
    return int(major), int(minor)


def number_text(number: Number) -> str:
    """A number as it is written."""
    return "{}:{}".format(*number)


def info_text(device: Device) -> str:
    """The block that `dmsetup info NAME` prints, with the empty line after it."""
    state = "SUSPENDED" if device.is_suspended else "ACTIVE"
    state += " (READ-ONLY)" if device.is_read_only else ""
    state += " (DEFERRED REMOVE)" if device.is_deferred else ""
    rows = [("Name", device.name), ("State", state)]
    if device.read_ahead is not None:
        rows.append(("Read Ahead", str(device.read_ahead)))
    rows += [
        ("Tables present", _TABLES[device.is_live, device.is_inactive]),
        ("Open count", str(device.open_count)),
        ("Event number", str(device.event_number)),
        ("Major, minor", f"{device.major}, {device.minor}"),
        ("Number of targets", str(device.target_count)),
    ]
    text = "".join(f"{label + ':':<19}{value}\n" for label, value in rows)
    return text + (f"UUID: {device.uuid}\n" if device.uuid else "") + "\n"


_TABLES = {
    (True, True): "LIVE & INACTIVE",
    (True, False): "LIVE",
    (False, True): "INACTIVE",
    (False, False): "None",
}


def deps_text(names: Sequence[str]) -> str:
    """What `dmsetup deps` prints of the devices below one."""
    return f"{len(names)} dependencies\t:" + "".join(f" ({name})" for name in names) + "\n"


def ioctl_error(verb: str, number: int, name: str = "", uuid: str = "", at: str = "") -> str:
    """The line for what the kernel would have refused; at is `major:minor` where it is known."""
    place = f"({at}) " if at else " "
    return f"device-mapper: {verb} ioctl on {name} {uuid}{place}failed: {os.strerror(number)}"


def target_text(name: str, version: Sequence[int]) -> str:
    """A line of `dmsetup targets`."""
    return f"{name:<16} v{'.'.join(map(str, version))}\n"


#: What the flags in the upper half of a udev cookie are called. Source: libdevmapper.h's names,
#: which udev rules use.
UDEV_FLAGS = (
    "DM_UDEV_DISABLE_DM_RULES_FLAG",
    "DM_UDEV_DISABLE_SUBSYSTEM_RULES_FLAG",
    "DM_UDEV_DISABLE_DISK_RULES_FLAG",
    "DM_UDEV_DISABLE_OTHER_RULES_FLAG",
    "DM_UDEV_LOW_PRIORITY_FLAG",
    "DM_UDEV_DISABLE_LIBRARY_FALLBACK_FLAG",
    "DM_UDEV_PRIMARY_SOURCE_FLAG",
    "DM_UDEV_FLAG7",
    *(f"DM_SUBSYSTEM_UDEV_FLAG{number}" for number in range(8)),
)


def udev_flags_text(cookie: int) -> str:
    """The flags of a cookie as udev rules import them."""
    flags = cookie >> 16 & 0xFFFF
    return "".join(f"{name}='1'\n" for bit, name in enumerate(UDEV_FLAGS) if flags >> bit & 1)

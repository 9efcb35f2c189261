"""What is told of one device, to the byte."""

import errno
from dataclasses import replace
from typing import Any

from fusedm.block.device_mapper import DeviceInfo
from fusedm.dmsetup.device import (
    deps_text,
    info_text,
    ioctl_error,
    number_of,
    number_text,
    target_text,
    told_device,
    udev_flags_text,
)

TOLD = DeviceInfo(
    name="c", uuid="", number=(254, 0), minor=0, is_live=True, is_inactive=False,
    is_suspended=False, is_read_only=False, is_deferred=False, open_count=3, event_number=2,
    target_count=1, sector_count=8, block_size=512, takes_discards=True,
    path="/m/mapper/c", below=((254, 1), (1, 0)), holders=(),
)  # fmt: skip


def text_of(**changed: Any) -> str:
    return info_text(told_device(replace(TOLD, **changed), open_count=1, read_ahead=256))


def test_info_of_a_device() -> None:
    assert text_of(uuid="U-1") == (
        "Name:              c\n"
        "State:             ACTIVE\n"
        "Read Ahead:        256\n"
        "Tables present:    LIVE\n"
        "Open count:        1\n"
        "Event number:      2\n"
        "Major, minor:      254, 0\n"
        "Number of targets: 1\n"
        "UUID: U-1\n"
        "\n"
    )


def test_info_of_a_device_without_a_table_has_no_read_ahead() -> None:
    device = told_device(replace(TOLD, is_live=False, target_count=0), open_count=0)
    assert info_text(device) == (
        "Name:              c\n"
        "State:             ACTIVE\n"
        "Tables present:    None\n"
        "Open count:        0\n"
        "Event number:      2\n"
        "Major, minor:      254, 0\n"
        "Number of targets: 0\n"
        "\n"
    )


def test_info_tells_of_the_state() -> None:
    told = text_of(is_suspended=True, is_read_only=True, is_deferred=True, is_inactive=True)
    assert "State:             SUSPENDED (READ-ONLY) (DEFERRED REMOVE)\n" in told
    assert "Tables present:    LIVE & INACTIVE\n" in told
    assert "Tables present:    INACTIVE\n" in text_of(is_live=False, is_inactive=True)


def test_the_devices_below_come_in_their_order() -> None:
    assert told_device(TOLD, open_count=0).below == ((254, 1), (1, 0))


def test_a_number_is_written_as_it_is_read() -> None:
    assert number_of("253:7") == (253, 7)
    assert number_text((253, 7)) == "253:7"


def test_dependencies() -> None:
    assert deps_text(["254, 1", "254, 0"]) == "2 dependencies\t: (254, 1) (254, 0)\n"
    assert deps_text([]) == "0 dependencies\t:\n"


def test_a_failed_ioctl_names_what_was_asked_for() -> None:
    assert ioctl_error("reload", errno.EINVAL, "e", at="254:2") == (
        "device-mapper: reload ioctl on e (254:2) failed: Invalid argument"
    )
    assert ioctl_error("create", errno.EBUSY, "f", "U-1") == (
        "device-mapper: create ioctl on f U-1 failed: Device or resource busy"
    )
    assert ioctl_error("remove", errno.ENXIO, uuid="U-3") == (
        "device-mapper: remove ioctl on  U-3 failed: No such device or address"
    )
    assert ioctl_error("remove", errno.ENXIO, "nosuch") == (
        "device-mapper: remove ioctl on nosuch  failed: No such device or address"
    )
    assert ioctl_error("remove", errno.ENXIO, at="254:99") == (
        "device-mapper: remove ioctl on  (254:99) failed: No such device or address"
    )


def test_targets_stand_before_their_versions() -> None:
    assert target_text("log-writes", (1, 1, 0)) == "log-writes       v1.1.0\n"


def test_flags_of_a_cookie_have_names() -> None:
    assert udev_flags_text(0xD4D0001).splitlines() == [
        "DM_UDEV_DISABLE_DM_RULES_FLAG='1'",
        "DM_UDEV_DISABLE_DISK_RULES_FLAG='1'",
        "DM_UDEV_DISABLE_OTHER_RULES_FLAG='1'",
        "DM_UDEV_PRIMARY_SOURCE_FLAG='1'",
        "DM_SUBSYSTEM_UDEV_FLAG0='1'",
        "DM_SUBSYSTEM_UDEV_FLAG2='1'",
        "DM_SUBSYSTEM_UDEV_FLAG3='1'",
    ]
    assert udev_flags_text(1) == ""

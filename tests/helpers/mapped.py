"""Devices to make reports and trees of."""

from dataclasses import replace
from typing import Any

from fusedm.dmsetup.device import Device, Number
from fusedm.dmsetup.fields import Row


def mapped(name: str, minor: int, *below: Number, **changed: Any) -> Device:
    """An active device with one target."""
    plain = Device(
        name=name,
        uuid="",
        number=(254, minor),
        is_live=True,
        is_inactive=False,
        is_suspended=False,
        is_read_only=False,
        is_deferred=False,
        open_count=0,
        event_number=0,
        target_count=1,
        below=below,
        read_ahead=256,
        block_name=f"dm-{minor}",
    )
    return replace(plain, **changed)


def block_names(devices: list[Device]) -> dict[Number, str]:
    """What the kernel calls them and the RAM disks below."""
    ram = {(1, minor): f"ram{minor}" for minor in range(8)}
    return {**ram, **{one.number: one.block_name or "" for one in devices}}


def rows(devices: list[Device]) -> list[Row]:
    """What a report is made of."""
    return [
        Row(
            device,
            tuple(user for user in devices if device.number in user.below),
            {one.number: one.name for one in devices},
            block_names(devices),
        )
        for device in devices
    ]

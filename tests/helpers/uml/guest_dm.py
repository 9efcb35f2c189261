"""The device mapper's ioctls, by their own words; runs in the guest, with the standard library.

One ioctl takes a thousandth of the time of a dmsetup command there, and gives the errno itself.
Devices go by the names of the experiment, in what is asked and in what is answered.
Source: struct dm_ioctl and dm_target_spec in linux/dm-ioctl.h.
"""

import os
import struct
from fcntl import ioctl
from typing import Any

#: version 3, data_size, data_start, target_count, open_count, flags, event_nr, padding, dev, name,
#: uuid, padding.
HEADER = struct.Struct("=3IIIIiIIIQ128s129s7s")
#: sector_start, length, status, next, type.
SPEC = struct.Struct("=QQiI16s")

VERBS = {
    "version": 0,
    "list_devices": 2,
    "dev_create": 3,
    "dev_remove": 4,
    "dev_rename": 5,
    "dev_suspend": 6,
    "dev_status": 7,
    "dev_wait": 8,
    "table_load": 9,
    "table_clear": 10,
    "table_deps": 11,
    "table_status": 12,
    "target_msg": 14,
}

READ_ONLY, SUSPENDED, AS_TABLE, LIVE, INACTIVE = 1, 2, 16, 32, 64
SKIP_LOCKFS, NOFLUSH, QUERY_INACTIVE = 1 << 10, 1 << 11, 1 << 12
NEW_UUID, DATA_OUT, DEFERRED = 1 << 14, 1 << 16, 1 << 17

ROOM = 1 << 16

Answer = dict[str, Any]


class Reply:
    """What an ioctl gave back."""

    def __init__(self, buffer: bytes) -> None:
        (*_, start, self.targets, self.opens, self.flags, self.event, _, dev, name, _, _) = (
            HEADER.unpack_from(buffer)
        )
        self.data = buffer[start:]
        self.number = f"{os.major(dev)}:{os.minor(dev)}"
        self.name = text(name)


def text(data: bytes) -> str:
    """A string that ends with a zero byte."""
    return data.split(b"\0", 1)[0].decode(errors="backslashreplace")


class DeviceMapper:
    """The kernel's device mapper, for one experiment."""

    def __init__(self, disks: dict[str, str]) -> None:
        self._control = os.open("/dev/mapper/control", os.O_RDWR)
        #: "major:minor" by name, of disks and of mapped devices.
        self.numbers = dict(disks)
        self._disks = set(disks)

    def path(self, name: str) -> str:
        """The node of a disk or mapped device."""
        if name in self._disks:
            return f"/dev/{name}"
        return f"/dev/dm-{self.numbers[name].split(':')[1]}"

    def end(self) -> None:
        """Remove every mapped device, those above before those below."""
        for _ in range(len(self._names()) + 1):
            for name in self._names():
                if self._removed(name):
                    self.numbers.pop(name, None)
        left = self._names()
        os.close(self._control)
        assert not left, f"these devices stay: {left}"

    def _removed(self, name: str) -> bool:
        # A suspended device keeps the bios of those above it, which then cannot go.
        try:
            self._do("table_clear", name)
            self._do("dev_suspend", name)
        except OSError:
            pass
        try:
            self._do("dev_remove", name)
        except OSError:
            return False
        return True

    def _names(self) -> list[str]:
        reply = self._do("list_devices", "")
        names, data, at = [], reply.data, 0
        # struct dm_name_list: dev, offset of the next entry, name.
        while struct.unpack_from("=Q", data, at)[0]:
            names.append(text(data[at + 12 :]))
            step = struct.unpack_from("=I", data, at + 8)[0]
            if not step:
                break
            at += step
        return names

    def _do(
        self,
        verb: str,
        name: str,
        flags: int = 0,
        data: bytes = b"",
        count: int = 0,
        event: int = 0,
    ) -> Reply:
        header = HEADER.pack(
            4, 0, 0, ROOM, HEADER.size, count, 0, flags, event, 0, 0, name.encode(), b"", b""
        )
        buffer = bytearray((header + data).ljust(ROOM, b"\0"))
        # _IOWR(0xfd, VERB, struct dm_ioctl)
        ioctl(self._control, 3 << 30 | HEADER.size << 16 | 0xFD << 8 | VERBS[verb], buffer)
        return Reply(bytes(buffer))

    # What an experiment may ask for.

    def create(self, name: str) -> Answer:
        """A device without a table."""
        self.numbers[name] = self._do("dev_create", name).number
        return {}

    def remove(self, name: str) -> Answer:
        """Remove a device."""
        self._do("dev_remove", name)
        self.numbers.pop(name)
        return {}

    def rename(self, name: str, new: str) -> Answer:
        """Call a device something else."""
        self._do("dev_rename", name, data=new.encode() + b"\0")
        self.numbers[new] = self.numbers.pop(name)
        return {}

    def load(self, name: str, table: str, read_only: bool = False) -> Answer:
        """Fill the inactive slot."""
        specs, count = b"", 0
        for line in table.splitlines():
            start, length, kind, params = (line.split(" ", 3) + [""])[:4]
            words = " ".join(self.numbers.get(word, word) for word in params.split(" "))
            data = words.encode() + b"\0"
            data = data.ljust(-(-len(data) // 8) * 8, b"\0")
            step = SPEC.size + len(data)
            specs += SPEC.pack(int(start), int(length), 0, step, kind.encode()) + data
            count += 1
        self._do("table_load", name, READ_ONLY * read_only, specs, count)
        return {}

    def resume(self, name: str) -> Answer:
        """Let bios in, through the new table if there is one."""
        self._do("dev_suspend", name)
        return {}

    def suspend(self, name: str, flush: bool = True) -> Answer:
        """Let no bios in."""
        self._do("dev_suspend", name, SUSPENDED | (0 if flush else NOFLUSH))
        return {}

    def clear(self, name: str) -> Answer:
        """Empty the inactive slot."""
        self._do("table_clear", name)
        return {}

    def table(self, name: str, inactive: bool = False) -> Answer:
        """The text of a table."""
        return self._status(name, AS_TABLE | QUERY_INACTIVE * inactive)

    def status(self, name: str) -> Answer:
        """What the targets of the live table say."""
        return self._status(name, 0)

    def _status(self, name: str, flags: int) -> Answer:
        reply = self._do("table_status", name, flags)
        names = {number: name for name, number in self.numbers.items()}
        lines, at = [], 0
        for _ in range(reply.targets):
            start, length, _, step, kind = SPEC.unpack_from(reply.data, at)
            words = text(reply.data[at + SPEC.size :]).split(" ")
            said = " ".join(names.get(word, word) for word in words)
            lines.append(f"{start} {length} {text(kind)} {said}")
            at = step
        return {"text": "\n".join(lines)}

    def info(self, name: str) -> Answer:
        """State, tables, targets and events."""
        reply = self._do("dev_status", name)
        tables = [
            word for word, flag in (("live", LIVE), ("inactive", INACTIVE)) if reply.flags & flag
        ]
        return {
            "suspended": bool(reply.flags & SUSPENDED),
            "read_only": bool(reply.flags & READ_ONLY),
            "tables": tables,
            "targets": reply.targets,
            "events": reply.event,
        }

    def deps(self, name: str) -> Answer:
        """What lies below, in no order."""
        data = self._do("table_deps", name).data
        names = {number: name for name, number in self.numbers.items()}
        # struct dm_target_deps: count, padding, devs.
        count = struct.unpack_from("=I", data)[0]
        devices = struct.unpack_from(f"={count}Q", data, 8)
        numbers = [f"{os.major(dev)}:{os.minor(dev)}" for dev in devices]
        return {"devices": sorted(names[number] for number in numbers)}

    def message(self, name: str, sector: int, words: str) -> Answer:
        """Say something to the target of a sector; its reply."""
        reply = self._do(
            "target_msg", name, data=struct.pack("=Q", sector) + words.encode() + b"\0"
        )
        return {"reply": text(reply.data) if reply.flags & DATA_OUT else ""}

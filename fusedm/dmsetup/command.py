"""What every verb of dmsetup has at hand: the call, the daemon, streams, and devices by word."""

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

from fusedm.block.device_mapper import DeviceInfo, Name, Which
from fusedm.block.errors import ControlError, FusedmError, UsageError
from fusedm.control import MapperClient
from fusedm.dmsetup import attachment
from fusedm.dmsetup.device import (
    Device,
    info_text,
    ioctl_error,
    number_of,
    number_text,
    told_device,
)
from fusedm.dmsetup.grammar import Call
from fusedm.dmsetup.names import check_length, mangle, unmangle
from fusedm.dmsetup.session import Session, name_of_ours
from fusedm.host import mounts

DOES_NOT_EXIST = "Device does not exist."


@dataclass(frozen=True, slots=True)
class Named:
    """A device as it was asked for, and as an error line shows it; at is its number."""

    name: str = ""
    uuid: str = ""
    at: str = ""

    @property
    def which(self) -> Name:
        """It as the daemon is asked for it."""
        return self.name or Which(uuid=self.uuid, number=number_of(self.at) if self.at else None)


@dataclass(frozen=True, slots=True)
class Streams:
    """Where a command reads and writes, and the environment it was given: its process's if None."""

    stdin: TextIO
    stdout: TextIO
    stderr: TextIO
    environ: Mapping[str, str] | None = None


class Command:
    """One call of dmsetup. A verb that fails raises UsageError with the lines to print."""

    def __init__(self, call: Call, streams: Streams) -> None:
        self.call = call
        self.options = call.options
        self.session = Session()
        self.streams = streams
        self.mangling = call.options.values.get("manglename", "auto")

    # Streams.

    def out(self, text: str) -> None:
        """Write to standard output."""
        self.streams.stdout.write(text)

    def error(self, line: str) -> None:
        """Write a line to standard error."""
        self.streams.stdout.flush()
        self.streams.stderr.write(line + "\n")
        self.streams.stderr.flush()

    # Devices.

    def named(self) -> list[Named] | None:
        """The devices the call names; None if it names none."""
        single = self.named_by_option()
        if single is not None:
            return [single]
        return [self.by_word(word) for word in self.call.words] or None

    def named_by_option(self) -> Named | None:
        """The device of -u, or of -j and -m."""
        if "uuid" in self.options.values:
            uuid = mangle(self.options.values["uuid"], self.mangling)
            return Named(uuid=uuid)
        major, minor = self.options.number("major"), self.options.number("minor")
        if major is None or minor is None:
            return None
        return Named(at=f"{major}:{minor}")

    def by_word(self, word: str) -> Named:
        """The device of a name or path.

        Raises: UsageError for a path that leads to none, or a name no device can have.
        """
        if "/" not in word:
            check_length(word)
            return Named(mangle(word, self.mangling))
        folder, name = os.path.split(os.path.normpath(word))
        mapper = (
            os.path.join(self.session.dev_dir, "mapper"),
            f"{self.session.mount_point}/mapper",
        )
        number = None if folder in mapper else mounts.device_of_node(word)
        for told in self.session.devices():
            if told.name == name if folder in mapper else number_text(told.number) == number:
                return Named(told.name)
        raise UsageError(f"Device {word} not found")

    def required(self) -> list[Named]:
        """The devices the call names.

        Raises: UsageError if it names none.
        """
        named = self.named()
        if named is None:
            raise UsageError("No device specified.")
        return named

    # The daemon.

    @contextmanager
    def ioctl(self, ioctl: str, device: Named) -> Iterator[MapperClient]:
        """Have device mapper do something with a device.

        Raises: UsageError with the line of a failed ioctl; with -v, after why it failed.
        """
        try:
            yield self.session.mapper
        except FusedmError as error:
            raise self.failed(ioctl, error, device) from None

    def failed(self, ioctl: str, error: FusedmError, device: Named) -> UsageError:
        """The line of a failed ioctl; with -v, after why it failed."""
        if self.options.verbosity:
            self.error(str(error))
        line = ioctl_error(ioctl, error.errno, device.name, device.uuid, device.at)
        if isinstance(error, ControlError) and not self.options.verbosity:
            # It is not the devices' answer, and no kernel log has it: the machine lacks something.
            line += f"\nfusedm: {error}"
        return UsageError(line, error.errno)

    @contextmanager
    def looking(self, device: Named) -> Iterator[MapperClient]:
        """The same for those who only look: a device that is not there has a line of its own."""
        try:
            yield self.session.mapper
        except FusedmError as error:
            if error.errno == errno.ENXIO:
                raise UsageError(DOES_NOT_EXIST, error.errno) from None
            raise self.failed("info", error, device) from None

    def existing(self, device: Named) -> DeviceInfo:
        """What is told of a device that should be there."""
        with self.looking(device) as mapper:
            return mapper.info(device.which)

    def device(self, told: DeviceInfo, counts: bool = True, ahead: bool = True) -> Device:
        """A device as it is told of to people, with what is found out about its nodes if asked."""
        (device,) = self.devices([told], counts, ahead)
        return device

    def devices(
        self, told: Sequence[DeviceInfo], counts: bool = True, ahead: bool = True
    ) -> list[Device]:
        """The same for several; counting who has them open takes some time."""
        uses = attachment.uses(self.session, told, counts, ahead)
        return [
            told_device(
                one,
                name=unmangle(one.name, self.mangling),
                uuid=unmangle(one.uuid, self.mangling),
                open_count=use.open_count,
                read_ahead=use.read_ahead,
                block_name=name_of_ours(one.number) if one.is_live or one.is_inactive else None,
            )
            for one, use in zip(told, uses, strict=True)
        ]

    def print_info(self, told: DeviceInfo) -> None:
        """Tell all about a device, as `info` does."""
        device = self.device(told)
        if device.read_ahead is None:
            path = os.path.join(self.session.dev_dir, "mapper", device.name)
            self.error(f"{path}: open failed: {os.strerror(errno.ENOENT)}")
        self.out(info_text(device))

    def print_if_verbose(self, told: DeviceInfo) -> None:
        """The same if -v asks for it; told afresh, since a command may just have changed it."""
        if self.options.verbosity:
            self.print_info(self.session.mapper.info(told.name))

    def all_or(self, named: Sequence[Named] | None) -> list[DeviceInfo]:
        """What is told of the devices named, or of all; no device at all is said to the user.

        Raises: UsageError for one that is not there.
        """
        if named is not None:
            return [self.existing(device) for device in named]
        told = self.session.devices()
        if not told:
            self.out("No devices found\n")
        return told

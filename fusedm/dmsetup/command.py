"""What every verb of dmsetup has at hand: the call, the daemon, streams, and devices by word."""

import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from fusedm.block.errors import FusedmError, UsageError
from fusedm.dmsetup import attachment
from fusedm.dmsetup.device import Device, info_text, ioctl_error, number_of, told_device
from fusedm.dmsetup.grammar import Call
from fusedm.dmsetup.names import check_length, mangle, unmangle
from fusedm.dmsetup.session import Session, name_of_ours
from fusedm.host import mounts

Told = dict[str, Any]

DOES_NOT_EXIST = "Device does not exist."


@dataclass(frozen=True, slots=True)
class Named:
    """A device as it was asked for: what the daemon is asked, and what an error line shows."""

    which: dict[str, str]
    name: str = ""
    uuid: str = ""
    at: str = ""


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
            return Named({"uuid": uuid}, uuid=uuid)
        major, minor = self.options.number("major"), self.options.number("minor")
        if major is None or minor is None:
            return None
        at = f"{major}:{minor}"
        return Named({"number": at}, at=at)

    def by_word(self, word: str) -> Named:
        """The device of a name or path.

        Raises: UsageError for a path that leads to none, or a name no device can have.
        """
        if "/" not in word:
            check_length(word)
            name = mangle(word, self.mangling)
            return Named({"name": name}, name=name)
        folder, name = os.path.split(os.path.normpath(word))
        mapper = (
            os.path.join(self.session.dev_dir, "mapper"),
            f"{self.session.mount_point}/mapper",
        )
        number = None if folder in mapper else mounts.device_of_node(word)
        which = {"number": number} if number else {"name": name}
        known = {told["name"] for told in self.session.devices()}
        if folder in mapper and name in known:
            return Named(which, name=name)
        for told in self.session.devices():
            if number is not None and told["number"] == number:
                return Named({"name": told["name"]}, name=told["name"])
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

    def ask(self, ioctl: str, device: Named, verb: str, **args: object) -> Any:
        """Have the daemon do something with a device.

        Raises: UsageError with the line of a failed ioctl; with -v, after why it failed.
        """
        try:
            return self.session.call(verb, device=device.which, **args)
        except FusedmError as error:
            raise self.failed(ioctl, error, device) from None

    def failed(self, ioctl: str, error: FusedmError, device: Named) -> UsageError:
        """The line of a failed ioctl; with -v, after why it failed."""
        if self.options.verbosity:
            self.error(str(error))
        line = ioctl_error(ioctl, error.errno, device.name, device.uuid, device.at)
        return UsageError(line, error.errno)

    def ask_existing(self, device: Named, verb: str, **args: object) -> Any:
        """The same for those who only look: a device that is not there has a line of its own."""
        try:
            return self.session.call(verb, device=device.which, **args)
        except FusedmError as error:
            if error.errno == errno.ENXIO:
                raise UsageError(DOES_NOT_EXIST, error.errno) from None
            raise self.failed("info", error, device) from None

    def device(self, told: Told, counts: bool = True) -> Device:
        """A device as it is told of to people; counting who has it open takes some time."""
        has_table = told["live"] or told["inactive"]
        name = name_of_ours(number_of(told["number"])) if has_table else None
        shown = {**told, "name": unmangle(told["name"], self.mangling)}
        shown["uuid"] = unmangle(told["uuid"], self.mangling)
        return told_device(
            shown,
            open_count=attachment.open_count(self.session, told) if counts else 0,
            read_ahead=attachment.read_ahead(told),
            block_name=name,
        )

    def print_info(self, told: Told) -> None:
        """Tell all about a device, as `info` does."""
        device = self.device(told)
        if device.read_ahead is None:
            path = os.path.join(self.session.dev_dir, "mapper", device.name)
            self.error(f"{path}: open failed: {os.strerror(errno.ENOENT)}")
        self.out(info_text(device))

    def print_if_verbose(self, told: Told) -> None:
        """The same if -v asks for it; told afresh, since a command may just have changed it."""
        if self.options.verbosity:
            self.print_info(self.session.call("dmsetup.info", device={"name": told["name"]}))

    def all_or(self, named: Sequence[Named] | None) -> list[Told]:
        """What is told of the devices named, or of all; no device at all is said to the user.

        Raises: UsageError for one that is not there.
        """
        if named is not None:
            return [self.ask_existing(device, "dmsetup.info") for device in named]
        told = self.session.devices()
        if not told:
            self.out("No devices found\n")
        return told

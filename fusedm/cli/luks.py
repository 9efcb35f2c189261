"""The command line, continued: LUKS volumes in a running stack."""

import errno
import os
import stat
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from fusedm.block.errors import ControlError, CryptoError, FusedmError, StackError, UsageError
from fusedm.block.names import MAX_NAME_BYTES
from fusedm.cli.devices import EXIT_CODES, call, mapper, stack_option
from fusedm.control import which_stack
from fusedm.host import loop
from fusedm.host.interrupts import hold
from fusedm.host.luks import MAX_PASSPHRASE_BYTES, Volume, read_volume, unlock
from fusedm.stores import FileStore

#: How cryptsetup begins the UUID of a mapped device that is a volume; the volume's own follows.
_UUID = "CRYPT-LUKS"


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a volume lies: at a path, which in this stack is a device from a sector on."""

    path: Path
    device: str = ""
    start_sector: int = 0


@dataclass(frozen=True, slots=True)
class _Passphrase:
    """Where it comes from; sizes in bytes."""

    key_file: str | None
    key_fd: int | None
    offset: int
    size: int | None


@click.group("luks", epilog=EXIT_CODES)
def luks_group() -> None:
    """LUKS volumes: their payload as a mapped device."""


@luks_group.command("open", epilog=EXIT_CODES)
@stack_option
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("name")
@click.option("--header", type=click.Path(path_type=Path), help="The file that has the header.")
@click.option("--type", "kind", type=click.Choice(["luks", "luks1", "luks2"]), default="luks",
              show_default=True, help="Refuse a volume of another version.")  # fmt: skip
@click.option("--key-file", "-d", metavar="FILE",
              help="What holds the passphrase; - is standard input.")  # fmt: skip
@click.option("--key-fd", type=int, metavar="N", help="A descriptor that it can be read from.")
@click.option("--keyfile-offset", type=click.IntRange(0), default=0, metavar="BYTES",
              help="Where in the key file it begins.")  # fmt: skip
@click.option("--keyfile-size", "-l", type=click.IntRange(1), metavar="BYTES",
              help="How long it is there; else all that follows.")  # fmt: skip
@click.option("--key-slot", "-S", type=click.IntRange(0, 31), help="Try this key slot only.")
@click.option("--read-only", "--readonly", "-r", is_flag=True, help="Refuse every write.")
@click.option("--allow-discards", is_flag=True, help="Let discards through, which show free space.")
def luks_open(
    stack: str | None,
    file: Path,
    name: str,
    header: Path | None,
    kind: str,
    key_file: str | None,
    key_fd: int | None,
    keyfile_offset: int,
    keyfile_size: int | None,
    key_slot: int | None,
    read_only: bool,
    allow_discards: bool,
) -> None:
    """Open the payload of the LUKS volume in FILE as a mapped device NAME.

    FILE is a file or block device, which becomes a disk NAME.luks; or a disk or mapped device of
    the stack, by its name, its path in the mount, or a loop device over it or a partition of that.

    A passphrase is asked for unless there is a key file; cryptsetup reads the header. A key file is
    taken whole, with a newline at its end if there is one.
    """
    stack = which_stack(stack)
    if key_file is not None and key_fd is not None:
        raise UsageError("give --key-file or --key-fd, not both")
    files = call(stack, "ls")
    place = _place(file, files)
    is_apart = header is not None and not (place.path.exists() and header.exists()
                                           and header.samefile(place.path))  # fmt: skip
    volume = read_volume(header if header is not None and is_apart else place.path)
    if kind not in ("luks", f"luks{volume.version}"):
        raise StackError(f"{volume.path}: it is a luks{volume.version} volume, not {kind}")
    start, count = volume.sectors(place.path, _size(place.path), is_apart)
    _check_cipher(volume)
    _check_unused(stack, place, name, volume, files, read_only)
    source = _Passphrase(key_file, key_fd, keyfile_offset, keyfile_size)
    key = _unlock(volume, _passphrase(source, file), key_slot)
    disk = place.device or f"{name}.luks"
    hold()  # From here on it is done whole, disk and mapped device, or undone.
    try:
        table = volume.line(key, disk, start + place.start_sector, count, allow_discards)
        if not place.device:
            store = f"file:{place.path.absolute()}"
            call(stack, "disk.add", name=disk, store=store, read_only=read_only)
        try:
            uuid = f"{_uuid(volume)}{name}"[:MAX_NAME_BYTES]
            mapper(stack).add(name, table=table, uuid=uuid, read_only=read_only)
        except FusedmError:
            if not place.device:
                call(stack, "disk.remove", name=disk)
            raise
    finally:
        key[:] = bytes(len(key))


@luks_group.command("close", epilog=EXIT_CODES)
@stack_option
@click.argument("name")
def luks_close(stack: str | None, name: str) -> None:
    """Remove a mapped device that `luks open` has added, and its disk; the file stays."""
    stack = which_stack(stack)
    shown = call(stack, "dm.show", name=name)
    if not shown["uuid"].startswith(_UUID):
        raise StackError(f"{name!r} is not a LUKS volume that `luks open` has opened")
    if shown["below"] == [f"{name}.luks"]:
        below = call(stack, "disk.show", name=f"{name}.luks")
        if below["holders"] != [name] or below["open"]:
            users = ", ".join(set(below["holders"]) - {name}) or "open files"
            raise StackError(f"'{name}.luks' is in use by {users}", errno.EBUSY)
    hold()
    mapper(stack).remove(name)
    if shown["below"] == [f"{name}.luks"]:
        with suppress(ControlError):  # The daemon of dmsetup has ended with its last device.
            call(stack, "disk.remove", name=f"{name}.luks")


def _uuid(volume: Volume) -> str:
    """How the UUID of a mapped device begins that is this volume, as cryptsetup has it."""
    return f"{_UUID}{volume.version}-{''.join(filter(str.isalnum, volume.uuid))}-"


def _place(file: Path, files: list[Mapping[str, Any]]) -> _Place:
    """Where FILE leads, to a device of this stack or elsewhere.

    Raises: StackError for a view.
    """
    start = 0
    if not file.exists():
        found = [each for each in files if each["name"] == str(file)]
        inside = [Path(each["path"]) for each in found]
    elif stat.S_ISBLK(file.stat().st_mode):
        whole, start = _whole_device(file.stat().st_rdev)
        below = loop.loop_device(whole)
        found = [each for each in files if below is not None and _is_over(below, each["path"])]
        inside = [file]
    else:
        path = os.path.realpath(file)
        found, inside = [each for each in files if each["path"] == path], [file]
    if not found:
        return _Place(file)
    if found[0]["kind"] == "view":
        raise StackError(f"{file}: is a view, under a key of its own: give the device below")
    return _Place(inside[0], found[0]["name"], start)


def _whole_device(number: int) -> tuple[str, int]:
    """The device that a block device is a partition of, itself if of none, and its first sector."""
    folder = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve()
    if not (folder / "partition").exists():
        return folder.name, 0
    return folder.parent.name, int((folder / "start").read_text())


def _is_over(device: loop.LoopDevice, path: str) -> bool:
    """Whether a loop device is over a file, all of it; not root, we cannot ask but by its name."""
    if not device.is_whole or device.file is None:
        return device.is_whole and device.backing_file == path
    info = os.stat(path)
    return (device.file.device, device.file.inode) == (info.st_dev, info.st_ino)


def _size(path: Path) -> int:
    """Bytes of a file or device.

    Raises: StackError.
    """
    try:
        with path.open("rb") as opened:
            return opened.seek(0, os.SEEK_END)
    except OSError as error:
        raise StackError(f"{path}: {error.strerror}", error.errno) from None


def _check_cipher(volume: Volume) -> None:
    """Refuse a cipher that crypt has not, before anybody is asked for a passphrase."""
    from fusedm.crypto import parse_cipher_spec

    try:
        parse_cipher_spec(volume.cipher)
    except CryptoError as error:
        raise StackError(f"{volume.path}: {volume.cipher}: {error}", error.errno) from None


def _unlock(volume: Volume, passphrase: bytes, key_slot: int | None) -> bytearray:
    """The key of a volume, by cryptsetup if it knows the cipher of the key slots, else here.

    Raises: as unlock.
    """
    try:
        return unlock(volume, passphrase, key_slot)
    except StackError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
    from fusedm.crypto import key_slots, open_key_slot

    failure = StackError(f"{volume.path}: no key slot has this passphrase", errno.EPERM)
    for slot in key_slots(volume.head, volume.cipher, volume.metadata):
        if key_slot in (None, slot.number):
            with volume.path.open("rb") as file:
                file.seek(slot.offset)
                material = bytearray(file.read(slot.size))
            try:
                key = open_key_slot(slot, material, passphrase)
            except CryptoError as error:
                text = f"{volume.path}: key slot {slot.number}, {slot.cipher}: {error}"
                failure = StackError(text, error.errno)
                continue
            if key is not None:
                return key
    raise failure


def _check_unused(
    stack: str,
    place: _Place,
    name: str,
    volume: Volume,
    files: list[Mapping[str, Any]],
    read_only: bool,
) -> None:
    """Refuse a name that is taken, and a volume that is open, before asking for a passphrase."""
    if name in [each["name"] for each in files]:
        raise StackError(f"name {name!r} is taken", errno.EEXIST)
    if not place.device:
        FileStore.open(place.path.absolute(), read_only=read_only).close()
        return
    for each in files:
        if place.device in each["below"] and each["kind"] == "mapped":
            uuid = call(stack, "dm.show", name=each["name"])["uuid"]
            if uuid.startswith(_uuid(volume)):
                text = f"{place.path}: this volume is open already, as {each['name']!r}"
                raise StackError(text, errno.EBUSY)


def _passphrase(source: _Passphrase, file: Path) -> bytes:
    """The passphrase, from where it is said to be.

    Raises: UsageError, StackError.
    """
    if source.key_file is None and source.key_fd is None:
        if source.offset or source.size is not None:
            raise UsageError("--keyfile-offset and --keyfile-size are of a --key-file or --key-fd")
        if not sys.stdin.isatty():
            raise UsageError("give --key-file or --key-fd: there is no terminal to ask at")
        text: str = click.prompt(f"Passphrase of {file}", hide_input=True, err=True)
        return text.encode()
    if source.key_fd is not None:
        where = f"--key-fd {source.key_fd}"
    else:
        where = f"--key-file {source.key_file}"
    try:
        if source.key_fd is not None:
            return _read(source.key_fd, where, source)
        if source.key_file == "-":
            return _read(sys.stdin.fileno(), where, source)
        assert source.key_file is not None, "one of the two is given"
        fd = os.open(source.key_file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return _read(fd, where, source)
        finally:
            os.close(fd)
    except OSError as error:
        raise StackError(f"{where}: {error.strerror}", error.errno) from None


def _read(fd: int, where: str, source: _Passphrase) -> bytes:
    """All that follows an offset, or so many bytes; what comes before it may be read away."""
    skipped = _read_up_to(fd, source.offset)
    if len(skipped) < source.offset:
        raise StackError(f"{where}: ends after {len(skipped)} bytes, before {source.offset}")
    data = _read_up_to(fd, MAX_PASSPHRASE_BYTES + 1 if source.size is None else source.size)
    if len(data) > MAX_PASSPHRASE_BYTES:
        raise StackError(f"{where}: more than {MAX_PASSPHRASE_BYTES} bytes")
    if source.size is not None and len(data) < source.size:
        raise StackError(f"{where}: has {len(data)} bytes there, {source.size} are asked for")
    return data


def _read_up_to(fd: int, count: int) -> bytes:
    data = b""
    while more := os.read(fd, count - len(data)):
        data += more
    return data

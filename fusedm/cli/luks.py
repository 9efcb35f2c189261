"""The command line, continued: LUKS volumes in a running stack."""

import os
import sys
from pathlib import Path

import click

from fusedm.block.errors import FusedmError, StackError, UsageError
from fusedm.cli.devices import EXIT_CODES, call, mapper, stack_option
from fusedm.control import which_stack
from fusedm.host.luks import MAX_PASSPHRASE_BYTES, unlock


@click.group("luks", epilog=EXIT_CODES)
def luks_group() -> None:
    """LUKS volumes: their payload as a mapped device."""


@luks_group.command("open", epilog=EXIT_CODES)
@stack_option
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("name")
@click.option("--key-file", metavar="FILE", help="What holds the passphrase; - is standard input.")
@click.option("--key-fd", type=int, metavar="N", help="A descriptor that it can be read from.")
@click.option("--read-only", is_flag=True, help="Refuse every write.")
@click.option("--allow-discards", is_flag=True, help="Let discards through, which show free space.")
def luks_open(
    stack: str | None,
    file: Path,
    name: str,
    key_file: str | None,
    key_fd: int | None,
    read_only: bool,
    allow_discards: bool,
) -> None:
    """Open the payload of the LUKS volume in FILE as a mapped device NAME, over a disk NAME.luks.

    A passphrase is asked for unless there is a key file; cryptsetup reads the header. A key file is
    taken whole, with a newline at its end if there is one.
    """
    stack = which_stack(stack)
    payload = unlock(file, _passphrase(key_file, key_fd, file))
    disk = f"{name}.luks"
    try:
        call(stack, "disk.add", name=disk, store=f"file:{file.absolute()}", read_only=read_only)
        try:
            table = payload.table(disk, allow_discards)
            mapper(stack).add(name, table=table, read_only=read_only)
        except FusedmError:
            call(stack, "disk.remove", name=disk)
            raise
    finally:
        payload.wipe()


@luks_group.command("close", epilog=EXIT_CODES)
@stack_option
@click.argument("name")
def luks_close(stack: str | None, name: str) -> None:
    """Remove a mapped device that `luks open` has added, and its disk; the file stays."""
    stack = which_stack(stack)
    disk = f"{name}.luks"
    if call(stack, "dm.show", name=name)["below"] != [disk]:
        raise StackError(f"{name!r} is not over a disk {disk!r}, as `luks open` makes it")
    mapper(stack).remove(name)
    call(stack, "disk.remove", name=disk)


def _passphrase(key_file: str | None, key_fd: int | None, file: Path) -> bytes:
    """The passphrase, from where it is said to be.

    Raises: UsageError, StackError.
    """
    if key_file is not None and key_fd is not None:
        raise UsageError("give --key-file or --key-fd, not both")
    if key_file is None and key_fd is None:
        if not sys.stdin.isatty():
            raise UsageError("give --key-file or --key-fd: there is no terminal to ask at")
        text: str = click.prompt(f"Passphrase of {file}", hide_input=True, err=True)
        return text.encode()
    where = f"--key-fd {key_fd}" if key_fd is not None else f"--key-file {key_file}"
    try:
        if key_fd is not None:
            return _read(key_fd, where)
        if key_file == "-":
            return _read(sys.stdin.fileno(), where)
        assert key_file is not None, "one of the two is given"
        fd = os.open(key_file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return _read(fd, where)
        finally:
            os.close(fd)
    except OSError as error:
        raise StackError(f"{where}: {error.strerror}", error.errno) from None


def _read(fd: int, where: str) -> bytes:
    data = b""
    while more := os.read(fd, MAX_PASSPHRASE_BYTES + 1 - len(data)):
        data += more
    if len(data) > MAX_PASSPHRASE_BYTES:
        raise StackError(f"{where}: more than {MAX_PASSPHRASE_BYTES} bytes")
    return data

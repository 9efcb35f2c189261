"""The command line, continued: keys that are wrapped for engines."""

import base64
import os
from collections.abc import Callable
from pathlib import Path

import click

from fusedm.block.crypt_ctx import MAX_WRAPPED_KEY_SIZE
from fusedm.block.errors import StackError
from fusedm.cli.devices import EXIT_CODES, call, stack_option
from fusedm.cli.keys import key_group
from fusedm.crypto import MAX_IMPORT_SIZE
from fusedm.stack import load_bytes

device_argument = click.argument("device")
source_option = click.option(
    "--source", required=True, help="Where its bytes are: file:PATH, env:NAME, fd:N, keyring:DESC."
)
out_option = click.option(
    "--out", required=True, metavar="FILE", help="A new file of mode 0600, or fd:N."
)


@key_group.command("import-wrapped", epilog=EXIT_CODES)
@stack_option
@device_argument
@source_option
@out_option
def key_import_wrapped(stack: str | None, device: str, source: str, out: str) -> None:
    """Have an engine wrap a raw key of 16 to 64 bytes: writes its long-term form.

    DEVICE is a disk, or a mapped device that takes wrapped keys all over: then its first disk.
    """
    raw = _load(source, MAX_IMPORT_SIZE)
    _wrapped(out, lambda: call(stack, "key.importwrapped", name=device, raw=raw))


@key_group.command("generate-wrapped", epilog=EXIT_CODES)
@stack_option
@device_argument
@out_option
def key_generate_wrapped(stack: str | None, device: str, out: str) -> None:
    """Have an engine make a key that nobody ever sees: writes its long-term form.

    DEVICE is a disk, or a mapped device that takes wrapped keys all over: then its first disk.
    """
    _wrapped(out, lambda: call(stack, "key.generatewrapped", name=device))


@key_group.command("prepare", epilog=EXIT_CODES)
@stack_option
@device_argument
@source_option
@out_option
def key_prepare(stack: str | None, device: str, source: str, out: str) -> None:
    """Prepare a long-term key for use: writes a form that is good until the daemon ends."""
    key = _load(source, MAX_WRAPPED_KEY_SIZE)
    _wrapped(out, lambda: call(stack, "key.prepare", name=device, key=key))


@key_group.command("software-secret", epilog=EXIT_CODES)
@stack_option
@device_argument
@source_option
@out_option
def key_software_secret(stack: str | None, device: str, source: str, out: str) -> None:
    """Write the 32 bytes that software may have of a prepared key."""
    key = _load(source, MAX_WRAPPED_KEY_SIZE)
    _wrapped(out, lambda: call(stack, "key.softwaresecret", name=device, key=key))


def _load(source: str, most: int) -> str:
    data = load_bytes(source, most, Path.cwd())
    try:
        return base64.b64encode(data).decode()
    finally:
        data[:] = bytearray(len(data))


def _wrapped(out: str, ask: Callable[[], str]) -> None:
    """Write what the daemon answers to a file, made before it is asked; it goes if that fails.

    Raises: StackError with the errno of a file that cannot be made or written.
    """
    scheme, _, number = out.partition(":")
    try:
        if scheme == "fd" and number.isdecimal():
            _write_all(int(number), base64.b64decode(ask()))
            return
        fd = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _write_all(fd, base64.b64decode(ask()))
        except BaseException:
            os.unlink(out)
            raise
        finally:
            os.close(fd)
    except OSError as error:
        raise StackError(f"--out {out}: {error.strerror}", error.errno) from None


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]

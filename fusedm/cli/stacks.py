"""The command line, continued: the verbs that bring stacks up, and what mount(8) says."""

import sys
from collections.abc import Sequence
from typing import Any

import click

from fusedm.block.errors import UsageError
from fusedm.cli.mount_helper import parse_mount_call
from fusedm.cli.run_command import run_with_stack
from fusedm.control import bring_up, serve_here
from fusedm.host.kernel_mount import MountOptions
from fusedm.host.secrecy import allow_core
from fusedm.stack import check_stack


def _allow_core(_: click.Context, __: click.Parameter, value: bool) -> None:
    if value:
        allow_core()


def mount_options(command: Any) -> Any:
    """The options of a mount: who may look in, who answers, and what a crash leaves."""
    command = click.option(
        "--allow-core",
        is_flag=True,
        expose_value=False,
        callback=_allow_core,
        help="Let core dumps be made of the daemon: they hold its keys.",
    )(command)
    command = click.option(
        "--no-lane", is_flag=True, help="Answer every request through libfuse (slower)."
    )(command)
    command = click.option("--allow-root", is_flag=True, help="Let root look into the mount.")(
        command
    )
    return click.option("--allow-other", is_flag=True, help="Let everybody look into it.")(command)


@click.command()
@click.argument("stack_file", metavar="STACK.toml")
@click.argument("mount_point", metavar="[MOUNTPOINT]", required=False)
@click.option("--foreground", is_flag=True, help="Stay; prints READY MOUNTPOINT when it answers.")
@click.option("--nbd", "nbd_socket", metavar="SOCKET", help="Serve all by NBD as well, there.")
@click.option("--no-mount", is_flag=True, help="Only by NBD; SOCKET stands for MOUNTPOINT then.")
@mount_options
def up(
    stack_file: str,
    mount_point: str | None,
    foreground: bool,
    nbd_socket: str | None,
    no_mount: bool,
    allow_other: bool,
    allow_root: bool,
    no_lane: bool,
) -> None:
    """Bring a stack up; returns when the mount answers.

    With --no-mount neither /dev/fuse nor pyfuse3 is needed, and `down SOCKET`, `--stack SOCKET` are
    about it.
    Exit codes: 0 it is up, 1 it cannot be brought up (nothing is left then), 2 usage.
    """
    if no_mount == (mount_point is not None):
        raise UsageError("give either a MOUNTPOINT or --no-mount")
    if no_mount and not nbd_socket:
        raise UsageError("--no-mount needs --nbd SOCKET: there would be no way in")
    options = MountOptions(allow_other, allow_root, lane=not no_lane)
    socket = nbd_socket or ""
    if foreground:
        serve_here(stack_file, mount_point, options, lambda at: click.echo(f"READY {at}"), socket)
    else:
        bring_up(stack_file, mount_point, options, socket)


@click.command()
@click.argument("stack_file", metavar="STACK.toml")
def check(stack_file: str) -> None:
    """Check a stack file, tables included, without touching a store or key.

    Exit codes: 0 it can be brought up as far as one can tell, 1 it cannot.
    """
    check_stack(stack_file)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("stack_file", metavar="STACK.toml")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
@mount_options
def run(
    stack_file: str, command: Sequence[str], allow_other: bool, allow_root: bool, no_lane: bool
) -> None:
    """Run COMMAND with a stack that lives exactly as long.

    COMMAND finds FUSEDM_MOUNT and a path for each file: FUSEDM_DISK_NAME, FUSEDM_MAPPER_NAME,
    FUSEDM_VIEW_NAME (upper case, other characters as _). The stack is torn down whatever happens.
    Exit codes: COMMAND's, or 128 + the signal that ended it; 1, 2 as for `up`.
    """
    options = MountOptions(allow_other, allow_root, lane=not no_lane)
    sys.exit(run_with_stack(stack_file, command, options))


def mount(words: Sequence[str]) -> None:
    """Bring a stack up as mount(8) asks for it: STACK.toml MOUNTPOINT -o OPTIONS."""
    call = parse_mount_call(words)
    if call.allow_core:
        allow_core()
    bring_up(call.stack_file, call.mount_point, call.options)

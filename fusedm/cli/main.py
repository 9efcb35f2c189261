"""The command line: the verbs that bring stacks up and down, and those that look at one.

Exit codes: 0 done; 1 refused or failed; 2 asked for wrongly, or the machine lacks what it needs.
`run` returns the exit code of its command. An error is one line on stderr, never a traceback.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from fusedm import __version__
from fusedm.block.errors import FusedmError, StackError, UsageError
from fusedm.cli import listing
from fusedm.cli.bench_command import bench
from fusedm.cli.demo import run_demo
from fusedm.cli.devices import disk_group, dm_group, key_group, stack_option, view_group
from fusedm.cli.hardware import engines
from fusedm.cli.looking import looking_verbs
from fusedm.cli.mount_helper import is_mount_call, parse_mount_call
from fusedm.cli.run_command import run_with_stack
from fusedm.cli.tables import table_group
from fusedm.cli.verifying import verify_command
from fusedm.control import Client, bring_down, bring_down_all, bring_up, serve_here, which_stack
from fusedm.dm import target_class, target_doc, target_names
from fusedm.fuse import MountOptions
from fusedm.host import doctor, loop
from fusedm.stack import check_stack

EXIT_REFUSED = 1
EXIT_USAGE = 2


def mount_options(command: Any) -> Any:
    """The options of a mount: who may look in, and who answers."""
    command = click.option(
        "--no-lane", is_flag=True, help="Answer every request through libfuse (slower)."
    )(command)
    command = click.option("--allow-root", is_flag=True, help="Let root look into the mount.")(
        command
    )
    return click.option("--allow-other", is_flag=True, help="Let everybody look into it.")(command)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fusedm")
def cli() -> None:
    """Emulated disks with inline encryption, and device mapper, as files in a FUSE mount.

    Exit codes: 0 done, 1 refused or failed, 2 asked for wrongly or something is missing here.
    """


@cli.command()
@click.argument("stack_file", metavar="STACK.toml")
@click.argument("mount_point", metavar="MOUNTPOINT")
@click.option("--foreground", is_flag=True, help="Stay; prints READY MOUNTPOINT when it answers.")
@mount_options
def up(
    stack_file: str,
    mount_point: str,
    foreground: bool,
    allow_other: bool,
    allow_root: bool,
    no_lane: bool,
) -> None:
    """Bring a stack up; returns when the mount answers.

    Exit codes: 0 it is up, 1 it cannot be brought up (nothing is left then), 2 usage.
    """
    options = MountOptions(allow_other, allow_root, lane=not no_lane)
    if foreground:
        serve_here(stack_file, mount_point, options, lambda where: click.echo(f"READY {where}"))
    else:
        bring_up(stack_file, mount_point, options)


@cli.command()
@click.argument("mount_point", metavar="MOUNTPOINT", required=False)
@click.option("--all", "everything", is_flag=True, help="Every stack of this user.")
@click.option("--force", is_flag=True, help="Unmount what lies over it too, open or not.")
def down(mount_point: str | None, everything: bool, force: bool) -> None:
    """Detach loop devices, unmount, end the daemon; clears what a killed daemon has left.

    Exit codes: 0 nothing of it is left, 1 something is busy (it says by whom) or there is no stack
    there, 2 usage.
    """
    if everything == (mount_point is not None):
        raise UsageError("give either a MOUNTPOINT or --all")
    done = bring_down_all(force) if mount_point is None else bring_down(mount_point, force)
    for line in done:
        click.echo(line, err=True)


@cli.command()
@click.argument("stack_file", metavar="STACK.toml")
def check(stack_file: str) -> None:
    """Check a stack file, tables included, without touching a store or key.

    Exit codes: 0 it can be brought up as far as one can tell, 1 it cannot.
    """
    check_stack(stack_file)


@cli.command()
@stack_option
@click.option("--json", "as_json", is_flag=True, help="With lsblk's key names.")
@click.option("--tree", "as_tree", is_flag=True, help="What lies on what.")
def ls(stack: str | None, as_json: bool, as_tree: bool) -> None:
    """List disks, mapped devices and views.

    Exit codes: 0, 1 the daemon cannot be reached, 2 it is not clear which stack.
    """
    mount_point = which_stack(stack)
    with Client(mount_point) as client:
        files = client.call("ls")
    nodes = {device.backing_file: device.node for device in loop.attached(mount_point)}
    if as_json:
        click.echo(json.dumps(listing.lsblk(files, nodes), indent=2))
    elif as_tree:
        click.echo(listing.tree(files))
    else:
        click.echo(listing.table(files, nodes))


@cli.command()
@stack_option
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def status(stack: str | None, as_json: bool) -> None:
    """Say what is running: counts, what is suspended, bios in flight.

    Exit codes: 0, 1 the daemon cannot be reached, 2 it is not clear which stack.
    """
    with Client(which_stack(stack)) as client:
        told = client.call("status")
    if as_json:
        click.echo(json.dumps(told, indent=2))
    else:
        rows = [(name.replace("_", " "), _words(value)) for name, value in told.items()]
        click.echo(listing.columns(rows))


@cli.command()
@stack_option
@click.argument("file", metavar="FILE", default="-")
def save(stack: str | None, file: str) -> None:
    """Write the running stack as a stack file (to standard output without FILE); no key bytes.

    A key from `random` is another one when that file is brought up.
    Exit codes: 0, 1 the daemon cannot be reached or FILE not be written.
    """
    with Client(which_stack(stack)) as client:
        text = client.call("save")
    if file == "-":
        click.echo(text, nl=False)
        return
    try:
        Path(file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise StackError(f"{file}: {error.strerror}", error.errno) from None


@cli.command()
@stack_option
@click.argument("name")
def attach(stack: str | None, name: str) -> None:
    """Attach a disk, mapped device or view to a loop device and print its node (needs root).

    The loop device has direct I/O on, and the logical block size of what is attached.
    Exit codes: 0, 1 it cannot be attached, 2 not root, or root cannot see into the mount.
    """
    with Client(which_stack(stack)) as client:
        file = client.call("file", name=name)
    click.echo(loop.attach(file["path"], file["log_sec"], file["ro"]).node)


@cli.command()
@stack_option
@click.argument("name")
def detach(stack: str | None, name: str) -> None:
    """Detach every loop device over a disk, mapped device or view.

    Exit codes: 0, 1 none is attached, or one is busy (it says by whom), 2 not root.
    """
    with Client(which_stack(stack)) as client:
        file = client.call("file", name=name)
    devices = loop.attached(file["path"])
    if not devices:
        raise StackError(f"{name!r} is not attached to a loop device")
    for device in devices:
        loop.detach(device)


@cli.command(context_settings={"ignore_unknown_options": True})
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


@cli.command()
@click.option("--keep", metavar="DIR", help="Keep stack file and disk images in a new DIR.")
def demo(keep: str | None) -> None:
    """Show the whole thing: encrypted disks, a real file system, the proof, a benchmark.

    Exit codes: 0 all of it worked and nothing is left, 1 something did not, 2 not root, or a tool
    is missing.
    """
    run_demo(keep)


@cli.command("doctor")
def doctor_command() -> None:
    """Say what is missing here for FUSE, loop devices and unprivileged use, and how to fix it.

    Exit codes: 0 nothing that is needed is missing, 1 something is.
    """
    findings = doctor.examine()
    for finding in findings:
        mark = "ok  " if finding.ok else ("MISS" if finding.needed else "note")
        click.echo(f"{mark} {finding.name}: {finding.text}")
        if not finding.ok and finding.fix:
            click.echo(f"       fix: {finding.fix}")
    if any(finding.needed and not finding.ok for finding in findings):
        sys.exit(EXIT_REFUSED)


@cli.command()
@click.argument("name", required=False)
def targets(name: str | None) -> None:
    """List the targets of the device mapper, or print the page of one.

    Exit codes: 0, 1 there is no such target.
    """
    if name is not None:
        click.echo(target_doc(name), nl=False)
        return
    click.echo(listing.columns([(kind, target_class(kind).usage) for kind in target_names()]))


for group in (
    disk_group,
    dm_group,
    key_group,
    view_group,
    bench,
    *looking_verbs,
    verify_command,
    table_group,
):
    cli.add_command(group)
cli.add_command(engines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; the only place where an error becomes an exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if is_mount_call(words, list(cli.commands)):
            call = parse_mount_call(words)
            bring_up(call.stack_file, call.mount_point, call.options)
        else:
            cli.main(words, prog_name="fusedm")
    except UsageError as error:
        _exit(error, EXIT_USAGE)
    except FusedmError as error:
        _exit(error, EXIT_REFUSED)
    except BrokenPipeError:
        _drop_output()
        sys.exit(EXIT_REFUSED)
    except OSError as error:  # As of standard output on a full file system.
        _drop_output()
        where = f"{error.filename}: " if error.filename else ""
        _exit(StackError(f"{where}{error.strerror}"), EXIT_REFUSED)


def _drop_output() -> None:
    """Let what cannot be written go nowhere, or Python would try again at its end, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _exit(error: FusedmError, code: int) -> None:
    print(f"fusedm: {error}", file=sys.stderr)
    sys.exit(code)


def _words(value: object) -> str:
    if value is None:
        return "no"
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)

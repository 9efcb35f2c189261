"""The command line, continued: verbs on a stack that is up, as a whole. None of them needs devices.

They only talk to the daemon, so that they start at once.
"""

import errno
import json
import os
import sys
from contextlib import suppress

import click

from fusedm.block.errors import StackError, UsageError
from fusedm.cli import listing
from fusedm.cli.devices import stack_option
from fusedm.control import (
    Client,
    bring_down,
    bring_down_all,
    loops_over,
    name_in_mount,
    which_stack,
)
from fusedm.host import loop
from fusedm.host.interrupts import hold
from fusedm.host.mounts import mounts_of_source
from fusedm.host.writing import write_whole

EXIT_FOUND = 1


@click.command()
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


@click.command()
@stack_option
@click.option("--json", "as_json", is_flag=True, help="With lsblk's key names.")
@click.option("--tree", "as_tree", is_flag=True, help="What lies on what.")
def ls(stack: str | None, as_json: bool, as_tree: bool) -> None:
    """List disks, mapped devices and views.

    Exit codes: 0, 1 there is no stack or it cannot be reached, 2 several are running.
    """
    with Client(which_stack(stack)) as client:
        files = client.call("ls")
        loops = {}
        with suppress(StackError):  # Where the mount cannot be seen from here.
            loops = {name_in_mount(one.backing_file): one.node for one in loops_over(client)}
    paths = [file["path"] for file in files]
    nodes = {path: loops[name_in_mount(path)] for path in paths if name_in_mount(path) in loops}
    if as_json:
        click.echo(json.dumps(listing.lsblk(files, nodes), indent=2))
    elif as_tree:
        click.echo(listing.tree(files))
    else:
        click.echo(listing.table(files, nodes))


@click.command()
@stack_option
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def status(stack: str | None, as_json: bool) -> None:
    """Say what is running: counts, what is suspended, bios in flight.

    Exit codes: 0, 1 there is no stack or it cannot be reached, 2 several are running.
    """
    with Client(which_stack(stack)) as client:
        told = client.call("status")
    if as_json:
        click.echo(json.dumps(told, indent=2))
    else:
        rows = [(name.replace("_", " "), _words(value)) for name, value in told.items()]
        click.echo(listing.columns(rows))


@click.command()
@stack_option
@click.argument("file", metavar="FILE", default="-")
@click.option("--force", is_flag=True, help="Write over a FILE that is there.")
def save(stack: str | None, file: str, force: bool) -> None:
    """Write the running stack as a stack file (to standard output without FILE); no key bytes.

    FILE is written whole or not at all. Paths that were relative are so in FILE too, and lead from
    there to the same files; on standard output all are absolute.
    A key from `random` is another one when that file is brought up.
    Exit codes: 0, 1 there is no stack or it cannot be reached, or FILE is there or cannot be
    written, 2 several are running.
    """
    with Client(which_stack(stack)) as client:
        if file == "-":
            click.echo(client.call("save"), nl=False)
            return
        text = client.call("save", folder=os.path.dirname(os.path.realpath(file)))
    try:
        write_whole(file, text, force)
    except FileExistsError:
        text = f"{file}: is there already; --force writes over it"
        raise StackError(text, errno.EEXIST) from None
    except OSError as error:
        raise StackError(f"{file}: {error.strerror}", error.errno) from None


@click.command()
@stack_option
@click.argument("name")
@click.option("--partscan/--no-partscan", default=True, help="Show its partitions (the default).")
def attach(stack: str | None, name: str, partscan: bool) -> None:
    """Attach a disk, mapped device or view to a loop device and print its node (needs root).

    The loop device has direct I/O on, and the logical block size of what is attached. Its
    partitions have nodes beside its own (/dev/loop0p1), which go with it. If what it lies on, or
    what lies on it, is attached already, that is said on standard error: neither sees what is
    written through the other.
    Exit codes: 0, 1 it cannot be attached, 2 not root, or root cannot see into the mount.
    """
    with Client(which_stack(stack)) as client:
        files = {file["name"]: file for file in client.call("ls")}
        file = client.call("file", name=name)
        path = client.root() + file["path"]
        loops = loops_over(client)
    if file["suspended"]:
        raise StackError(f"{name!r} is suspended: attaching flushes it, which waits for resume")
    nodes = {name_in_mount(each.backing_file)[-1]: _with_mounts(each.node) for each in loops}
    for line in listing.shared(name, files, nodes):
        click.echo(f"fusedm: warning: {line}", err=True)
    # From here on it is done whole: attached with its node told, or not attached.
    hold()
    device = loop.attach(path, file["log_sec"], file["ro"], partscan)
    try:
        click.echo(device.node)
    except BaseException:
        loop.detach(device)
        raise


@click.command()
@stack_option
@click.argument("name")
def detach(stack: str | None, name: str) -> None:
    """Detach every loop device over a disk, mapped device or view.

    Exit codes: 0, 1 none is attached, or one is busy (it says by whom), 2 not root.
    """
    with Client(which_stack(stack)) as client:
        file = client.call("file", name=name)
        devices = loop.attached_to([client.root() + file["path"]])
    if not devices:
        raise StackError(f"{name!r} is not attached to a loop device")
    hold()
    loop.release(devices)


@click.command("doctor")
def doctor_command() -> None:
    """Say what is missing here for FUSE, loop devices and unprivileged use, and how to fix it.

    Exit codes: 0 nothing that is needed is missing, 1 something is.
    """
    # It looks at much of the machine, and at packages.
    from fusedm.host import doctor

    findings = doctor.examine()
    for finding in findings:
        mark = "ok  " if finding.ok else ("MISS" if finding.needed else "note")
        click.echo(f"{mark} {finding.name}: {finding.text}")
        if not finding.ok and finding.fix:
            click.echo(f"       fix: {finding.fix}")
    if any(finding.needed and not finding.ok for finding in findings):
        sys.exit(EXIT_FOUND)


def _with_mounts(node: str) -> str:
    """A loop device and where it is mounted."""
    mounted = [mount.mount_point for mount in mounts_of_source(node)]
    return f"{node} (mounted at {mounted[0]})" if mounted else node


def _words(value: object) -> str:
    if value is None:
        return "no"
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)

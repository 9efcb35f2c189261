"""The command line, continued: verbs on disks, mapped devices and views of a running stack.

All of them exit with 0 done, 1 refused (and nothing changed), 2 asked for wrongly.
"""

import json
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import click

from fusedm.block.device_mapper import TargetLine
from fusedm.block.errors import StackError, UsageError
from fusedm.block.units import parse_size
from fusedm.cli.engine_options import engine_options, engine_told
from fusedm.cli.holding import telling_holders
from fusedm.control import DMSETUP, Client, MapperClient, stack_at, which_stack

stack_option = click.option(
    "--stack",
    metavar="MOUNTPOINT",
    help="Which stack; else FUSEDM_STACK, else the only one running.",
)

EXIT_CODES = "Exit codes: 0 done, 1 refused and nothing changed, 2 asked for wrongly."


def call(stack: str | None, verb: str, **args: object) -> Any:
    """Have the daemon of a stack carry out a verb.

    Raises: FusedmError.
    """
    with Client(which_stack(stack)) as client:
        return client.call(verb, **args)


def mapper(stack: str | None) -> MapperClient:
    """The device mapper of a stack; of dmsetup's it sees to nodes and the daemon's end as well."""
    mount_point = which_stack(stack)
    told = stack_at(mount_point)
    if told is None or not told.stack_file.startswith(DMSETUP):
        return MapperClient(partial(call, mount_point))
    # Few need it, and it is much.
    from fusedm.dmsetup import NodeMapper

    return NodeMapper(told.stack_file.removeprefix(DMSETUP), mount_point)


@click.group("disk", epilog=EXIT_CODES)
def disk_group() -> None:
    """Disks: stores, with or without an inline engine."""


@disk_group.command("add", epilog=EXIT_CODES)
@stack_option
@click.argument("name")
@click.option(
    "--store",
    required=True,
    help="memory:, file:PATH, volatile: before either, or nbd://HOST/EXPORT and others.",
)
@click.option("--size", help="Such as 64MiB; not needed for a file that is there.")
@click.option("--read-only", is_flag=True, help="Refuse every write.")
@engine_options
def disk_add(
    stack: str | None,
    name: str,
    store: str,
    size: str | None,
    read_only: bool,
    profile: str | None,
    keyslots: int | None,
    max_dun_bytes: int | None,
    modes: tuple[str, ...],
    program_latency_ms: int | None,
) -> None:
    """Add a disk; with --engine, or --keyslots and --mode, it has an inline engine.

    With --engine the other numbers are those of the ready-made engine, unless they are given.
    """
    # No other verb here needs to know what stores there are.
    from fusedm.stores import prefixed_store

    engine = engine_told(profile, keyslots, max_dun_bytes, modes, program_latency_ms)
    args = {
        "name": name,
        "store": prefixed_store(store, Path.cwd()),
        "size": _size("--size", size) if size is not None else None,
        "read_only": read_only,
        "engine": engine,
    }
    call(stack, "disk.add", **args)


@disk_group.command("remove", epilog=EXIT_CODES)
@stack_option
@click.argument("name")
@click.option("--force", is_flag=True, help="Also where it cannot be flushed: its server is gone.")
def disk_remove(stack: str | None, name: str, force: bool) -> None:
    """Flush a disk and remove it; the file of its store stays."""
    with telling_holders(which_stack(stack), name):
        call(stack, "disk.remove", name=name, force=force)


@disk_group.command("lose-power", epilog=EXIT_CODES)
@stack_option
@click.argument("name")
@click.option(
    "--keep", type=click.Choice(["nothing", "random", "everything"]), default="random",
    show_default=True, help="What of the unflushed writes has reached the medium.",
)  # fmt: skip
def disk_lose_power(stack: str | None, name: str, keep: str) -> None:
    """Lose what a disk with a volatile: store has not flushed, as a power cut would."""
    call(stack, "disk.losepower", name=name, keep=keep)


@disk_group.command("lose-engine", epilog=EXIT_CODES)
@stack_option
@click.argument("name")
def disk_lose_engine(stack: str | None, name: str) -> None:
    """Take the inline engine of a disk away under I/O; its software fallback goes on."""
    call(stack, "disk.loseengine", name=name)


@disk_group.command("gain-engine", epilog=EXIT_CODES)
@stack_option
@click.argument("name")
@engine_options
def disk_gain_engine(
    stack: str | None,
    name: str,
    profile: str | None,
    keyslots: int | None,
    max_dun_bytes: int | None,
    modes: tuple[str, ...],
    program_latency_ms: int | None,
) -> None:
    """Give a disk without one an inline engine under I/O."""
    engine = engine_told(profile, keyslots, max_dun_bytes, modes, program_latency_ms)
    if engine is None:
        raise UsageError("an engine needs --engine, or both --keyslots and --mode")
    call(stack, "disk.gainengine", name=name, engine=engine)


@disk_group.command("reset-engine", epilog=EXIT_CODES)
@stack_option
@click.argument("name")
def disk_reset_engine(stack: str | None, name: str) -> None:
    """Reset a disk's engine: its keyslots lose their keys, which are programmed anew.

    Bios in flight finish first, and those that come wait.
    """
    told = call(stack, "disk.resetengine", name=name)
    click.echo(f"programmed anew: {', '.join(told['reprogrammed']) or 'no key'}")
    if told["failed"]:
        click.echo(f"failed, and in no keyslot now: {', '.join(told['failed'])}")


@click.group("dm", epilog=EXIT_CODES)
def dm_group() -> None:
    """Mapped devices: tables of targets over other devices."""


def table_options(command: Any) -> Any:
    """Where a table comes from, and how it is loaded."""
    command = click.option("--read-only", is_flag=True, help="Refuse every write.")(command)
    command = click.option("--table", "table_text", help="The table; else it is read from FILE.")(
        command
    )
    return click.argument("file", required=False, metavar="[FILE|-]")(command)


@dm_group.command("add", epilog=EXIT_CODES)
@stack_option
@click.argument("name")
@table_options
@click.option("--uuid", default="", help="A name that stays, shown in sys/.")
@click.option("--no-table", is_flag=True, help="Without a table; load one later.")
def dm_add(
    stack: str | None,
    name: str,
    file: str | None,
    table_text: str | None,
    read_only: bool,
    uuid: str,
    no_table: bool,
) -> None:
    """Add a mapped device, load its table and resume it."""
    table = "" if no_table else read_table(file, table_text)
    mapper(stack).add(name, table=table, uuid=uuid, read_only=read_only)


@dm_group.command("load", epilog=EXIT_CODES)
@stack_option
@click.argument("name")
@table_options
def dm_load(
    stack: str | None, name: str, file: str | None, table_text: str | None, read_only: bool
) -> None:
    """Load a table into the inactive slot; resume makes it live."""
    mapper(stack).load(name, read_table(file, table_text), read_only)


@dm_group.command("table", epilog=EXIT_CODES)
@stack_option
@click.argument("name")
@click.option("--inactive", is_flag=True, help="The table that resume would make live.")
def dm_table(stack: str | None, name: str, inactive: bool) -> None:
    """Print the live table, or the inactive one."""
    _print_lines(mapper(stack).table(name, inactive))


@dm_group.command("status", epilog=EXIT_CODES)
@stack_option
@click.argument("name")
def dm_status(stack: str | None, name: str) -> None:
    """Print what the targets of the live table have to say."""
    _print_lines(mapper(stack).status(name))


def _print_lines(lines: Iterable[TargetLine]) -> None:
    click.echo("\n".join(map(str, lines)))


def lock_options(command: Any) -> Any:
    """What is not done before a device is suspended."""
    command = click.option("--noflush", is_flag=True, help="The same; dmsetup's word.")(command)
    return click.option("--nolockfs", is_flag=True, help="Freeze no file system.")(command)


@dm_group.command("suspend", epilog=EXIT_CODES)
@stack_option
@click.argument("name")
@lock_options
def dm_suspend(stack: str | None, name: str, nolockfs: bool, noflush: bool) -> None:
    """Freeze what is mounted on it, let no new bio in and wait for those in flight."""
    mapper(stack).suspend(name, noflush, nolockfs)


@dm_group.command("resume", epilog=EXIT_CODES)
@stack_option
@click.argument("name")
@lock_options
def dm_resume(stack: str | None, name: str, nolockfs: bool, noflush: bool) -> None:
    """Make the inactive table live, if any, let bios in, and thaw what was frozen.

    With an inactive table, a device that is not suspended is suspended for the change.
    """
    mapper(stack).resume(name, noflush, nolockfs)


@dm_group.command("message", epilog=EXIT_CODES)
@stack_option
@click.argument("name")
@click.argument("sector", type=click.IntRange(min=0))
@click.argument("words", nargs=-1, required=True)
def dm_message(stack: str | None, name: str, sector: int, words: tuple[str, ...]) -> None:
    """Give a message to the target of a sector, and print its reply if it has one.

    What a target understands is on its page: fusedm targets dust.
    """
    reply = mapper(stack).message(name, sector, list(words))
    if reply:
        click.echo(reply, nl=not reply.endswith("\n"))


@dm_group.command("rename", epilog=EXIT_CODES)
@stack_option
@click.argument("name")
@click.argument("new")
def dm_rename(stack: str | None, name: str, new: str) -> None:
    """Give a mapped device another name, also while it is open."""
    mapper(stack).rename(name, new)


@dm_group.command("wait", epilog=EXIT_CODES)
@stack_option
@click.argument("name")
@click.argument("event", type=click.IntRange(min=0), default=0)
def dm_wait(stack: str | None, name: str, event: int) -> None:
    """Wait until a device has counted another number of events than EVENT; print that number.

    Events are what targets count, a new name and the removal; dm show has their number.
    """
    click.echo(mapper(stack).wait(name, event).event_number)


@dm_group.command("remove", epilog=EXIT_CODES)
@stack_option
@click.argument("name")
def dm_remove(stack: str | None, name: str) -> None:
    """Remove a mapped device."""
    with telling_holders(which_stack(stack), name):
        mapper(stack).remove(name)


@click.group("view", epilog=EXIT_CODES)
def view_group() -> None:
    """Views: a device opened under a key."""


@view_group.command("add", epilog=EXIT_CODES)
@stack_option
@click.argument("name")
@click.option("--device", required=True, help="A disk or mapped device.")
@click.option("--key", required=True, help="The key of its data.")
@click.option("--dun-base", type=int, default=0, show_default=True, help="Of its first unit.")
@click.option("--start", default="0", show_default=True, help="In the device, such as 1MiB.")
@click.option("--size", help="Such as 64MiB; else all that follows.")
def view_add(
    stack: str | None,
    name: str,
    device: str,
    key: str,
    dun_base: int,
    start: str,
    size: str | None,
) -> None:
    """Add a view: data unit number = dun base + offset in the view / data unit size."""
    args = {"device": device, "key": key, "dun_base": dun_base, "start": _size("--start", start)}
    call(stack, "view.add", name=name, **args, size=_size("--size", size) if size else None)


def _add_common_verbs() -> None:
    """The verbs that only name a thing, alike in each group."""
    named = [
        (view_group, "view", "remove", "Remove a view; its key is evicted where no other uses it."),
        (dm_group, "dm", "clear", "Drop the inactive table."),
        (disk_group, "disk", "show", "Print all about a disk, as JSON."),
        (dm_group, "dm", "show", "Print all about a mapped device, as JSON."),
        (view_group, "view", "show", "Print all about a view, as JSON."),
    ]
    for group, noun, verb, help_text in named:
        group.add_command(named_verb(f"{noun}.{verb}", verb, help_text))
    for group, kind in ((disk_group, "disk"), (dm_group, "mapped"), (view_group, "view")):
        group.add_command(_list_verb(kind))


def named_verb(verb: str, word: str, help_text: str) -> click.Command:
    """A command that names a thing and has a verb carried out on it."""

    @click.command(word, help=help_text, epilog=EXIT_CODES)
    @stack_option
    @click.argument("name")
    def command(stack: str | None, name: str) -> None:
        with telling_holders(which_stack(stack), name):
            told = call(stack, verb, name=name)
        if word == "show":
            click.echo(json.dumps(told, indent=2))

    return command


def _list_verb(kind: str) -> click.Command:
    @click.command("list", help="List names, one a line.", epilog=EXIT_CODES)
    @stack_option
    def command(stack: str | None) -> None:
        for file in call(stack, "ls"):
            if file["kind"] == kind:
                click.echo(file["name"])

    return command


_add_common_verbs()


def read_table(file: str | None, text: str | None) -> str:
    """The table that is given, or that is in a file or on standard input.

    Raises: UsageError unless it is one of the two; StackError.
    """
    if (file is None) == (text is None):
        raise UsageError("give the table either with --table or as a FILE (- is standard input)")
    if text is not None:
        return text
    assert file is not None, "one of the two is given"
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise StackError(f"{file}: {error.strerror}", error.errno) from None
    except UnicodeDecodeError as error:
        raise StackError(f"{file}: byte {error.start} is not UTF-8") from None


def _size(option: str, word: str) -> int:
    try:
        return parse_size(word)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None

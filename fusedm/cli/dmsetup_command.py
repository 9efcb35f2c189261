"""`fusedm dmsetup`, and the shim that scripts find it by."""

import sys
from collections.abc import Sequence

import click

from fusedm.dmsetup import main_dmsetup, remove_shim, write_shim
from fusedm.host import nodes


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def dmsetup(words: Sequence[str]) -> None:
    """Do what dmsetup(8) does, with the same words, output and exit codes.

    Exit codes: 0 done, 1 anything else.
    """
    sys.exit(main_dmsetup(words))


@click.command()
@click.option("--links", is_flag=True, help="/dev/mapper/NAME are links to ../loopN.")
@click.option("--remove", is_flag=True, help="Take it away again, and /dev/mapper/control.")
@click.argument("folder", metavar="DIR")
def shim(links: bool, remove: bool, folder: str) -> None:
    """Write a `dmsetup` into DIR, for scripts: PATH=DIR:$PATH.

    As root it makes /dev/mapper/control as well, by which scripts tell whether there is device
    mapper: it stays until --remove.

    Exit codes: 0 it is there, 1 it cannot be written, or one that is not ours is in its place.
    """
    if remove:
        remove_shim(folder)
        nodes.remove_control(nodes.dev_dir())
    else:
        click.echo(write_shim(folder, links))
        nodes.make_control(nodes.dev_dir())

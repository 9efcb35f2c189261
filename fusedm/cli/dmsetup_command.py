"""`fusedm dmsetup`, and the shim that scripts find it by."""

import sys
from collections.abc import Sequence

import click

from fusedm.dmsetup import main_dmsetup, write_shim


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def dmsetup(words: Sequence[str]) -> None:
    """Do what dmsetup(8) does, with the same words, output and exit codes.

    Exit codes: 0 done, 1 anything else.
    """
    sys.exit(main_dmsetup(words))


@click.command()
@click.argument("folder", metavar="DIR")
def shim(folder: str) -> None:
    """Write a `dmsetup` into DIR, for scripts: PATH=DIR:$PATH.

    Exit codes: 0 it is there, 1 it cannot be written, or one that is not ours is in its place.
    """
    click.echo(write_shim(folder))

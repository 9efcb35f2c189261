"""A group of commands that loads each when it is called, and lists them without loading any.

A verb needs little of the whole: one that only talks to a daemon starts in a third of the time.
"""

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import click

from fusedm.host.interrupts import exit_code
from fusedm.host.undoing import notes


class Verb(NamedTuple):
    """Where a command is, as `module:name`, and the line that the list has for it."""

    place: str
    summary: str


class VerbGroup(click.Group):
    """A group whose commands are in modules that are loaded when they are needed."""

    def __init__(self, *args: Any, verbs: Mapping[str, Verb], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.verbs = verbs

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all verbs, as help lists them."""
        return sorted(self.verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a verb, None if there is no such verb."""
        if cmd_name not in self.verbs:
            return None
        command: click.Command = load(self.verbs[cmd_name].place)
        return command

    def make_context(self, *args: Any, **settings: Any) -> click.Context:
        """Read the words; nothing has been begun yet."""
        try:
            return super().make_context(*args, **settings)
        except KeyboardInterrupt as interrupt:
            sys.exit(exit_code(interrupt))

    def invoke(self, ctx: click.Context) -> Any:
        """Carry out a command; one that was interrupted says nothing, but what was not undone."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            for note in notes(interrupt):
                click.echo(f"fusedm: {note}", err=True)
            sys.exit(exit_code(interrupt))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of verbs into the help."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, self.verbs[name].summary) for name in self.list_commands(ctx)]
            )


def load(place: str) -> Any:
    """What is at a place, `module:name`."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)

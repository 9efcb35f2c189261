"""The command line, continued: verbs that look into a running stack and change nothing.

All of them exit with 0 fine, 1 found something (or refused), 2 asked for wrongly.
"""

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import click

from fusedm.block.errors import CryptoError, StackError, UsageError
from fusedm.block.units import parse_size
from fusedm.cli.devices import call, read_table, stack_option
from fusedm.cli.looking_text import explain_text, swap_text, why_text
from fusedm.inspect import FAILS, check_range, loses, parse_config

EXIT_FOUND = 1

json_option = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.command("why")
@stack_option
@json_option
@click.argument("name", metavar="DEV")
@click.argument("config", metavar="[MODE/SIZE]", default="")
@click.option(
    "--table", metavar="FILE|-", help="What this table would gain or lose if it was live."
)
def why_command(
    stack: str | None, as_json: bool, name: str, config: str, table: str | None
) -> None:
    """Say what DEV (a device or view) encrypts natively, what not, and why.

    For each extent of its table it says who honours a context: an engine, the fallback of a leaf,
    or the fallback above a target that does not pass contexts. MODE/SIZE, such as AES-256-XTS/4096
    (or AES-256-XTS/4096/8 with DUN bytes, and /hw-wrapped after either for such keys), asks about
    that alone; else a view's key is meant, or the keys of the views above a device, or what any
    disk below it can do.

    Exit codes: 0 all that was asked about is native (with --table: nothing would be lost), 1 not
    all of it is (something would be lost, or the table refused), or DEV is not there, 2 asked for
    wrongly.
    """
    if config:
        try:
            parse_config(config)
        except CryptoError as error:
            raise UsageError(str(error)) from None
    if table is None:
        told = call(stack, "why", name=name, config=config)
        _show(told, as_json, why_text)
        found = not all(one["native"] for one in told["configs"])
    else:
        if config:
            raise UsageError("give either MODE/SIZE or --table")
        told = call(stack, "why.table", name=name, table=read_table(table, None))
        _show(told, as_json, swap_text)
        found = loses(told)
    if found:
        sys.exit(EXIT_FOUND)


@click.command("explain")
@stack_option
@json_option
@click.option("--write", is_flag=True, help="A WRITE; else a READ is meant.")
@click.argument("name", metavar="VIEW")
@click.argument("offset")
@click.argument("length")
def explain_command(
    stack: str | None, as_json: bool, write: bool, name: str, offset: str, length: str
) -> None:
    """Follow a request for LENGTH bytes at OFFSET of VIEW through every layer to the media.

    VIEW may be a disk or mapped device, too. OFFSET and LENGTH are bytes, or sizes such as 4KiB and
    8s (sectors). It is planned as the data path would now, and nothing of it is carried out:
    blocks, sectors and data unit numbers at every device, who transforms what in which keyslot,
    bytes of the stores, and whether it would be answered at once or have to wait.

    Exit codes: 0 it would be done, 1 it would fail, or VIEW is not there, 2 asked for wrongly.
    """
    place = size_of("OFFSET", offset), size_of("LENGTH", length)
    try:
        check_range(*place)
    except StackError as error:
        raise UsageError(str(error)) from None
    told = call(stack, "explain", name=name, offset=place[0], length=place[1], write=write)
    _show(told, as_json, explain_text)
    if told["answered"] == FAILS:
        sys.exit(EXIT_FOUND)


def size_of(argument: str, word: str) -> int:
    """The bytes that a size word on the command line names.

    Raises: UsageError naming the argument.
    """
    try:
        return parse_size(word)
    except ValueError as error:
        raise UsageError(f"{argument}: {error}") from None


def _show(told: Any, as_json: bool, text: Callable[[Mapping[str, Any]], str]) -> None:
    click.echo(json.dumps(told, indent=2) if as_json else text(told))


looking_verbs = [why_command, explain_command]

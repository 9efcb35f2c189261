"""The command line, continued: verbs on keys of a running stack."""

import base64
import json
from pathlib import Path

import click

from fusedm.block.crypt_ctx import MAX_WRAPPED_KEY_SIZE, MODES
from fusedm.cli.devices import EXIT_CODES, call, named_verb, stack_option
from fusedm.cli.listing import columns
from fusedm.stack import KeySpec, check_source, load_bytes, load_key, prefixed_source


@click.group("key", epilog=EXIT_CODES)
def key_group() -> None:
    """Keys. Their bytes come from a source, never from the command line, and are never shown."""


@key_group.command("add", epilog=EXIT_CODES)
@stack_option
@click.argument("name")
@click.option("--source", required=True, help="file:PATH, env:NAME, fd:N, keyring:DESC or random.")
@click.option(
    "--mode", default="AES-256-XTS", show_default=True, help=f"One of {', '.join(MODES)}."
)
@click.option("--data-unit-size", type=int, default=4096, show_default=True, help="Bytes.")
@click.option("--dun-bytes", type=int, default=8, show_default=True, help="Of its numbers.")
@click.option(
    "--type", "key_type", type=click.Choice(["raw", "hw-wrapped"]), default="raw",
    show_default=True, help="What its bytes are.",
)  # fmt: skip
@click.option("--wrapped-by", default="", metavar="DEVICE", help="Whose engine is to prepare it.")
def key_add(
    stack: str | None,
    name: str,
    source: str,
    mode: str,
    data_unit_size: int,
    dun_bytes: int,
    key_type: str,
    wrapped_by: str,
) -> None:
    """Add a key; the source is read here, so env: and fd: are this command's.

    A hw-wrapped key is one that `key prepare` has made, or with --wrapped-by a long-term one.
    """
    check_source(source)
    where = prefixed_source(source, Path.cwd())
    spec = KeySpec(name, mode, data_unit_size, dun_bytes, where, key_type, wrapped_by)
    args = {
        "name": name,
        "mode": mode,
        "data_unit_size": data_unit_size,
        "dun_bytes": dun_bytes,
        "source": spec.source,
        "type": key_type,
        "wrapped_by": wrapped_by,
    }
    if source != "random":
        if spec.config.is_wrapped:
            raw = load_bytes(spec.source, MAX_WRAPPED_KEY_SIZE, Path.cwd())
        else:
            raw = load_key(spec.source, spec.config.key_size, Path.cwd())
        args["raw"] = base64.b64encode(raw).decode()
        raw[:] = bytearray(len(raw))
    call(stack, "key.add", **args)


@key_group.command("list", epilog=EXIT_CODES)
@stack_option
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def key_list(stack: str | None, as_json: bool) -> None:
    """List keys and the views that use them."""
    keys = call(stack, "key.list")
    if as_json:
        click.echo(json.dumps(keys, indent=2))
        return
    rows = [("NAME", "MODE", "DATA-UNIT", "DUN-BYTES", "VIEWS")]
    rows += [
        (key["name"], key["mode"], str(key["data_unit_size"]), str(key["dun_bytes"]),
         ",".join(key["views"]) or "-")
        for key in keys
    ]  # fmt: skip
    click.echo(columns(rows))


key_group.add_command(named_verb("key.remove", "remove", "Remove a key and overwrite its bytes."))

"""The command line, continued: NBD servers of a running stack."""

import os
from collections.abc import Sequence
from urllib.parse import quote

import click

from fusedm.block.errors import UsageError
from fusedm.cli import listing
from fusedm.cli.devices import stack_option
from fusedm.control import Client, which_stack


@click.command()
@stack_option
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--socket", metavar="PATH", help="Serve at a Unix socket of mode 0600.")
@click.option("--tcp", metavar="HOST:PORT", help="Serve by TCP; HOST is 127.0.0.1 if left out.")
@click.option("--tls-cert", metavar="FILE", help="PEM: speak TLS only, with this certificate.")
@click.option("--tls-key", metavar="FILE", help="PEM: its key.")
@click.option("--tls-ca", metavar="FILE", help="PEM: only for clients that this vouches for.")
@click.option("--read-only", is_flag=True, help="Let nobody write.")
@click.option("--list", "lists", is_flag=True, help="List the servers instead.")
@click.option("--stop", "stops", is_flag=True, help="End the server that is there instead.")
@click.option("--force", is_flag=True, help="With --stop: although clients are connected.")
def nbd(
    stack: str | None,
    names: Sequence[str],
    socket: str | None,
    tcp: str | None,
    tls_cert: str | None,
    tls_key: str | None,
    tls_ca: str | None,
    read_only: bool,
    lists: bool,
    stops: bool,
    force: bool,
) -> None:
    """Serve disks, mapped devices and views (all without NAME) by NBD.

    The daemon serves until it ends, or --stop. Prints the URI; an export is NAME, or as in the
    mount, disks/NAME. What is open there is in use as an open file is.
    Exit codes: 0, 1 it cannot be (somebody listens there, clients are connected), 2 usage.
    """
    if lists:
        _list(stack)
        return
    if bool(socket) == bool(tcp):
        raise UsageError("give either --socket PATH or --tcp HOST:PORT")
    address = os.path.realpath(socket) if socket else ""
    if stops:
        with Client(which_stack(stack)) as client:
            client.call("nbd.stop", address=address or tcp, force=force)
        return
    if bool(tls_cert) != bool(tls_key) or (tls_ca and not tls_cert):
        raise UsageError("--tls-cert and --tls-key go together, and --tls-ca with them")
    files = {"tls_cert": tls_cert, "tls_key": tls_key, "tls_ca": tls_ca}
    given = {name: os.path.abspath(path) for name, path in files.items() if path}
    with Client(which_stack(stack)) as client:
        told = client.call(
            "nbd.serve",
            names=list(names),
            socket=address,
            tcp=tcp or "",
            read_only=read_only,
            **given,
        )
    if told["warning"]:
        click.echo(f"fusedm: warning: {told['warning']}", err=True)
    click.echo(_uri(told["address"], names[0] if len(names) == 1 else "", bool(tls_cert)))


def _list(stack: str | None) -> None:
    with Client(which_stack(stack)) as client:
        servers = client.call("nbd.list")
    rows = [("ADDRESS", "EXPORTS", "RO", "TLS", "CLIENTS")]
    rows += [
        (
            one["address"],
            ",".join(one["exports"] or ["all"]),
            str(int(one["ro"])),
            str(int(one["tls"])),
            str(one["connections"]),
        )
        for one in servers
    ]
    click.echo(listing.columns(rows))


def _uri(address: str, export: str, is_secret: bool) -> str:
    """What others' clients are given."""
    scheme = "nbds" if is_secret else "nbd"
    if address.startswith("/"):
        return f"{scheme}+unix:///{quote(export)}?socket={quote(address)}"
    return f"{scheme}://{address}/{quote(export)}"

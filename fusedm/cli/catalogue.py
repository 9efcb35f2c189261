"""The command line, continued: what there is to build stacks of. Needs no stack."""

import click

from fusedm.block import KeyType
from fusedm.cli.listing import columns
from fusedm.crypto import ENGINE_PROFILES, EngineProfile, engine_profile
from fusedm.dm import target_doc, target_names
from fusedm.tables import all_grammars


@click.command()
@click.argument("name", required=False)
def targets(name: str | None) -> None:
    """List the targets of the device mapper, or print the page of one.

    Exit codes: 0, 1 there is no such target.
    """
    if name is not None:
        click.echo(target_doc(name), nl=False)
        return
    click.echo(columns([(kind, all_grammars()[kind].usage) for kind in target_names()]))


@click.command()
@click.argument("name", required=False)
def engines(name: str | None) -> None:
    """List the ready-made engines, or tell all about one.

    Exit codes: 0, 1 there is no such engine.
    """
    if name is not None:
        click.echo(columns(list(_numbers(engine_profile(name)).items())))
        return
    rows = [("NAME", "KEYSLOTS", "DUN-BYTES", "KEYS", "RESEMBLES")]
    rows += [
        (one.name, str(one.keyslots), str(one.max_dun_bytes), _key_types(one), one.resembles)
        for one in ENGINE_PROFILES.values()
    ]
    click.echo(columns(rows))


def _numbers(profile: EngineProfile) -> dict[str, str]:
    """What a profile consists of, by the names stack files have for it."""
    told = {
        "name": profile.name,
        "resembles": profile.resembles,
        "keyslots": str(profile.keyslots),
        "max_dun_bytes": str(profile.max_dun_bytes),
        "key_types": _key_types(profile),
    }
    for mode, sizes in profile.modes.items():
        told[f"modes.{mode}"] = ", ".join(map(str, sizes))
    return told


def _key_types(profile: EngineProfile) -> str:
    return ", ".join(key_type.value for key_type in KeyType if key_type in profile.key_types)

"""The command line, continued: engines, their keyslots, and keys wrapped for them."""

import click

from fusedm.block import KeyType
from fusedm.cli.devices import EXIT_CODES, call, disk_group, stack_option
from fusedm.cli.listing import columns
from fusedm.crypto import ENGINE_PROFILES, EngineProfile, engine_profile


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

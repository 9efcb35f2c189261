"""The options that describe an inline engine, and what is told of one to the daemon."""

from typing import Any

import click

from fusedm.block.errors import UsageError


def engine_options(command: Any) -> Any:
    """What an inline engine can do."""
    for option in (
        click.option(
            "--mode", "modes", multiple=True, metavar="MODE=SIZES",
            help="Such as AES-256-XTS=512,4096.",
        ),
        click.option(
            "--program-latency-ms", type=int, help="How long the engine takes to take a key."
        ),
        click.option(
            "--max-dun-bytes", type=int, help="Of the engine; 8, or the ready-made one's."
        ),
        click.option(
            "--keyslots", type=int, help="Of an inline engine; 0: it takes keys with requests."
        ),
        click.option(
            "--engine", "profile", metavar="NAME", help="A ready-made one: see fusedm engines."
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def engine_told(
    profile: str | None,
    keyslots: int | None,
    max_dun_bytes: int | None,
    modes: tuple[str, ...],
    program_latency_ms: int | None,
) -> dict[str, object] | None:
    """What is told of an engine; None if nothing is."""
    given: dict[str, object | None] = {
        "profile": profile,
        "keyslots": keyslots,
        "max_dun_bytes": max_dun_bytes,
        "modes": dict(_mode(word) for word in modes) or None,
        "program_latency_ms": program_latency_ms,
    }
    engine = {key: value for key, value in given.items() if value is not None}
    if engine and profile is None:
        if keyslots is None or not modes:
            raise UsageError("an engine needs --engine, or both --keyslots and --mode")
        engine.setdefault("max_dun_bytes", 8)
    return engine or None


def _mode(word: str) -> tuple[str, list[int]]:
    mode, equals, sizes = word.partition("=")
    numbers = sizes.split(",")
    if not equals or not all(number.isascii() and number.isdigit() for number in numbers):
        raise UsageError(f"--mode: {word!r} is not MODE=SIZE,SIZE such as AES-256-XTS=512,4096")
    return mode, [int(number) for number in numbers]

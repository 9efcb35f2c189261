"""`fusedm bench`: options, and where the result goes."""

import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from fusedm.bench import (
    DEFAULT_FOLDER,
    MIN_ROUNDS,
    NO_RESULT,
    Options,
    Record,
    check_plot,
    draw,
    fallen,
    from_json,
    rows,
    run_layers,
    run_memory,
    run_pairs,
    to_json,
    uncompared,
)
from fusedm.block.errors import StackError, UsageError
from fusedm.cli.listing import columns
from fusedm.cli.progress import Progress


class Number(click.ParamType[float]):
    """A finite number that is at least or more than a least one; an error is one line."""

    name = "number"

    def __init__(self, least: float, whole: bool = False, more: bool = False) -> None:
        self._least = least
        self._whole = whole
        self._more = more

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number. Raises: UsageError naming the option and the least."""
        try:
            number = int(str(value)) if self._whole else float(str(value))
        except ValueError:
            number = math.nan
        fits = number > self._least if self._more else number >= self._least
        if not (fits and math.isfinite(number)):
            kind = "a whole number" if self._whole else "a number"
            bound = "more than" if self._more else "at least"
            option = param.opts[0] if param is not None else "number"
            raise UsageError(f"{option} {value}: must be {kind}, {bound} {self._least:g}")
        return number


@click.command()
@click.option(
    "--rounds",
    type=Number(1, whole=True),
    default=MIN_ROUNDS,
    metavar="N",
    help=f"How often everything is measured; at least {MIN_ROUNDS} for a result.",
)
@click.option(
    "--seconds", type=Number(0, more=True), default=2, metavar="S", help="How long each job takes."
)
@click.option(
    "--only",
    multiple=True,
    metavar="PATTERN",
    help="Only the jobs or devices of this name, or JOB:DEVICE; * and ? as in a shell.",
)
@click.option("--quick", is_flag=True, help="Small stores and any number of rounds; no result.")
@click.option(
    "--folder",
    default=DEFAULT_FOLDER,
    metavar="DIR",
    show_default=True,
    help="Where the work folder is made, on a tmpfs.",
)
@click.option(
    "--disk-folder",
    metavar="DIR",
    help="Where a second one is made, on a disk; one is looked for if this is not given.",
)
@click.option("--any-medium", is_flag=True, help="Let either be on anything.")
@click.option("--require-peers", is_flag=True, help="Do nothing at all if a peer is missing.")
@click.option("--layers", is_flag=True, help="Instead: where the time of a 4 KiB request goes.")
@click.option("--memory", is_flag=True, help="Instead: memory, start, and many devices.")
@click.option(
    "--minutes",
    type=Number(0, more=True),
    default=1,
    metavar="M",
    help="How long --memory keeps the stack busy; 60 for the full check.",
)
@click.option("--json", "json_file", metavar="FILE", help="Write every figure there.")
@click.option("--plot", "plot_file", metavar="FILE", help="Draw the ratios: .png or .svg.")
@click.option("--compare", "old_file", metavar="OLD.json", help="Compare the ratios with these.")
@click.option("--factor", type=Number(1), default=1.2, metavar="F", show_default=True,
              help="By how much a ratio may have fallen.")  # fmt: skip
def bench(
    rounds: int, seconds: float, only: Sequence[str], quick: bool, folder: str,
    disk_folder: str | None, any_medium: bool, require_peers: bool, layers: bool, memory: bool,
    minutes: float, json_file: str | None, plot_file: str | None, old_file: str | None,
    factor: float,
) -> None:  # fmt: skip
    """Measure this stack and its peers in turns, in one run, and print the ratios.

    The peers are QEMU's storage daemon, and nbdkit with nbdfuse. A ratio above 1 says that ours is
    faster; it is taken within each round. --compare looks at ratios only: the figures of another
    machine mean nothing here.

    Exit codes: 0, 1 it failed, was interrupted, or a ratio fell; 2 asked for wrongly, or something
    is missing on this machine.
    """
    options = Options(
        rounds, seconds, quick, tuple(only), folder, any_medium, require_peers, minutes, disk_folder
    )
    _check(options, layers, memory, plot_file, old_file)
    for name, file in (("--json", json_file), ("--plot", plot_file)):
        _check_target(name, file)
    old = _read_old(old_file)
    if plot_file is not None:
        check_plot(plot_file)
    run = run_layers if layers else run_memory if memory else run_pairs
    record = run(options, Progress(sys.stderr))
    _report(record, json_file, plot_file)
    if old is not None:
        _compare(old, record, factor)


def _check(
    options: Options, layers: bool, memory: bool, plot_file: str | None, old_file: str | None
) -> None:
    if layers and memory:
        raise UsageError("give either --layers or --memory")
    for_ratios = (options.only, options.disk_folder, plot_file, old_file, options.require_peers)
    if (layers or memory) and any(for_ratios):
        raise UsageError(
            "--only, --disk-folder, --plot, --compare and --require-peers are for ratios: not with "
            + ("--layers" if layers else "--memory")
        )
    if options.rounds < MIN_ROUNDS and not options.quick and not memory:
        raise UsageError(
            f"--rounds {options.rounds}: a result needs at least {MIN_ROUNDS}; "
            "with --quick fewer will do, for no result"
        )


def _check_target(option: str, file: str | None) -> None:
    """Refuse a file that could not be written after the run."""
    if file is None:
        return
    folder = os.path.dirname(os.path.abspath(file))
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK) or os.path.isdir(file):
        raise StackError(f"{option} {file}: cannot be written")


def _read_old(file: str | None) -> Record | None:
    if file is None:
        return None
    try:
        text = Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise StackError(f"--compare {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise StackError(f"--compare {file}: is not JSON: it is no text") from None
    return from_json(text, f"--compare {file}")


def _report(record: Record, json_file: str | None, plot_file: str | None) -> None:
    if record.quick:
        click.echo(NO_RESULT)
    click.echo(columns(rows(record)))
    if record.quick:
        click.echo(NO_RESULT)
    if json_file is not None:
        try:
            Path(json_file).write_text(to_json(record), encoding="utf-8")
        except OSError as error:
            raise StackError(f"--json {json_file}: {error.strerror}", error.errno) from None
    if plot_file is not None:
        draw(record, plot_file)


def _compare(old: Record, new: Record, factor: float) -> None:
    lines = fallen(old, new, factor)
    click.echo("compared: ratios only, as figures of another machine or day mean nothing here")
    for line in (*uncompared(old, new), *lines):
        click.echo(line)
    if lines:
        raise StackError(f"{len(lines)} ratios fell by more than a factor of {factor:g}")

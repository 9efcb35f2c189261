"""The ratios of a run as a picture: grouped bars, their spread, and the goals."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fusedm.bench.figures import spread
from fusedm.bench.record import Ratio, Record
from fusedm.bench.report import NO_RESULT
from fusedm.block.errors import StackError, UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ENDINGS = (".png", ".svg")

#: Okabe and Ito's colours, told apart by those who do not see red or green as well; each with a
#: hatch of its own, for a print without colours.
_STYLES = {
    "disk": ("#56B4E9", ""),
    "linear": ("#0072B2", ""),
    "view4096": ("#E69F00", "//"),
    "view512": ("#009E73", "\\\\"),
    "ext4": ("#CC79A7", ".."),
    "view-fallback": ("#E69F00", "//"),
    "crypt": ("#009E73", "\\\\"),
    "flakey": ("#56B4E9", ""),
    "dust": ("#0072B2", "++"),
    "striped": ("#F0E442", "||"),
    "ext4-linear": ("#0072B2", ".."),
    "linear-busy": ("#0072B2", "--"),
    "linear-blocked": ("#0072B2", "oo"),
    "ext4-fallback": ("#E69F00", ".."),
    "ext4-crypt": ("#009E73", ".."),
    "disk-linear": ("#0072B2", ""),
    "disk-view": ("#E69F00", "//"),
    "disk-ext4": ("#CC79A7", ".."),
}
_OTHER = ("#D55E00", "--")
#: Of a device that is in a panel a second time.
_SECOND_HATCH = "xx"
_PANELS = (
    "against QEMU's storage daemon",
    "targets and the fallback, against QEMU's storage daemon",
    "on a disk, against QEMU's storage daemon on it",
    "against nbdkit with nbdfuse",
    "beside a slow neighbour",
    "exports, against nbdkit's over NBD",
    "against what is the limit",
)
_SECOND_PANEL = {
    "view-fallback", "crypt", "flakey", "dust", "striped", "ext4-fallback", "ext4-crypt",
}  # fmt: skip
#: Of a group of bars, how much of the room it takes.
_GROUP_WIDTH = 0.84
_MAX_BAR_WIDTH = 0.22
#: A panel has room for so many jobs at least, so that one bar is not as wide as the picture.
_LEAST_JOBS = 6


def check_plot(path: str) -> None:
    """Refuse what could not be drawn after the run.

    matplotlib is only looked for: it would start threads, and a run begins with a fork.
    Raises: UsageError if the name has no ending that is known, or matplotlib is not installed.
    """
    if Path(path).suffix not in ENDINGS:
        raise UsageError(f"--plot {path}: must end in {' or '.join(ENDINGS)}")
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError("--plot: matplotlib is not installed (pip install 'fusedm[bench]')")


def panels(ratios: Sequence[Ratio]) -> list[tuple[str, list[Ratio]]]:
    """The pictures of a plot, each with a title and its ratios; those without a goal come last."""
    found = [(title, [ratio for ratio in ratios if _panel_of(ratio) == title]) for title in _PANELS]
    return [(title, members) for title, members in found if members]


def _panel_of(ratio: Ratio) -> str:
    if ratio.goal is None:
        return _PANELS[-1]
    if ratio.device == "nbd-export":
        return _PANELS[5]
    if ratio.against.endswith("-disk"):
        return _PANELS[2]
    if ratio.against.startswith("qemu"):
        return _PANELS[1 if ratio.device in _SECOND_PANEL else 0]
    return _PANELS[3] if ratio.against.startswith("nbd") else _PANELS[4]


def draw(record: Record, path: str) -> None:
    """Write the picture of a record.

    Raises: StackError if there is nothing to draw or it cannot be written.
    """
    from matplotlib.figure import Figure

    groups = panels(record.ratios)
    if not groups:
        raise StackError(f"--plot {path}: there is no ratio to draw")
    heights = [1.6 if len(members) == 1 else 3.0 for _, members in groups]
    figure = Figure(figsize=(11, sum(heights) + 1.4 * len(groups)), layout="constrained")
    axes = figure.subplots(len(groups), 1, squeeze=False, height_ratios=heights)
    for (title, members), axis in zip(groups, axes[:, 0], strict=True):
        _draw_panel(axis, title, members)
    heading = "fusedm bench: how many times as fast (median, least and most of the rounds)"
    figure.suptitle(f"{NO_RESULT}\n{heading}" if record.quick else heading)
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise StackError(f"--plot {path}: {error.strerror}", error.errno) from None


def _draw_panel(axis: "Axes", title: str, members: Sequence[Ratio]) -> None:
    jobs = list(dict.fromkeys(ratio.job for ratio in members))
    sides = list(dict.fromkeys(_side(ratio) for ratio in members))
    most = max(sum(ratio.job == job for ratio in members) for job in jobs)
    width = min(_GROUP_WIDTH / most, _MAX_BAR_WIDTH)
    for side in sides:
        colour, hatch = _STYLES.get(side[0], _OTHER)
        if side != next(other for other in sides if other[0] == side[0]):
            hatch = _SECOND_HATCH
        own = [ratio for ratio in members if _side(ratio) == side]
        told = [spread(ratio.rounds) for ratio in own]
        at = [_position(ratio, members, jobs, width) for ratio in own]
        medians = [one.median for one in told]
        errors = [[o.median - o.low for o in told], [o.high - o.median for o in told]]
        axis.bar(
            at, medians, width * 0.9, yerr=errors, label=" / ".join(side), color=colour,
            hatch=hatch, edgecolor="black", linewidth=0.6, error_kw={"capsize": 3, "lw": 1.2},
        )  # fmt: skip
    goals = [(_position(ratio, members, jobs, width), ratio.goal) for ratio in members]
    label = "goal"
    for x, goal in goals:
        if goal is not None:
            ends = [x - width * 0.45, x + width * 0.45]
            axis.plot(ends, [goal, goal], color="black", lw=2.6, label=label)
            label = ""
    axis.set_title(title, loc="left", fontweight="bold")
    axis.axhline(1, color="black", lw=0.8, ls=":")
    axis.set_xticks(range(len(jobs)), [job.replace("-", "\n", 1) for job in jobs])
    axis.set_xlim(-0.5, max(len(jobs), _LEAST_JOBS) - 0.5)
    axis.set_ylabel("ratio")
    axis.set_ylim(bottom=0)
    axis.grid(axis="y", alpha=0.3)
    axis.set_axisbelow(True)
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def _side(ratio: Ratio) -> tuple[str, str]:
    return ratio.device, ratio.against


def _position(ratio: Ratio, members: Sequence[Ratio], jobs: Sequence[str], width: float) -> float:
    """Where a bar stands: those of one job side by side around its number."""
    group = [_side(member) for member in members if member.job == ratio.job]
    return jobs.index(ratio.job) + (group.index(_side(ratio)) - (len(group) - 1) / 2) * width

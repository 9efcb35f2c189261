"""Which tiers of tests can run on this machine, and what a run must not leave behind."""

import os
from collections.abc import Iterable
from pathlib import Path

from fusedm.host import doctor
from fusedm.host.loop import attached
from fusedm.host.mounts import holders_of, lies_under, read_mounts
from tests.helpers.ceph import cluster
from tests.helpers.uml import machine

#: What users need too, which the doctor looks at, and what only tests need.
TIERS = (*doctor.TIERS, "kernel", "ceph")


def required_tiers(words: str) -> set[str]:
    """The tiers of FUSEDM_REQUIRE that must not be skipped; ValueError for one that is none."""
    tiers = {word.strip() for word in words.split(",") if word.strip()}
    unknown = tiers - set(TIERS)
    if unknown:
        raise ValueError(f"FUSEDM_REQUIRE: {', '.join(sorted(unknown))}: not in {', '.join(TIERS)}")
    return tiers


def problems() -> dict[str, str]:
    """The tiers that cannot run here, and why."""
    why = {tier: doctor.tier_problem(tier) for tier in doctor.TIERS}
    why["kernel"] = machine.problem()
    why["ceph"] = cluster.problem()
    return {tier: text for tier, text in why.items() if text is not None}


def header_lines(why: dict[str, str]) -> list[str]:
    """One line for each tier: whether its tests run."""
    return [
        f"{tier.upper()} TESTS: " + (f"SKIPPED - {why[tier]}" if tier in why else "run")
        for tier in TIERS
    ]


def left_behind(base: str) -> list[str]:
    """Mounts, loop devices and processes of others that use a directory."""
    mounts = [f"mount {m.mount_point}" for m in read_mounts() if lies_under(m.mount_point, base)]
    loops = [f"loop device {d.node} over {d.backing_file}" for d in attached(base)]
    processes = {h.pid: f"process {h.pid} {h.command}, {h.what}" for h in holders_of(base)}
    processes |= {pid: f"process {pid}: {line}" for pid, line in _speaking_of(base)}
    return mounts + loops + list(processes.values())


def _speaking_of(base: str) -> Iterable[tuple[int, str]]:
    # A daemon over memory stores holds no file, but its mount point is on its command line.
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = os.fsdecode((entry / "cmdline").read_bytes()).split("\0")
            except OSError:
                continue
            if any(word.startswith(base + "/") for word in words):
                yield int(entry.name), " ".join(words).strip()

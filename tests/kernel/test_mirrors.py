"""Mirrors: tables, status, what lies on legs and log, and what failures do."""

import base64
import struct
from collections.abc import Mapping

import pytest

from tests.helpers.uml.compare import compare
from tests.helpers.uml.experiment import DiskSpec, Experiment, Outcome, Step, started, step
from tests.helpers.uml.lives import compare_refusal, on_fresh
from tests.helpers.uml.tables import Bad, departing, unknown
from tests.helpers.uml.traffic import reads, traffic

pytestmark = pytest.mark.kernel

SECTORS = 512
LEGS = {f"d{index}": DiskSpec(seed=index) for index in range(3)}
DISKS = {**LEGS, "lg": DiskSpec(64)}
LOOK = tuple(step(verb, "x") for verb in ("table", "status", "info", "deps"))
#: Long enough to copy all there is.
COPIED = (step("sleep", 1.0), step("status", "x"))


def mirror(log: str, legs: str = "2 d0 0 d1 0", features: str = "") -> str:
    words = len(log.split()) - 1
    kind, _, rest = log.partition(" ")
    return f"0 {SECTORS} mirror {kind} {words} {rest} {legs} {features}".rstrip()


LINES = (
    mirror("core 64 nosync"),
    mirror("core 64 nosync", "2 d0 8 d1 1024", "1 handle_errors"),
    mirror("core 512 nosync", "3 d0 0 d1 0 d2 0", "2 handle_errors keep_log"),
    mirror("core 2 nosync", features="2 keep_log handle_errors"),
    mirror("core 64 nosync", features="0"),
    mirror("core 64 nosync", features="2 handle_errors handle_errors"),
    mirror("disk lg 64 nosync"),
    mirror("disk lg 64 nosync", "2 d0 8 d1 0", "1 handle_errors"),
    mirror("disk lg 2 nosync", "3 d0 0 d1 0 d2 0"),
    "0 64 zero\n64 100 mirror disk 3 lg 8 nosync 2 d0 0 d1 0",
)
LIVES = {
    line: Experiment(
        (
            *started("x", line),
            *COPIED,
            *LOOK,
            *traffic(
                seed, "x", 164 if "zero" in line else SECTORS, verbs=("write", "read", "flush")
            ),
            step("suspend", "x"),
            *LOOK,
            step("resume", "x"),
            *traffic(
                seed, "x", 164 if "zero" in line else SECTORS, count=4, verbs=("write", "read")
            ),
            step("remove", "x"),
        ),
        DISKS,
        images=True,
    )
    for seed, line in enumerate(LINES)
}

SYNCS = {
    line: Experiment(
        (
            *started("x", line),
            *COPIED,
            *LOOK,
            *traffic(seed, "x", 500, count=8, verbs=("write", "read")),
            step("remove", "x"),
        ),
        DISKS,
        images=True,
    )
    for seed, line in enumerate(
        (
            mirror("core 64"),
            mirror("core 64 sync", "3 d0 8 d1 0 d2 16"),
            mirror("core 256", "2 d1 0 d0 0"),
            mirror("disk lg 64"),
            mirror("disk lg 16 sync", "2 d0 0 d1 8", "1 handle_errors"),
            "0 500 mirror disk 2 lg 64 2 d0 0 d1 0",
        )
    )
}


def log(clean: int, count: int = 8, magic: int = 0x4D695272, version: int = 2) -> str:
    """A log of so many regions, of which some are clean."""
    header = struct.pack("<IIQ", magic, version, count)
    return base64.b64encode(header.ljust(1024, b"\0") + clean.to_bytes(8, "little")).decode()


LOGS = {
    "half in sync": (log(0b01100101), ""),
    "all in sync": (log(0xFF), ""),
    "of the first version": (log(0b00001111, version=1), ""),
    "of something else": (log(0xFF, magic=0x12345678), ""),
    "of a smaller mirror": (log(0xFF, count=5), ""),
    "of a larger mirror": (log(0xFFFFFFFFFFFFFF5F, count=60), ""),
    "of which nothing is to be known": (log(0b01100101), " sync"),
    "of which all is to be in sync": (log(0b01100101), " nosync"),
    "of a smaller mirror, the rest in sync": (log(0b00101, count=5), " nosync"),
}
FOUND = {
    f"a log {name}": Experiment(
        (
            *started("x", mirror(f"disk lg 64{word}")),
            *COPIED,
            *reads("x", SECTORS),
            step("remove", "x"),
        ),
        {**LEGS, "lg": DiskSpec(64, begins=begins)},
        images=True,
    )
    for name, (begins, word) in LOGS.items()
}

#: A leg of which regions 2 and 3 of 8 cannot be used.
BAD_LEG = started("bad", "0 128 linear d1 0\n128 128 error\n256 256 linear d1 256")


def region(number: int, verb: str, seed: int = 1) -> Step:
    rest = (seed,) if verb == "write" else ()
    return step(verb, "x", number * 64 * 512 + 4096, 4096, *rest)


def failing(legs: str, features: str, *verbs: tuple[int, str]) -> Experiment:
    """I/O on regions, and the status after each."""
    done = [one for number, verb in verbs for one in (region(number, verb), step("status", "x"))]
    steps = (*BAD_LEG, *started("x", mirror("core 64 nosync", legs, features)), *COPIED, *done)
    return Experiment((*steps, step("table", "x"), step("remove", "x")), LEGS, images=True)


KEEP = "2 handle_errors keep_log"
FIRST, SECOND, THREE = "2 bad 0 d0 0", "2 d0 0 bad 0", "3 d0 0 bad 0 d2 0"
READS = ((2, "read"), (1, "read"), (3, "read"))
WRITES = ((1, "write"), (2, "write"), (2, "read"), (3, "write"), (4, "read"), (0, "write"))
FAILURES = {
    f"{verb} {legs} {features}".strip(): failing(legs, features, *verbs)
    for legs in (FIRST, SECOND, THREE)
    for verb, features, verbs in (
        ("reads", "", READS),
        ("reads", "1 handle_errors", READS),
        ("reads", KEEP, READS),
        ("writes", "", WRITES),
        ("writes", KEEP, WRITES),
        ("both", KEEP, (*READS, *WRITES)),
    )
}
FAILURES["a copy to a leg that fails"] = Experiment(
    (
        *BAD_LEG,
        *started("x", mirror("core 64", SECOND, "1 handle_errors")),
        *COPIED,
        *reads("x", SECTORS),
        step("remove", "x"),
    ),
    LEGS,
)
FAILURES["a copy from a leg that fails"] = Experiment(
    (
        *BAD_LEG,
        *started("x", mirror("core 64", FIRST, "1 handle_errors")),
        *COPIED,
        region(0, "read"),
        region(2, "read"),
        step("status", "x"),
        step("remove", "x"),
    ),
    LEGS,
)
BAD_LOG = started("bad", "0 2 linear lg 0\n2 62 error")
for features in ("", KEEP):
    FAILURES[f"a log that fails {features}".strip()] = Experiment(
        (
            *BAD_LOG,
            *started("x", mirror("disk bad 64 nosync", features=features)),
            *COPIED,
            region(1, "write"),
            step("status", "x"),
            region(1, "read"),
            step("remove", "x"),
        ),
        DISKS,
    )

BAD = (
    Bad("0 512 mirror"),
    Bad("0 512 mirror core"),
    Bad("0 512 mirror core 1"),
    Bad("0 512 mirror core 0 2 d0 0 d1 0"),
    Bad("0 512 mirror core 1 64"),
    Bad("0 512 mirror core 3 64 nosync block_on_error 2 d0 0 d1 0"),
    Bad("0 512 mirror core 2 64 maybe 2 d0 0 d1 0"),
    Bad("0 512 mirror core 1 1 2 d0 0 d1 0"),
    Bad("0 512 mirror core 1 63 2 d0 0 d1 0"),
    Bad("0 512 mirror core 1 1024 2 d0 0 d1 0"),
    Bad("0 512 mirror core 1 x 2 d0 0 d1 0"),
    Bad("0 512 mirror nosuch 1 64 2 d0 0 d1 0"),
    Bad("0 512 mirror disk 1 64 2 d0 0 d1 0"),
    departing(
        "0 512 mirror disk 2 nosuch 64 2 d0 0 d1 0",
        "load: EINVAL",
        "load: ENXIO",
        "the kernel says of a log only that it is wrong",
    ),
    Bad("0 512 mirror core 1 64 1 d0 0"),
    Bad("0 512 mirror core 1 64 10 d0 0 d1 0"),
    Bad("0 512 mirror core 1 64 2 d0 0 d1"),
    Bad("0 512 mirror core 1 64 2 d0 0 d1 x"),
    Bad("0 512 mirror core 1 64 2 d0 0 d1 0 1"),
    Bad("0 512 mirror core 1 64 2 d0 0 d1 0 1 nosuch"),
    Bad("0 512 mirror core 1 64 2 d0 0 d1 0 1 keep_log"),
    Bad("0 512 mirror core 1 64 2 d0 0 d1 0 1 handle_errors keep_log"),
    Bad("0 512 mirror core 1 64 2 d0 0 d1 0 x"),
    Bad("0 512 mirror core 1 64 2 d0 0 d1 2000"),
    unknown("0 512 mirror core 1 64 2 d0 0 nosuch 0"),
)
REFUSALS = {line.table: line for line in BAD}
GOOD = {**LIVES, **SYNCS, **FOUND, **FAILURES}
EXPERIMENTS = {**GOOD, **{table: on_fresh(line) for table, line in REFUSALS.items()}}


@pytest.mark.parametrize("name", GOOD)
def test_mirrors_hold_what_the_kernels_hold(kernel: Mapping[str, Outcome], name: str) -> None:
    compare(EXPERIMENTS[name], kernel[name])


@pytest.mark.parametrize("table", REFUSALS)
def test_mirrors_are_refused_as_in_the_kernel(kernel: Mapping[str, Outcome], table: str) -> None:
    compare_refusal(EXPERIMENTS[table], kernel[table], REFUSALS[table].fresh)

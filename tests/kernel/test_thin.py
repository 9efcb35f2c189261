"""Thin pools: what pools and thin devices show and say, beside the kernel's."""

from collections.abc import Mapping

import pytest

from tests.helpers.uml.compare import compare
from tests.helpers.uml.experiment import DiskSpec, Experiment, Outcome, Step, started, step
from tests.helpers.uml.lives import compare_refusal, on_fresh
from tests.helpers.uml.tables import Bad, unknown
from tests.helpers.uml.traffic import reads, traffic

pytestmark = pytest.mark.kernel

#: Metadata of 1 MiB, and 16 blocks of 64 KiB full of noise, of which nothing may be seen.
DISKS = {"d0": DiskSpec(2048), "d1": DiskSpec(2048, seed=3), "d2": DiskSpec(448, seed=4)}
POOL = "0 2048 thin-pool d0 d1 128 0"
THIN = 1024


def pool(features: str = "", sectors: int = 2048, low_water: int = 0) -> tuple[Step, ...]:
    """A live pool."""
    words = f" {len(features.split())} {features}" if features else ""
    return started("pool", f"0 {sectors} thin-pool d0 d1 128 {low_water}{words}")


def say(message: str) -> Step:
    """A message to the pool."""
    return step("message", "pool", 0, message)


def thin(number: int, sectors: int = THIN, more: str = "") -> tuple[Step, ...]:
    """A live thin device that is there in the pool."""
    return started(f"t{number}", f"0 {sectors} thin pool {number}{more}")


def snapshot(number: int, origin: int) -> tuple[Step, ...]:
    """A snapshot of a live thin device, made as it has to be."""
    name = f"t{origin}"
    return (step("suspend", name), say(f"create_snap {number} {origin}"), step("resume", name))


def look(*names: str, settled: bool = True) -> tuple[Step, ...]:
    """All that is to be seen of some devices; a flush first has no change uncommitted."""
    flushes = [step("flush", name) for name in names if name != "pool" and settled]
    verbs = ("status", "table", "info", "deps")
    return (*flushes, *(step(verb, name) for name in names for verb in verbs))


def busy(seed: int, features: str) -> Experiment:
    """Traffic on a device and on its snapshots, and on theirs."""
    # 40 blocks: the snapshots never fill it.
    steps = [*pool(features, 5120), say("create_thin 0"), *thin(0), *look("pool", "t0")]
    names = ["t0"]
    for number in range(1, 4):
        for name in names:
            steps += [*traffic(seed + number, name, THIN, count=5), *look("pool", name)]
        steps += [*snapshot(number, number - 1), *thin(number), *look("pool", f"t{number}")]
        names.append(f"t{number}")
    for name in names:
        steps += [*traffic(seed + 7, name, THIN, count=6), *look("pool", name)]
    steps += [step("remove", "t1"), say("delete 1"), *look("pool"), *reads("t2", THIN)]
    steps += [step("remove", each) for each in ("t3", "t2", "t0", "pool")]
    steps += [*pool(features, 5120), *thin(2), *look("pool", "t2"), *reads("t2", THIN)]
    return Experiment(tuple(steps), {**DISKS, "d1": DiskSpec(5120, seed=3)})


BUSY = {
    features or "none": busy(seed, features)
    for seed, features in enumerate(
        ("", "skip_block_zeroing", "no_discard_passdown", "ignore_discard", "error_if_no_space")
    )
}

MESSAGES = Experiment(
    (
        *pool(),
        *look("pool"),
        *map(
            say,
            (
                "create_thin 0",
                "create_thin 0",
                "CREATE_THIN 16777215",
                "create_thin 16777216",
                "create_thin x",
                "create_thin",
                "create_thin 1 2",
                "create_snap 1 0",
                "create_snap 1 0",
                "create_snap 2 9",
                "create_snap 2",
                "set_transaction_id 0 7",
                "set_transaction_id 0 8",
                "set_transaction_id 7 x",
                "set_transaction_id 7",
                "delete 9",
                "delete 1",
                "delete 1",
                "delete x",
                "reserve_metadata_snap",
                "reserve_metadata_snap",
                "reserve_metadata_snap 1",
                "release_metadata_snap",
                "release_metadata_snap",
                "nosuch",
            ),
        ),
        *look("pool"),
        *thin(0),
        say("delete 0"),
        say("reserve_metadata_snap"),
        step("write", "t0", 0, 65536, 1),
        step("flush", "t0"),
        step("status", "pool", departs="metadata blocks are taken in another order"),
        *look("t0"),
        say("release_metadata_snap"),
        *look("pool"),
        step("remove", "t0"),
        say("delete 0"),
        *look("pool"),
    ),
    DISKS,
)

LIVES = {
    "a pool that is suspended": (
        *pool(),
        say("create_thin 0"),
        step("suspend", "pool"),
        say("create_thin 1"),
        step("create", "t0"),
        step("load", "t0", "0 512 thin pool 0"),
        step("resume", "pool"),
        step("load", "t0", "0 512 thin pool 0"),
        step("resume", "t0"),
        *look("pool", "t0"),
    ),
    "another table": (
        *pool(),
        say("create_thin 0"),
        *thin(0),
        step("write", "t0", 0, 65536, 1),
        step("load", "pool", "0 2048 thin-pool d0 d1 128 4 1 error_if_no_space"),
        *look("pool"),
        step("resume", "pool"),
        *look("pool", "t0"),
        step("load", "pool", "0 2048 thin-pool d0 d2 128 4"),
        step("load", "pool", "0 2048 thin-pool d2 d1 128 4"),
        step("load", "pool", "0 2048 thin-pool d0 d1 128 4 1 ignore_discard"),
        step("load", "pool", "0 2048 thin-pool d0 d1 256 4"),
        step("resume", "pool"),
        *look("pool", "t0"),
        step("load", "t0", "0 2048 thin pool 0"),
        step("resume", "t0"),
        *look("t0"),
        *reads("t0", 2048),
        step("load", "t0", "0 2048 thin pool 1"),
    ),
    "a pool in the place of another": (
        *pool(),
        *started("other", "0 64 linear d2 0"),
        step("load", "other", POOL),
        *look("other"),
    ),
    "another target in the place of a pool": (
        *pool(),
        step("load", "pool", "0 64 linear d2 0"),
        step("load", "pool", "0 64 error\n64 64 linear d2 0"),
        step("clear", "pool"),
        step("load", "pool", POOL, True),
        step("info", "pool"),
        step("resume", "pool"),
        *look("pool"),
    ),
    "a smaller pool": (
        *pool(),
        step("load", "pool", "0 1024 thin-pool d0 d1 128 0"),
        step("resume", "pool"),
        *look("pool"),
    ),
    "a larger pool": (
        *pool(sectors=1024),
        say("create_thin 0"),
        *thin(0),
        step("write", "t0", 0, 65536, 1),
        step("suspend", "pool"),
        step("load", "pool", "0 2000 thin-pool d0 d1 128 0"),
        step("resume", "pool"),
        *look("pool", "t0"),
        *reads("t0", THIN),
    ),
    "a pool without room that fails at once": (
        *pool("error_if_no_space", sectors=512, low_water=2),
        say("create_thin 0"),
        *thin(0),
        *(step("write", "t0", number * 65536, 65536, number) for number in range(6)),
        step("write", "t0", 0, 4096, 9),
        *look("pool", "t0"),
        *reads("t0", THIN),
        step("discard", "t0", 65536, 65536),
        step("flush", "t0"),
        step("sleep", 2),
        *look("pool", "t0"),
        step("write", "t0", 5 * 65536, 4096, 9),
        *look("pool", "t0"),
        step("load", "pool", "0 1024 thin-pool d0 d1 128 0 1 error_if_no_space"),
        step("resume", "pool"),
        step("write", "t0", 4 * 65536, 65536, 4),
        *look("pool", "t0"),
        *reads("t0", THIN),
    ),
    "an external origin": (
        *pool(),
        say("create_thin 0"),
        *thin(0, more=" d2"),
        *look("pool", "t0"),
        *reads("t0", THIN),
        step("write", "t0", 1024, 4096, 1),
        step("write", "t0", 3 * 65536 + 16384, 4096, 2),
        step("write", "t0", 6 * 65536, 4096, 2),
        *look("pool", "t0"),
        *reads("t0", THIN),
        step("discard", "t0", 0, 65536),
        *reads("t0", THIN),
        *look("pool", "t0"),
    ),
    "discards of parts": (
        *pool(),
        say("create_thin 0"),
        *thin(0),
        *(step("write", "t0", number * 65536, 65536, number) for number in range(8)),
        step("discard", "t0", 4096, 8192),
        step("discard", "t0", 65536 + 4096, 3 * 65536),
        *reads("t0", THIN),
        *look("pool", "t0"),
    ),
    "a read-only pool": (
        *pool(),
        say("create_thin 0"),
        *thin(0),
        step("write", "t0", 0, 65536, 1),
        step("flush", "t0"),
        step("load", "pool", f"{POOL} 1 read_only"),
        step("resume", "pool"),
        *look("pool", "t0"),
        say("create_thin 1"),
        step("write", "t0", 0, 4096, 2),
        step("write", "t0", 65536, 4096, 2),
        step("read", "t0", 0, 131072),
        step("load", "pool", POOL),
        step("resume", "pool"),
        step("write", "t0", 65536, 4096, 2),
        *look("pool", "t0"),
    ),
    "a new pool that is read-only": (
        step("create", "pool"),
        step("load", "pool", f"{POOL} 1 read_only"),
        step("info", "pool"),
    ),
    "the pool's own bios": (*pool(), *traffic(5, "pool", 2048, count=10), *look("pool")),
    "a thin device without its pool": (
        *started("pool", "0 512 linear d1 0"),
        step("create", "t0"),
        step("load", "t0", "0 512 thin pool 0"),
        step("load", "t0", "0 512 thin d1 0"),
        step("info", "t0"),
    ),
    "a device number that is not there": (
        *pool(),
        step("create", "t0"),
        step("load", "t0", "0 512 thin pool 0"),
        step("load", "t0", "0 512 thin pool 16777216"),
        step("load", "t0", "0 512 thin pool 0 pool"),
        step("info", "t0"),
    ),
}

BAD = (
    Bad("0 2048 thin-pool"),
    Bad("0 2048 thin-pool d0 d1 128"),
    Bad("0 2048 thin-pool d0 d0 128 0"),
    Bad("0 2048 thin-pool d0 d1 0 0"),
    Bad("0 2048 thin-pool d0 d1 64 0"),
    Bad("0 2048 thin-pool d0 d1 192 0"),
    Bad("0 2048 thin-pool d0 d1 2097280 0"),
    Bad("0 2048 thin-pool d0 d1 x 0"),
    Bad("0 2048 thin-pool d0 d1 128 x"),
    Bad("0 2048 thin-pool d0 d1 128 0 1"),
    Bad("0 2048 thin-pool d0 d1 128 0 1 nosuch"),
    Bad("0 2048 thin-pool d0 d1 128 0 5 read_only"),
    Bad("0 4096 thin-pool d0 d1 128 0"),
    unknown("0 2048 thin-pool nosuch d1 128 0"),
    unknown("0 2048 thin-pool d0 nosuch 128 0"),
    Bad("0 512 thin"),
    Bad("0 512 thin d0"),
    Bad("0 512 thin d0 0"),
    Bad("0 512 thin d0 0 d1 d2"),
    Bad("0 512 thin d0 x"),
    unknown("0 512 thin nosuch 0"),
)
REFUSALS = {line.table: line for line in BAD}
EXPERIMENTS = {
    **BUSY,
    "messages": MESSAGES,
    **{name: Experiment(steps, DISKS) for name, steps in LIVES.items()},
    **{table: on_fresh(line) for table, line in REFUSALS.items()},
}


@pytest.mark.parametrize("name", [*BUSY, "messages", *LIVES])
def test_pools_and_thin_devices_are_the_kernels(kernel: Mapping[str, Outcome], name: str) -> None:
    compare(EXPERIMENTS[name], kernel[name])


@pytest.mark.parametrize("table", REFUSALS)
def test_lines_are_refused_as_in_the_kernel(kernel: Mapping[str, Outcome], table: str) -> None:
    compare_refusal(EXPERIMENTS[table], kernel[table], REFUSALS[table].fresh)

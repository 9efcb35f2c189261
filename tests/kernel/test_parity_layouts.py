"""Where md has chunks, P and Q: what the kernel writes we find, what we lay out it reads."""

import base64
from collections.abc import Mapping
from itertools import combinations

import pytest

from fusedm.dm.raid.layouts import LAYOUTS, Geometry
from tests.helpers.nightly import NIGHTLY
from tests.helpers.reference_parity import p_of, q_of
from tests.helpers.uml.experiment import DiskSpec, Experiment, Outcome, Step, started, step
from tests.helpers.uml.guest_data import noise, sums

pytestmark = [pytest.mark.kernel, NIGHTLY]

CHUNK = 8
#: Each layout comes around in them.
STRIPES = 12
#: Members of raid4 and raid5, and of raid6.
COUNTS = {1: (2, 4, 5), 2: (4, 5, 6)}
SEED = 63

KINDS = [(name, count) for name, layout in LAYOUTS.items() for count in COUNTS[layout.parities]]


def geometry(name: str, count: int) -> Geometry:
    return Geometry(LAYOUTS[name], count, CHUNK)


def table(name: str, count: int, lost: tuple[int, ...] = ()) -> str:
    length = geometry(name, count).stripe_sectors * STRIPES
    devices = " ".join("- -" if n in lost else f"- d{n}" for n in range(count))
    return f"0 {length} raid {name} 1 {CHUNK} {count} {devices}"


def written(name: str, count: int) -> Experiment:
    """Noise is written to all of an array that was made alike; then its members are looked at."""
    size = geometry(name, count).stripe_sectors * STRIPES * 512
    steps = (
        *started("x", table(name, count)),
        step("sleep", 0.5),
        step("write", "x", 0, size, SEED),
        step("flush", "x"),
        *(step("peek", f"d{n}", 0, STRIPES * CHUNK * 512) for n in range(count)),
    )
    return Experiment(steps, {f"d{n}": DiskSpec(256, seed=n) for n in range(count)})


def laid_out(name: str, count: int) -> list[bytes]:
    """The members of an array of noise, by layouts.py and the reference of parity."""
    made = geometry(name, count)
    data = noise(SEED, made.stripe_sectors * STRIPES * 512)
    size = CHUNK * 512
    members = [b""] * count
    for stripe in range(STRIPES):
        row = made.row(stripe)
        first = stripe * len(row.data) * size
        chunks = [data[first + n * size :][:size] for n in range(len(row.data))]
        have = {**dict(zip(row.data, chunks, strict=True)), row.p: p_of(chunks)}
        if row.q is not None:
            have[row.q] = q_of(chunks, row.exponents)
        members = [whole + have[member] for member, whole in enumerate(members)]
    return members


def losses(name: str, count: int) -> list[tuple[int, ...]]:
    """As many members as may be lost, in all ways."""
    return list(combinations(range(count), LAYOUTS[name].parities))


def read_without(name: str, count: int) -> Experiment:
    """An array that was laid out here is read without members, whichever they are."""
    size = geometry(name, count).stripe_sectors * STRIPES * 512
    steps: list[Step] = []
    for lost in losses(name, count):
        steps += [
            *started("x", table(name, count, lost)),
            step("read", "x", 0, size),
            step("remove", "x"),
        ]
    disks = {
        f"d{n}": DiskSpec(256, begins=base64.b64encode(data).decode())
        for n, data in enumerate(laid_out(name, count))
    }
    return Experiment(tuple(steps), disks)


EXPERIMENTS = {
    **{f"written {name} {count}": written(name, count) for name, count in KINDS},
    **{f"read {name} {count}": read_without(name, count) for name, count in KINDS},
}


@pytest.mark.parametrize(("name", "count"), KINDS)
def test_the_kernel_writes_data_and_parity_where_we_look(
    kernel: Mapping[str, Outcome], name: str, count: int
) -> None:
    answers = kernel[f"written {name} {count}"].answers
    assert not [answer for answer in answers if "errno" in answer]
    assert [base64.b64decode(one["bytes"]) for one in answers[-count:]] == laid_out(name, count)


@pytest.mark.parametrize(("name", "count"), KINDS)
def test_the_kernel_reads_what_we_lay_out_without_any_members(
    kernel: Mapping[str, Outcome], name: str, count: int
) -> None:
    answers = kernel[f"read {name} {count}"].answers
    found = [answer for answer in answers if "sectors" in answer]
    wanted = sums(noise(SEED, geometry(name, count).stripe_sectors * STRIPES * 512))
    assert [answer["sectors"] for answer in found] == [wanted] * len(losses(name, count))

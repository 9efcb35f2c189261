"""Arrays with parity in use, beside the kernel's: tables, status, checks and data."""

from collections.abc import Mapping

import pytest

from tests.helpers.uml.arrays import LOOK, SECONDS, disks, once, spare, table, used
from tests.helpers.uml.compare import compare
from tests.helpers.uml.experiment import Experiment, Outcome, step

pytestmark = pytest.mark.kernel

KINDS = (
    *(("raid4", 3), ("raid5_n", 4), ("raid5_ls", 4), ("raid5_rs", 3), ("raid5_la", 5)),
    *(("raid5_ra", 4), ("raid6_zr", 5), ("raid6_nr", 4), ("raid6_nc", 6), ("raid6_n_6", 5)),
    *(("raid6_ls_6", 5), ("raid6_rs_6", 5), ("raid6_la_6", 6), ("raid6_ra_6", 4)),
)


def busy(kind: str, count: int) -> Experiment:
    """An array that is made, used, checked, and used without as many members as may be lost."""
    checked = (step("message", "x", 0, "check"), step("sleep", SECONDS), *LOOK)
    return Experiment(
        (
            *once(table(kind, count), *LOOK, *used(kind, count, 1), *checked),
            *once(table(kind, count, lost=spare(kind)), *LOOK, *used(kind, count, 2)),
        ),
        disks(count),
    )


EXPERIMENTS = {f"busy {kind}": busy(kind, count) for kind, count in KINDS}


@pytest.mark.parametrize("kind", [kind for kind, _ in KINDS])
def test_arrays_with_parity_do_what_the_kernels_do(
    kernel: Mapping[str, Outcome], kind: str
) -> None:
    compare(EXPERIMENTS[f"busy {kind}"], kernel[f"busy {kind}"])

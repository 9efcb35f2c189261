"""crypt: the same ciphertext as the kernel's dm-crypt, the same refusals, the same messages."""

from collections.abc import Mapping

import pytest

from tests.helpers.uml.compare import compare
from tests.helpers.uml.crypt_lines import CRYPT_BAD, CRYPT_GOOD, K16, K32, K64
from tests.helpers.uml.experiment import Experiment, Outcome, started, step
from tests.helpers.uml.lives import compare_refusal, on_fresh
from tests.helpers.uml.tables import disks_of
from tests.helpers.uml.traffic import ALL, size, traffic

pytestmark = pytest.mark.kernel


def busy(seed: int, table: str) -> Experiment:
    """A device with traffic; discards are refused unless they are allowed."""
    block = 8 if "4096" in table or "b4" in table else 2 if "1024 iv" in table else 1
    block = 2 if "sector_size:1024" in table else block
    verbs = [verb for verb in ALL if verb != "discard" or "zero" not in table]
    steps = (
        *started("x", table),
        step("table", "x"),
        step("status", "x"),
        *traffic(seed, "x", size(table), count=12, block=block, verbs=verbs),
        *traffic(seed + 1, "x", size(table), count=0, block=block),
    )
    return Experiment(steps, disks_of(table, seed), images=True)


LINES = [line.table for line in CRYPT_GOOD]
REFUSALS = {line.table: line for line in CRYPT_BAD}
STATES = Experiment(
    (
        *started("x", f"0 64 crypt aes-cbc-plain64 {K32} 0 d0 0"),
        step("message", "x", 0, "key wipe"),
        step("message", "x", 0, f"key set {K32}"),
        step("suspend", "x"),
        step("message", "x", 0, "nosuch"),
        step("message", "x", 0, "key"),
        step("message", "x", 0, "key nosuch"),
        step("message", "x", 0, "key set"),
        step("message", "x", 0, f"key set {K16}"),
        step("message", "x", 0, f"key set {K64}"),
        step("message", "x", 0, "key wipe"),
        step("table", "x"),
        step("resume", "x"),
        step("info", "x"),
        step("message", "x", 0, f"key set {K32[::-1]}"),
        step("table", "x"),
        step("resume", "x"),
        step("info", "x"),
        step("write", "x", 0, 4096, 1),
    ),
    images=True,
)
KEPT = "a key that cannot be set leaves the old one in place; in the kernel there is none then"
REFUSED_KEY = Experiment(
    (
        *started("x", f"0 64 crypt aes-cbc-plain64 {K32} 0 d0 0"),
        step("suspend", "x"),
        step("message", "x", 0, f"key set {'zz' * 32}"),
        step("resume", "x", departs=KEPT),
    )
)
EXPERIMENTS = {table: busy(seed, table) for seed, table in enumerate(LINES)}
EXPERIMENTS |= {f"fresh {table}": on_fresh(line) for table, line in REFUSALS.items()}
EXPERIMENTS |= {"states": STATES, "refused key": REFUSED_KEY}


@pytest.mark.parametrize("table", LINES)
def test_ciphertext_is_that_of_the_kernel(kernel: Mapping[str, Outcome], table: str) -> None:
    compare(EXPERIMENTS[table], kernel[table])


@pytest.mark.parametrize("table", REFUSALS)
def test_what_cannot_be_is_refused_as_in_the_kernel(
    kernel: Mapping[str, Outcome], table: str
) -> None:
    name = f"fresh {table}"
    compare_refusal(EXPERIMENTS[name], kernel[name], REFUSALS[table].fresh)


@pytest.mark.parametrize("name", ["states", "refused key"])
def test_keys_are_set_and_wiped_as_in_the_kernel(kernel: Mapping[str, Outcome], name: str) -> None:
    compare(EXPERIMENTS[name], kernel[name])

"""Good tables and bad ones: what the kernel makes of a line, and what fusedm makes of it."""

from collections.abc import Mapping

import pytest

from tests.helpers.uml.compare import compare
from tests.helpers.uml.experiment import Outcome
from tests.helpers.uml.lives import compare_refusal, life, on_fresh, on_live
from tests.helpers.uml.tables import BAD, GOOD

pytestmark = pytest.mark.kernel

LIVES = {line.table: line for lines in GOOD.values() for line in lines}
REFUSALS = {line.table: line for lines in BAD.values() for line in lines}
EXPERIMENTS = {table: life(line) for table, line in LIVES.items()}
EXPERIMENTS |= {f"fresh {table}": on_fresh(line) for table, line in REFUSALS.items()}
EXPERIMENTS |= {f"live {table}": on_live(line) for table, line in REFUSALS.items()}


@pytest.mark.parametrize("table", LIVES)
def test_a_good_table_is_lived_with_as_in_the_kernel(
    kernel: Mapping[str, Outcome], table: str
) -> None:
    compare(EXPERIMENTS[table], kernel[table])


@pytest.mark.parametrize("table", REFUSALS)
def test_a_first_table_is_refused_as_in_the_kernel(
    kernel: Mapping[str, Outcome], table: str
) -> None:
    name = f"fresh {table}"
    compare_refusal(EXPERIMENTS[name], kernel[name], REFUSALS[table].fresh)


@pytest.mark.parametrize("table", REFUSALS)
def test_a_table_in_the_place_of_another_is_refused_as_in_the_kernel(
    kernel: Mapping[str, Outcome], table: str
) -> None:
    name = f"live {table}"
    compare_refusal(EXPERIMENTS[name], kernel[name], REFUSALS[table].live)

"""Plans: nodes compare by what they say, and a builder begins empty."""

import errno

from fusedm.block.bio import FLUSH
from fusedm.block.errors import Status
from fusedm.block.plan import Completed, Concat, Failed, Plan, PlanBuilder


def test_builders_share_nothing():
    builder = PlanBuilder()
    builder.extents.append(None)
    assert PlanBuilder() == PlanBuilder([], [])


def test_nodes_compare_by_value():
    plans = [Concat((Completed(FLUSH), Failed(Status.IOERR, "d0", FLUSH))) for _ in range(2)]
    assert plans[0] == plans[1]


def test_what_fails_makes_its_error_when_it_is_asked():
    failed = Failed(Status.MEDIUM, "d0", FLUSH)
    assert failed.error() is not failed.error()
    assert failed.error().errno == errno.ENODATA
    assert str(failed.error()) == "d0: flush of sectors 0..0: No data available"


def test_a_plan_keeps_what_its_builder_collected():
    builder = PlanBuilder()
    plan = Plan(Completed(FLUSH), builder.visits, builder.extents)
    assert plan.visits is builder.visits
    assert plan.extents is builder.extents

"""Plans: nodes compare by what they say, and a builder begins empty."""

from fusedm.block.bio import FLUSH
from fusedm.block.errors import BlockIOError, Status
from fusedm.block.plan import Completed, Concat, Failed, Plan, PlanBuilder


def test_builders_share_nothing():
    builder = PlanBuilder()
    builder.extents.append(None)
    assert PlanBuilder() == PlanBuilder([], [])


def test_nodes_compare_by_value():
    error = BlockIOError(Status.IOERR, "d0", "x")
    assert Concat((Completed(FLUSH), Failed(error))) == Concat((Completed(FLUSH), Failed(error)))


def test_a_plan_keeps_what_its_builder_collected():
    builder = PlanBuilder()
    plan = Plan(Completed(FLUSH), builder.visits, builder.extents)
    assert plan.visits is builder.visits
    assert plan.extents is builder.extents

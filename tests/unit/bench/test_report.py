"""The rows of the table."""

from dataclasses import replace

from fusedm.bench.record import Figure, NotRun
from fusedm.bench.report import rows
from tests.unit.bench.test_record import RECORD


def test_a_pair_has_figures_ratio_spread_and_goal():
    record = replace(
        RECORD,
        figures=[
            Figure("j", "disk", "IOPS", [1.0, 3.0, 2.0]),
            Figure("j", "peer", "IOPS", [7.0]),
        ],
    )
    assert rows(record)[1:3] == [
        ("j", "disk", "2 IOPS", "peer", "7 IOPS", "2.00 [1.00-4.00]", "2 met"),
        ("j", "disk", "2 IOPS", "l", "-", "0.50 [0.50-0.50]", "-"),
    ]


def test_a_goal_that_is_not_reached_is_missed():
    record = replace(RECORD, ratios=[replace(RECORD.ratios[0], goal=2.5)])
    assert rows(record)[1][-1] == "2.5 MISSED"


def test_a_pair_that_was_not_run_says_why_and_has_no_figure():
    assert rows(RECORD)[-1] == (
        "j", "disk", "2 IOPS", "other", "-", "not run: other is not installed", "-",
    )  # fmt: skip


def test_the_pairs_of_one_job_stay_together():
    record = replace(
        RECORD,
        ratios=[*RECORD.ratios, replace(RECORD.ratios[0], job="k")],
        not_run=[NotRun("j", "disk", "other", "why")],
    )
    assert [row[0] for row in rows(record)] == ["JOB", "j", "j", "j", "k"]


def test_a_layer_that_is_within_noise_is_said_to_be_and_not_clipped():
    figures = [Figure("read", "mapping", "us", [-0.5, 1.0, -0.2]), Figure("read", "f", "us", [2.0])]
    assert rows(replace(RECORD, kind="layers", figures=figures))[1:] == [
        ("read", "mapping", "-0.20 us", "[-0.50 to 1.00]", "within noise"),
        ("read", "f", "2.00 us", "[2.00 to 2.00]", ""),
    ]


def test_a_check_has_the_most_it_may_be():
    figures = [
        Figure("c", "peak", "MiB", [100.0], 120),
        Figure("c", "start", "s", [1.5], 1),
        Figure("c", "before", "MiB", [50.0]),
    ]
    assert rows(replace(RECORD, kind="memory", figures=figures))[1:] == [
        ("c", "peak", "100.0 MiB", "at most 120 met"),
        ("c", "start", "1.500 s", "at most 1 MISSED"),
        ("c", "before", "50.0 MiB", "-"),
    ]

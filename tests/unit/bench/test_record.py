"""The record: to JSON and back, what is refused, and the comparison."""

import json
from dataclasses import replace

import pytest

from fusedm.bench.record import (
    Figure,
    NotRun,
    Ratio,
    Record,
    fallen,
    from_json,
    to_json,
    uncompared,
)
from fusedm.block.errors import StackError

RECORD = Record(
    kind="compare",
    quick=False,
    arguments={"rounds": 5, "only": ["disk"]},
    versions={"fusedm": "1"},
    conditions={"cores": 2},
    figures=[Figure("j", "disk", "IOPS", [1.0, 3.0, 2.0]), Figure("m", "peak", "MiB", [9.0], 120)],
    ratios=[Ratio("j", "disk", "peer", 2, [1.0, 2.0, 4.0]), Ratio("j", "disk", "l", None, [0.5])],
    not_run=[NotRun("j", "disk", "other", "other is not installed")],
)


def broken(**change):
    """The JSON of the record with changes."""
    return json.dumps(json.loads(to_json(RECORD)) | change)


def test_a_record_is_read_back_as_it_was_written():
    assert from_json(to_json(RECORD), "x") == RECORD


def test_medians_are_written_beside_the_rounds():
    told = json.loads(to_json(RECORD))
    assert told["figures"][0]["median"] == 2
    assert (told["ratios"][0]["low"], told["ratios"][0]["high"]) == (1, 4)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is not JSON: "),
        ("{", "is not JSON: "),
        ("[]", "is no result of `fusedm bench --json`"),
        ("{}", "is no result of `fusedm bench --json`"),
        (broken(format="other"), "is no result of `fusedm bench --json`"),
        (broken(version=2), "is of version 2, 1 is read here"),
        (broken(ratios=None), "is damaged: TypeError"),
        (broken(ratios=[{}]), "is damaged: TypeError"),
        (broken(arguments=7), "is damaged: TypeError"),
        (broken(ratios=[{**json.loads(to_json(RECORD))["ratios"][0], "rounds": []}]), "rounds: []"),
        (broken(figures=[{"job": "j", "device": "d", "unit": "s", "rounds": ["x"]}]), "['x']"),
        (json.dumps({"format": "fusedm-bench", "version": 1}), "is damaged: KeyError 'kind'"),
    ],
)
def test_what_is_no_record_is_refused_in_one_line(text, complaint):
    with pytest.raises(StackError) as caught:
        from_json(text, "--compare old.json")
    said = str(caught.value)
    assert said.startswith("--compare old.json: ")
    assert complaint in said
    assert "\n" not in said


def with_ratio(*rounds):
    """The record with another first ratio."""
    return replace(RECORD, ratios=[replace(RECORD.ratios[0], rounds=rounds)])


def test_a_ratio_that_fell_by_more_than_the_factor_is_told_of():
    assert fallen(RECORD, with_ratio(1.0), 1.2) == [
        "j disk against peer: the ratio fell from 2.00 to 1.00, by a factor of 2.00, at most 1.2"
    ]


@pytest.mark.parametrize("now", [1.7, 2.0, 9.0])
def test_a_ratio_that_rose_or_fell_by_less_is_not(now):
    assert fallen(RECORD, with_ratio(now), 1.2) == []


def test_absolute_figures_are_not_compared():
    slower = replace(RECORD, figures=[replace(RECORD.figures[0], rounds=[0.001])])
    assert fallen(RECORD, slower, 1.2) == []


def test_ratios_that_only_one_of_two_has_are_told_of_and_did_not_fall():
    more = [Ratio(job, "new", "peer", 2, [0.1]) for job in ("i", "j")]
    newer = replace(RECORD, ratios=[RECORD.ratios[0], *more])
    assert fallen(RECORD, newer, 1.2) == []
    assert uncompared(RECORD, newer) == [
        "not compared, only in the old result: disk against l (1)",
        "not compared, only in the new result: new against peer (2)",
    ]
    assert uncompared(RECORD, RECORD) == []


def test_nothing_in_common_is_no_comparison():
    with pytest.raises(StackError, match="2 and 0 ratios, 0 in common"):
        fallen(RECORD, replace(RECORD, ratios=[]), 1.2)

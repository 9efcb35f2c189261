"""The picture: it is one, and its panels hold what they say."""

import sys
from dataclasses import replace

import pytest

from fusedm.bench.contest import PAIRS
from fusedm.bench.plot import check_plot, draw, panels
from fusedm.bench.record import Ratio
from fusedm.block.errors import StackError, UsageError
from tests.unit.bench.test_record import RECORD

RATIOS = [
    Ratio(pair.job.name, pair.device, pair.against, pair.goal, [0.5, 1.0, 3.0]) for pair in PAIRS
]


@pytest.mark.parametrize(
    ("ending", "signature"), [("png", b"\x89PNG\r\n\x1a\n"), ("svg", b"<?xml")]
)
def test_a_picture_of_every_ratio_is_written(tmp_path, ending, signature):
    path = tmp_path / f"bench.{ending}"
    check_plot(str(path))
    draw(replace(RECORD, ratios=RATIOS, quick=True), str(path))
    assert path.read_bytes().startswith(signature)


def test_every_ratio_is_in_one_panel():
    found = panels(RATIOS)
    assert [len(members) for _, members in found] == [38, 34, 15, 48, 2, 8, 20]
    assert all(ratio.goal is None for ratio in found[-1][1])


def test_a_panel_without_ratios_is_left_out():
    assert len(panels(RATIOS[:1])) == 1


def test_another_ending_is_refused():
    with pytest.raises(UsageError, match=r"--plot a\.pdf: must end in \.png or \.svg"):
        check_plot("a.pdf")


def test_without_matplotlib_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"not installed \(pip install 'fusedm\[bench\]'\)"):
        check_plot("a.png")


def test_without_a_ratio_there_is_no_picture(tmp_path):
    with pytest.raises(StackError, match="there is no ratio to draw"):
        draw(replace(RECORD, ratios=[]), str(tmp_path / "a.png"))


def test_a_picture_that_cannot_be_written_is_told_of(tmp_path):
    with pytest.raises(StackError, match="No such file"):
        draw(RECORD, str(tmp_path / "none" / "a.png"))

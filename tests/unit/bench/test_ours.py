"""Our side: its stack files, its layers, and the jobs on a file system."""

import sqlite3
import tarfile
from io import StringIO

import pytest

from fusedm.bench.file_systems import make_tree, sqlite_rate
from fusedm.bench.layers import CHAIN, layer_figures
from fusedm.bench.memory import DISKS, VIEWS, large_stack, load_file
from fusedm.bench.ours import stack_text
from fusedm.bench.place import MIB, Place, check_parent
from fusedm.block.errors import StackError
from fusedm.cli.progress import Progress
from fusedm.stack import parse_spec


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path, Progress(StringIO()))


def test_the_stack_has_every_device_on_a_disk_of_its_own(place):
    spec = parse_spec(stack_text(place), "stack.toml")
    assert len(spec.disks) == 6
    assert {"linear", "linear4096", "linear512", "slow"} < set(spec.mapper)
    assert set(spec.views) == {"view4096", "view512", "ext4"}
    assert spec.keys["view512"].data_unit_size == 512
    assert all(key.source == "random" for key in spec.keys.values())


def test_the_large_stack_has_a_key_for_every_view():
    spec = parse_spec(large_stack(), "memory.toml")
    assert (len(spec.disks), len(spec.views), len(spec.keys)) == (DISKS, VIEWS, VIEWS)
    assert {disk.size for disk in spec.disks.values()} == {1 << 40}


def test_the_load_goes_through_all_views_one_of_each_disk_at_a_time(place):
    views = [load_file(place, step).count("filename=") for step in range(3)]
    assert views == [DISKS] * 3
    assert "/views/view995\n" in load_file(place, VIEWS // DISKS - 1)
    assert load_file(place, VIEWS // DISKS) == load_file(place, 0)


def test_the_layers_are_what_each_place_takes_more_than_the_one_below():
    rounds = {"store": [1, 2], "disk": [40, 42], "linear": [41, 41], "view": [61, 81]}
    assert set(rounds) == set(CHAIN)
    measured = {(request, name): us for request in ("read", "write") for name, us in rounds.items()}
    assert [(f.device, f.rounds) for f in layer_figures(measured)[:5]] == [
        ("store", [1, 2]),
        ("FUSE", [39, 40]),
        ("mapping", [1, -1]),
        ("crypto", [20, 40]),
        ("all, at the view", [61, 81]),
    ]


def test_the_source_tree_is_about_as_large_as_asked_for(tmp_path):
    make_tree(tmp_path / "tree.tar", MIB)
    with tarfile.open(tmp_path / "tree.tar") as tar:
        sizes = [member.size for member in tar.getmembers()]
    assert MIB // 2 < sum(sizes) <= MIB


def test_sqlite_commits_every_transaction(tmp_path):
    assert sqlite_rate(tmp_path, 0.01) > 0
    base = sqlite3.connect(tmp_path / "bench.sqlite")
    try:
        assert base.execute("SELECT count(*) FROM entry").fetchone()[0] > 0
    finally:
        base.close()


@pytest.mark.parametrize(
    ("parent", "needed", "complaint"),
    [
        ("/proc", 1, "--folder /proc: is on proc, not tmpfs"),
        ("/no/such", 1, "--folder /no/such: No such file or directory"),
    ],
)
def test_a_folder_that_will_not_do_is_refused(parent, needed, complaint):
    with pytest.raises(StackError) as caught:
        check_parent(parent, any_medium=False, needed=needed)
    assert str(caught.value).startswith(complaint)


def test_too_little_room_is_told_with_both_numbers(tmp_path):
    with pytest.raises(StackError, match="are free, 1024PiB are needed"):
        check_parent(str(tmp_path), any_medium=True, needed=1 << 60)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match="is no folder"):
        check_parent(str(tmp_path / "file"), any_medium=True, needed=0)

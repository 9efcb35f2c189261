"""Our side: its stack files, its layers, and the jobs on a file system."""

import sqlite3
import tarfile
from dataclasses import replace
from io import StringIO

import pytest

from fusedm.bench.file_systems import make_tree, sqlite_rate
from fusedm.bench.layers import CHAIN, layer_figures
from fusedm.bench.memory import DISKS, VIEWS, large_stack, load_file
from fusedm.bench.neighbours import slow_stack
from fusedm.bench.ours import DEVICES, stack_text
from fusedm.bench.place import MIB, Place, check_parent, disk_parent, make_place
from fusedm.block.errors import StackError
from fusedm.cli.progress import Progress
from fusedm.stack import parse_spec


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path, Progress(StringIO()))


def test_the_stack_has_every_device_on_disks_of_its_own(place, tmp_path):
    spec = parse_spec(stack_text(replace(place, disk_folder=tmp_path / "disk")), "stack.toml")
    tables = [table for mapped in spec.mapper.values() for table in mapped.table.splitlines()]
    for name in spec.disks:
        assert sum(name in table.split() for table in tables) == (name != "disk")
    stores = [disk.store for disk in spec.disks.values()]
    assert len(set(stores)) == len(stores) == len(DEVICES) + 2
    assert spec.keys["view512"].data_unit_size == 512
    assert all(key.source == "random" for key in spec.keys.values())
    assert spec.disks["view4096.disk0"].engine is not None
    assert spec.disks["view-fallback.disk0"].engine is None


def test_only_the_devices_on_a_disk_have_stores_in_its_folder(place, tmp_path):
    spec = parse_spec(stack_text(replace(place, disk_folder=tmp_path / "disk")), "stack.toml")
    on_disk = {name for name, disk in spec.disks.items() if f"{tmp_path}/disk/" in disk.store}
    assert on_disk == {"disk-linear.disk0", "disk-view.disk0", "disk-ext4.disk0"}


def test_without_a_disk_the_stack_has_none_of_the_devices_on_it(place):
    spec = parse_spec(stack_text(place), "stack.toml")
    assert not any(name.startswith("disk-") for name in (*spec.disks, *spec.mapper, *spec.views))
    assert {"linear", "view4096.mapped", "crypt", "slow"} < set(spec.mapper)


def test_no_two_stacks_have_one_key_of_crypt(place):
    keys = {
        word
        for _ in range(2)
        for word in parse_spec(stack_text(place), "s").mapper["crypt"].table.split()
        if len(word) == 128
    }
    assert len(keys) == 2


def test_the_store_that_blocks_lies_on_a_device_that_is_late(place):
    spec = parse_spec(slow_stack(place), "slow.toml")
    assert spec.mapper["slow"].table.split()[2:] == ["delay", "memory", "0", "50"]


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


def test_without_a_disk_it_is_said_what_was_looked_at(monkeypatch):
    monkeypatch.setattr("fusedm.bench.place.DISK_FOLDERS", ("/proc", "/no/such"))
    with pytest.raises(StackError) as caught:
        disk_parent(None, any_medium=False, needed=1)
    assert str(caught.value) == (
        "/proc: is on proc, not on a disk; /no/such: No such file or directory; "
        "--disk-folder DIR names another"
    )


def test_the_first_folder_that_will_do_is_taken(monkeypatch, tmp_path):
    monkeypatch.setattr("fusedm.bench.place.DISK_FOLDERS", ("/no/such", str(tmp_path)))
    assert disk_parent(None, any_medium=True, needed=1) == str(tmp_path)


def test_without_a_second_folder_the_first_is_not_left_behind(place, tmp_path):
    with pytest.raises(StackError, match="--disk-folder /no/such: No such file"):
        make_place(place, str(tmp_path), "/no/such")
    assert list(tmp_path.iterdir()) == []

"""The tree of a system, as it is at each look, and the numbers of its inodes."""

import pytest

from fusedm.fuse.nodes import DeviceFile, Directory, Link, TextFile
from fusedm.fuse.tree import Inodes, Path, Tree
from fusedm.system import System
from tests.helpers.builders import make_disk, make_key


async def make_system() -> System:
    """Disk d0, dm0 over it, and the view v of that."""
    system = System()
    system.add_disk(make_disk("d0", slots=2))
    system.add_mapped("dm0")
    system.load("dm0", "0 100 linear d0 0")
    await system.mapped["dm0"].resume()
    system.add_key(make_key("k"))
    system.add_view("v", "dm0", "k")
    return system


def path(text: str) -> Path:
    return tuple(text.split("/")) if text else ()


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ("", ["disks", "mapper", "views", "sys"]),
        ("disks", ["d0"]),
        ("mapper", ["dm0"]),
        ("views", ["v"]),
        ("sys", ["block"]),
        ("sys/block", ["d0", "dm0", "v"]),
        ("sys/block/d0/holders", ["dm0"]),
        ("disks/d0", []),
        ("gone", []),
    ],
)
async def test_names_of_a_directory(where: str, names: list[str]) -> None:
    assert list(Tree(await make_system()).names(path(where))) == names


@pytest.mark.parametrize("where", ["disks/d0", "mapper/dm0", "views/v"])
async def test_each_kind_of_device_is_a_file_in_its_folder(where: str) -> None:
    assert Tree(await make_system()).node(path(where)) == DeviceFile(path(where)[-1])


@pytest.mark.parametrize(
    "where", ["nothing", "disks/dm0", "mapper/v", "disks/d0/x", "sys/block/x", "sys/class"]
)
async def test_a_path_to_nothing_leads_to_none(where: str) -> None:
    assert Tree(await make_system()).node(path(where)) is None


async def test_inner_paths_lead_to_what_they_are() -> None:
    tree = Tree(await make_system())
    assert isinstance(tree.node(()), Directory)
    assert isinstance(tree.node(path("sys/block/dm0/queue")), Directory)
    assert isinstance(tree.node(path("sys/block/dm0/size")), TextFile)
    assert tree.node(path("sys/block/dm0/slaves/d0")) == Link("../../d0")


async def test_what_is_added_or_removed_is_there_or_gone_at_the_next_look() -> None:
    system = await make_system()
    tree = Tree(system)
    system.add_disk(make_disk("d1"))
    system.remove_view("v")
    assert tree.node(path("disks/d1")) == DeviceFile("d1")
    assert tree.node(path("views/v")) is None
    assert list(tree.names(path("sys/block"))) == ["d0", "dm0", "d1"]


def test_the_root_is_inode_1_and_never_forgotten() -> None:
    inodes = Inodes()
    assert inodes.look_up(()) == Inodes.ROOT == 1
    inodes.forget(1, 2)
    assert inodes.path(1) == ()


def test_a_path_keeps_its_number_while_it_is_remembered() -> None:
    inodes = Inodes()
    number = inodes.look_up(("disks",))
    assert inodes.look_up(("disks",)) == number
    inodes.forget(number, 1)
    assert inodes.path(number) == ("disks",)


def test_a_forgotten_path_is_dropped_and_its_number_not_given_out_again() -> None:
    inodes = Inodes()
    number = inodes.look_up(("disks",))
    inodes.look_up(("disks",))
    inodes.forget(number, 2)
    assert len(inodes) == 1
    assert inodes.look_up(("disks",)) > number
    with pytest.raises(KeyError):
        inodes.path(number)


def test_forgetting_more_often_than_looked_up_is_a_bug() -> None:
    inodes = Inodes()
    number = inodes.look_up(("disks",))
    with pytest.raises(AssertionError, match="too often"):
        inodes.forget(number, 2)


def test_a_renamed_path_keeps_its_number() -> None:
    inodes = Inodes()
    number = inodes.look_up(("mapper", "a"))
    inodes.rename(("mapper", "a"), ("mapper", "b"))
    assert inodes.path(number) == ("mapper", "b")
    assert inodes.look_up(("mapper", "b")) == number
    assert inodes.look_up(("mapper", "a")) != number


def test_a_path_that_was_never_looked_up_can_be_renamed() -> None:
    inodes = Inodes()
    inodes.rename(("mapper", "a"), ("mapper", "b"))
    assert len(inodes) == 1


def test_what_had_the_new_name_before_is_still_known_by_its_number_and_leads_nowhere() -> None:
    inodes = Inodes()
    gone, number = inodes.look_up(("mapper", "b")), inodes.look_up(("mapper", "a"))
    inodes.rename(("mapper", "a"), ("mapper", "b"))
    assert inodes.path(gone) == ("",)
    inodes.forget(gone, 1)
    assert inodes.look_up(("mapper", "b")) == number

"""The registry finds targets by file name."""

import errno
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from fusedm.block.errors import StackError
from fusedm.dm import target_class, target_doc, target_names, targets

ROOT = Path(__file__).parents[3]
NEW_TARGET = ROOT / "scripts" / "new-target.sh"


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder whose files are on the shelf as well, until the test ends."""

    def forget() -> None:
        target_names.cache_clear()
        target_class.cache_clear()

    monkeypatch.setattr(targets, "__path__", [*targets.__path__, str(tmp_path)])
    forget()
    yield tmp_path
    forget()
    for name in [name for name in sys.modules if name.startswith(f"{targets.__name__}.")]:
        if str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


def source_of(name: str, copies: int = 1) -> str:
    lines = ["from fusedm.dm.targets.zero import Zero", "from fusedm.dm.target import Target"]
    for index in range(copies):
        lines += [f"class Thing{index}(Zero):", f"    name = {name!r}"]
    return "\n".join(lines)


def test_the_shelf_is_listed_in_order():
    assert target_names() == sorted(target_names())
    assert {"linear", "striped", "zero", "error", "delay", "flakey"} <= set(target_names())


def test_a_class_is_found_by_its_name():
    assert target_class("linear").name == "linear"


def test_a_doc_is_found_by_its_name():
    assert target_doc("zero").startswith("# zero\n")


@pytest.mark.parametrize("find", [target_class, target_doc])
def test_an_unknown_name_lists_the_known_ones(find):
    with pytest.raises(StackError, match="target type 'linaer' is unknown: use .*linear") as caught:
        find("linaer")
    assert caught.value.errno == errno.EINVAL


def test_a_new_file_is_a_new_target(shelf):
    (shelf / "log_stuff.py").write_text(source_of("log-stuff"))
    assert "log-stuff" in target_names()
    assert target_class("log-stuff").__module__ == "fusedm.dm.targets.log_stuff"


def test_a_class_with_another_name_than_its_file_is_a_bug(shelf):
    (shelf / "stuff.py").write_text(source_of("nonsense"))
    with pytest.raises(AssertionError, match="must hold 'stuff', not 'nonsense'"):
        target_class("stuff")


def test_two_classes_in_a_file_are_a_bug(shelf):
    (shelf / "twice.py").write_text(source_of("twice", copies=2))
    with pytest.raises(AssertionError, match="must hold one Target, not 2"):
        target_class("twice")


def run_new_target(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    script = folder / "scripts" / NEW_TARGET.name
    script.parent.mkdir(exist_ok=True)
    script.write_text(NEW_TARGET.read_text())
    return subprocess.run(["bash", str(script), *words], capture_output=True, text=True)


def test_new_target_writes_a_target_that_works(shelf, tmp_path):
    done = run_new_target(tmp_path, "write-mostly")
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == [
        "fusedm/dm/targets/write_mostly.md",
        "fusedm/dm/targets/write_mostly.py",
        "fusedm/tables/grammars/write_mostly.py",
        "tests/unit/dm/targets/test_write_mostly.py",
    ]
    targets.__path__.append(str(tmp_path / "fusedm/dm/targets"))
    assert target_class("write-mostly").__name__ == "WriteMostly"
    namespace = runpy.run_path(str(tmp_path / "fusedm/tables/grammars/write_mostly.py"))
    assert [grammar.name for grammar in namespace["GRAMMARS"]] == ["write-mostly"]
    compile((tmp_path / "tests/unit/dm/targets/test_write_mostly.py").read_text(), "test", "exec")
    assert (tmp_path / "fusedm/dm/targets/write_mostly.md").read_text().startswith("# write-mostly")


@pytest.mark.parametrize("words", [(), ("Mirror",), ("1st",), ("a/b",), ("a", "b")])
def test_new_target_refuses_a_name_that_is_none(tmp_path, words):
    done = run_new_target(tmp_path, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1


def test_new_target_overwrites_nothing(tmp_path):
    assert run_new_target(tmp_path, "era").returncode == 0
    done = run_new_target(tmp_path, "era")
    assert done.returncode == 1
    assert done.stderr == "new-target: fusedm/dm/targets/era.py exists already\n"

"""The run folder: which one serves, and what another user may have laid in its place."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fusedm.block.errors import UsageError
from fusedm.host import run_folder
from fusedm.host.run_folder import candidates, choose

NOBODY = 65534

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="SKIPPED: it becomes another user")


@contextmanager
def as_user(uid: int) -> Iterator[None]:
    """Be somebody else for a while."""
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


def first_names(user: int, **environ: str) -> list[str]:
    """The folders that may serve, without those that are only for names that are taken."""
    return [path for path in candidates(user, environ) if path[-2] != "."]


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder of everybody's, as /tmp is, with a path that is short enough for sockets."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o1777)
        yield Path(folder)


def test_root_has_run_before_what_the_environment_names():
    assert first_names(0, XDG_RUNTIME_DIR="/x", TMPDIR="/t") == [
        "/run/fusedm",
        "/x/fusedm",
        "/t/fusedm-0",
        "/tmp/fusedm-0",
    ]


def test_a_user_has_the_runtime_directory_then_one_in_tmp():
    assert first_names(7, XDG_RUNTIME_DIR="/x") == ["/x/fusedm", "/tmp/fusedm-7"]
    assert first_names(7) == ["/tmp/fusedm-7"]


def test_what_is_not_an_absolute_path_is_passed_over():
    assert first_names(7, XDG_RUNTIME_DIR="x", TMPDIR="") == ["/tmp/fusedm-7"]


def test_a_folder_is_made_for_its_user_only(shared: Path):
    assert choose(os.geteuid(), [shared / "a"]) == shared / "a"
    assert (shared / "a").stat().st_mode & 0o777 == 0o700
    assert choose(os.geteuid(), [shared / "a"]) == shared / "a"


@needs_root
@pytest.mark.parametrize(
    ("lay", "text"),
    [
        (lambda path: path.mkdir(), "is not a folder that only user 65534 may write to"),
        (lambda path: path.touch(), "is not a folder that only user 65534 may write to"),
        (lambda path: path.symlink_to("/tmp"), "is not a folder that only user 65534 may write to"),
        (
            lambda path: (path.mkdir(), path.chmod(0o777), os.chown(path, NOBODY, -1)),
            "is not a folder that only user 65534 may write to",
        ),
        (
            lambda path: (path.mkdir(), path.chmod(0o500), os.chown(path, NOBODY, -1)),
            "cannot be written to",
        ),
    ],
    ids=["other owner", "file", "link", "writable for others", "not writable"],
)
def test_what_another_may_have_laid_does_not_serve_and_the_next_name_does(
    shared: Path, lay: Callable[[Path], object], text: str
):
    lay(shared / "taken")
    with as_user(NOBODY):
        with pytest.raises(UsageError, match=f"{shared}/taken: {text}: set XDG_RUNTIME_DIR to a"):
            choose(NOBODY, [shared / "taken"])
        assert choose(NOBODY, [shared / "taken", shared / "next"]) == shared / "next"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("gone/fusedm", "No such file or directory"),
        ("open/fusedm", "others could put another in its place"),
        ("x" * 99, r"names of sockets would have \d+ bytes, at most 107"),
    ],
)
def test_every_folder_that_does_not_serve_is_named_in_one_line(shared: Path, path: str, text: str):
    (shared / "open").mkdir()
    (shared / "open").chmod(0o777)
    with pytest.raises(
        UsageError, match=f"^no folder for sockets and locks: {shared}/{path}: {text}: set"
    ):
        choose(os.geteuid(), [shared / path])


@needs_root
def test_a_user_finds_every_folder_that_is_really_his(shared: Path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/gone")
    monkeypatch.setenv("TMPDIR", str(shared))
    mine, others = shared / f"fusedm-{NOBODY}.1", shared / f"fusedm-{NOBODY}"
    mine.mkdir(mode=0o700)
    others.mkdir(mode=0o700)
    os.chown(mine, NOBODY, -1)
    with as_user(NOBODY):
        assert run_folder.run_folder() == mine
        found = run_folder.run_folders()
    assert mine in found
    assert others not in found

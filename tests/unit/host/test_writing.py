"""Files that are written whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from fusedm.host import writing
from fusedm.host.writing import write_whole


def test_a_new_file_is_as_any_that_is_made(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write_whole(str(tmp_path / "new"), "text")
    assert (tmp_path / "new").read_text() == "text"
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "usual").stat().st_mode
    assert len(list(tmp_path.iterdir())) == 2


def test_one_that_is_there_is_refused_and_stays(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    with pytest.raises(FileExistsError):
        write_whole(str(tmp_path / "old"), "new")
    assert (tmp_path / "old").read_text() == "old"


def test_forced_it_takes_the_place_of_the_old_with_its_mode_and_through_a_link(
    tmp_path: Path,
) -> None:
    (tmp_path / "old").write_text("old")
    (tmp_path / "old").chmod(0o640)
    (tmp_path / "link").symlink_to("old")
    write_whole(str(tmp_path / "link"), "new", force=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "old").read_text() == "new"
    assert (tmp_path / "old").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("step", ["fsync", "replace", "link"])
def test_whatever_fails_leaves_all_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, force: bool
) -> None:
    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    target = tmp_path / "file"
    if force:
        target.write_text("old")
    if step == ("link" if force else "replace"):
        return  # Not done on this way.
    monkeypatch.setattr(writing.os, step, no_space)
    with pytest.raises(OSError, match="No space left"):
        write_whole(str(target), "new", force)
    assert [path.read_text() for path in tmp_path.iterdir()] == (["old"] if force else [])


def test_what_came_meanwhile_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "file"
    monkeypatch.setattr(writing.os, "fsync", lambda _: target.write_text("came"))
    with pytest.raises(FileExistsError):
        write_whole(str(target), "new")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["came"]


def test_a_file_system_without_links_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(writing.os, "link", no_links)
    write_whole(str(tmp_path / "file"), "new")
    assert (tmp_path / "file").read_text() == "new"


def test_what_is_no_file_is_written_to(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    write_whole(f"/proc/self/fd/{writer}", "text")
    assert os.read(reader, 10) == b"text"
    write_whole("/dev/null", "text")
    os.close(reader)
    os.close(writer)

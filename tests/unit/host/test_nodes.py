"""Names and records of device nodes; the nodes themselves are made in tests/mount."""

import errno
import json
import os
from pathlib import Path

import pytest

from fusedm.block.errors import StackError, UsageError
from fusedm.host import nodes
from fusedm.host.loop import LoopDevice
from fusedm.host.nodes import DeviceNode, mangle, unmangle


@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        ("vg-root", "vg-root"),
        ("a#b+c.d:e=f@g_h", "a#b+c.d:e=f@g_h"),
        ("two words", r"two\x20words"),
        ("back\\slash", r"back\x5cslash"),
        ("é", r"\xc3\xa9"),
        (r"two\x20words", r"two\x20words"),
    ],
)
def test_bytes_that_are_not_plain_are_escaped_once(name: str, escaped: str) -> None:
    assert mangle(name) == escaped
    assert unmangle(escaped) == unmangle(name)


@pytest.mark.parametrize("name", [r"two\x20more words", r"half\x2", r"half\xzz"])
def test_a_name_that_is_escaped_in_part_is_refused(name: str) -> None:
    with pytest.raises(StackError, match="is escaped in part"):
        mangle(name)


@pytest.mark.parametrize("name", ["", ".", "..", "control", "a/b", "a\nb"])
def test_a_name_that_no_node_can_have_is_refused(name: str) -> None:
    with pytest.raises(StackError) as caught:
        mangle(name)
    assert caught.value.errno == errno.EINVAL


def test_a_name_may_not_get_too_long_by_being_escaped() -> None:
    with pytest.raises(StackError, match="160 bytes when escaped, at most 127"):
        mangle("%" * 40)


def test_nodes_are_below_the_folder_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DM_DEV_DIR", raising=False)
    assert nodes.node_path("vol") == "/dev/mapper/vol"
    monkeypatch.setenv("DM_DEV_DIR", "/tmp/dev/")
    assert nodes.node_path("two words") == r"/tmp/dev/mapper/two\x20words"
    monkeypatch.setenv("DM_DEV_DIR", "dev")
    with pytest.raises(UsageError, match="DM_DEV_DIR=dev: is not an absolute path"):
        nodes.node_path("vol")


def record(records: Path, node: DeviceNode) -> None:
    nodes._write_record(node, records)


def test_what_is_no_record_is_passed_over(tmp_path: Path) -> None:
    node = DeviceNode("/dev/mapper/a", "7:999", "/dev/loop999", 1)
    record(tmp_path, node)
    (tmp_path / "0.node").write_text("{")
    (tmp_path / "1.node").write_text(json.dumps({"path": "/dev/sda"}))
    (tmp_path / "2.json").write_text("{}")
    assert nodes.ours(tmp_path) == [node]
    assert nodes.find("/dev/mapper/a", tmp_path) == node
    assert nodes.find("/dev/mapper/b", tmp_path) is None


def test_clearing_what_is_stale_leaves_what_others_put_there(tmp_path: Path) -> None:
    records = tmp_path / "records"
    records.mkdir()
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("others'")
    link.symlink_to("/dev/null")
    for path in (file, link, tmp_path / "gone"):
        record(records, DeviceNode(str(path), "7:999", "/dev/loop999", 1))
    assert nodes.clear_stale(records) == []
    assert nodes.ours(records) == []
    assert file.read_text() == "others'"
    assert os.readlink(link) == "/dev/null"


def test_a_loop_device_that_is_not_there_gets_no_node(tmp_path: Path) -> None:
    device = LoopDevice(str(tmp_path / "none"), "/m/a", 512, direct_io=True, read_only=False)
    with pytest.raises(StackError, match="is no block device"):
        nodes.make("vol", device, tmp_path, str(tmp_path))
    assert nodes.ours(tmp_path) == []

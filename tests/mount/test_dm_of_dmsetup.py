"""`fusedm dm` on the devices of dmsetup: nodes follow them, and nothing is left of the last."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusedm.control import stack_at
from tests.helpers.dmsetup import Dmsetup, dmsetup_in

pytestmark = [pytest.mark.fuse, pytest.mark.loop]


class Both(Dmsetup):
    """dmsetup, and `fusedm` on its stack."""

    def dm(self, *words: str) -> str:
        """What `fusedm dm` prints that must succeed."""
        done = self.fusedm("dm", *words)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    def fusedm(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run it to its end."""
        self.environ["FUSEDM_STACK"] = self.mount_point
        return self.program(sys.executable, "-m", "fusedm", *words)


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Both]:
    with dmsetup_in(tmp_path, Both) as both:
        yield both


def test_a_cleared_table_lets_go_of_its_file(both: Both) -> None:
    both.image("a.img", 1 << 20)
    other = both.image("other.img", 1 << 20)
    both.ok("create", "a", "--table", "0 2048 linear a.img 0")
    assert len(both.call("ls")) == 2
    both.dm("load", "a", "--table", "0 2048 linear ./other.img 0")
    assert len(both.call("ls")) == 3
    both.dm("clear", "a")
    assert len(both.call("ls")) == 2
    # It is not locked any more.
    both.dm("load", "a", "--table", f"0 2048 linear {other} 0")
    both.dm("remove", "a")
    assert stack_at(both.mount_point) is None


def test_nodes_follow_and_the_last_device_ends_the_daemon(both: Both) -> None:
    image = both.image("a.img", 1 << 20)
    both.ok("create", "a", "--table", f"0 2048 linear {image} 0")
    both.dm("add", "b", "--table", "0 16 linear a 0")
    node = both.node("b")
    assert node.is_block_device()
    both.dm("load", "b", "--table", "0 32 linear a 0")
    both.dm("resume", "b")
    assert both.program("blockdev", "--getsz", node).stdout == "32\n"
    both.dm("rename", "b", "c")
    assert (node.exists(), both.node("c").is_block_device()) == (False, True)
    assert both.ok("deps", "-o", "devname", "c") == "1 dependencies\t: (a)\n"
    both.dm("remove", "c")
    assert both.ok("ls").split()[0] == "a"
    with open(both.node("a"), "rb"):
        busy = both.fusedm("dm", "remove", "a")
        assert (busy.returncode, busy.stdout) == (1, "")
        assert "is held by" in busy.stderr
    both.dm("remove", "a")
    assert both.left() == []


def test_a_device_that_cannot_have_its_node_is_not_there(both: Both) -> None:
    both.ok("create", "a", "--table", "0 8 zero")
    both.node("b").write_text("in the way")
    refused = both.fusedm("dm", "add", "b", "--table", "0 8 zero")
    assert refused.returncode != 0
    assert str(both.node("b")) in refused.stderr
    assert both.ok("ls").split()[0::2] == ["a"]
    both.node("b").unlink()
    both.dm("remove", "a")

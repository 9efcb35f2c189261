"""The cluster that the tests use: it keeps what it was given, and leaves nothing behind."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.ceph.conftest import MakeImage
from tests.helpers.ceph.cluster import Cluster

pytestmark = pytest.mark.ceph

ROOT = Path(__file__).resolve().parents[2]

#: Starts a cluster in a folder, tells of it, and waits.
STARTER = """\
import sys, time
from pathlib import Path
from tests.helpers.ceph.cluster import cluster
with cluster(Path(sys.argv[1])) as made:
    print(made.conf, flush=True)
    time.sleep(600)
"""


def test_what_was_written_is_there_after_the_osd_is_killed(
    ceph: Cluster, make_image: MakeImage
) -> None:
    data = bytes(range(256)) * 4096
    image = make_image(len(data))
    ceph.rbd("import", "-", image + "-copy", data=data)
    ceph.kill("osd")
    ceph.start_osd()
    assert ceph.rbd_bytes("export", image + "-copy", "-") == data


def test_programs_listen_on_the_loopback_address_only(ceph: Cluster) -> None:
    addresses = re.findall(r"v[12]:([0-9.\[\]:]+):\d+/", ceph.command("osd dump").decode())
    assert set(addresses) == {"127.0.0.1"}
    assert not re.search(r"v1:", ceph.command("mon dump").decode())


def test_nothing_runs_on_when_the_process_that_started_it_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "cluster"
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(folder)], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert starter.stdout is not None
    with starter.stdout:
        assert starter.stdout.readline()
        pids = [int((folder / f"{name}.pid").read_text()) for name in ("mon", "osd")]
        starter.kill()
        starter.wait()
    while any(_runs(pid) for pid in pids):
        time.sleep(0.02)


def test_two_clusters_at_once_do_not_meet(ceph: Cluster, tmp_path: Path) -> None:
    script = str(ROOT / "scripts/ceph.sh")
    folder = tmp_path / "by hand"
    started = subprocess.run([script, "start", str(folder)], capture_output=True, text=True)
    try:
        assert started.returncode == 0, started.stderr
        other = Cluster(folder)
        assert other.command("fsid") != ceph.command("fsid")
        other.rbd("create", "--size", "1M", "rbd/mine")
        assert "mine" not in ceph.rbd("ls", "rbd").split()
    finally:
        subprocess.run([script, "stop", str(folder)], check=True)
    assert not folder.exists()


def _runs(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    # A zombie of one whose new parent does not ask has ended all the same.
    return status.rpartition(")")[2].split()[0] != "Z"

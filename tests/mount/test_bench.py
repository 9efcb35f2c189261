"""`fusedm bench` for real, with whatever peers there are: whole, interrupted, and killed."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fusedm.bench.contest import PAIRS
from fusedm.bench.entrants import PACKAGES
from fusedm.bench.neighbours import neighbour_entrants
from fusedm.bench.ours import our_entrants
from fusedm.bench.record import Ratio, Record, to_json
from fusedm.host.mounts import SYSTEM_DIRS
from tests.helpers.cli import PROGRAM, wait_until
from tests.helpers.nightly import NIGHTLY
from tests.helpers.tiers import left_behind

pytestmark = [pytest.mark.fuse, pytest.mark.loop]

QUICK = ("bench", "--quick", "--rounds", "1", "--seconds", "0.2")
#: One job on files and one on file systems, which has loop devices over ours and over a peer.
BOTH = ("--only", "randread-4k-d1:linear", "--only", "sqlite:ext4")
#: Two daemons, a loop device over one, and files in the folder that is to be on a disk.
TWO_DAEMONS = ("--only", "linear-blocked", "--only", "sqlite:disk-ext4")
NEVER_ENDING = (
    PROGRAM, "bench", "--quick", "--rounds", "9999", "--seconds", "0.2", *BOTH, *TWO_DAEMONS,
)  # fmt: skip

PEERS = ("qemu-storage-daemon", "qemu-img", "nbdkit", "nbdfuse")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where a run makes its work folder; nothing may be left there or speak of it."""
    made = Path(tempfile.mkdtemp(prefix="fusedm-test-bench-", dir="/dev/shm"))
    yield made
    assert left_behind(str(made)) == []
    assert list(made.iterdir()) == []
    made.rmdir()


@pytest.fixture
def without_peers(tmp_path: Path) -> dict[str, str]:
    """An environment in which no peer is found, but all else."""
    for program in (*PACKAGES, "fusermount3", "mount", "umount", "sync", "git", "e2fsck"):
        found = shutil.which(program, path=os.pathsep.join((os.environ["PATH"], *SYSTEM_DIRS)))
        if found is not None and program not in PEERS:
            (tmp_path / program).symlink_to(found)
    return {**os.environ, "PATH": str(tmp_path)}


def run(folder, *words, env=None):
    """Run the benchmark to its end."""
    return run_alone(folder, "--disk-folder", folder, "--any-medium", *words, env=env)


def run_alone(folder, *words, env=None):
    """The same without a folder on a disk."""
    return subprocess.run(
        [PROGRAM, *QUICK, "--folder", folder, *words],
        capture_output=True, text=True, timeout=120, env=env,
    )  # fmt: skip


@contextmanager
def in_its_rounds(folder):
    """A benchmark that has everything up and would not end by itself."""
    with subprocess.Popen(
        [*NEVER_ENDING, "--folder", folder, "--disk-folder", folder, "--any-medium"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as bench:  # fmt: skip
        assert bench.stderr is not None
        said = ""
        while "round 1 of" not in said:
            line = bench.stderr.readline()
            assert line, said
            said += line
        yield bench


def ended(bench):
    """The exit code of a benchmark that ends by itself, and the last line it said."""
    _, errors = bench.communicate(timeout=60)
    assert "Traceback" not in errors
    return bench.returncode, errors.splitlines()[-1]


def child_of(pid):
    """The process that does the work."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def test_a_run_prints_one_table_and_writes_every_figure_and_the_picture(folder, tmp_path):
    files = ("--json", tmp_path / "a.json", "--plot", tmp_path / "a.png")
    done = run(folder, *BOTH, *files)
    assert done.returncode == 0, done.stderr
    assert "this takes about" in done.stderr
    lines = done.stdout.splitlines()
    assert "NO RESULT" in lines[0]
    assert lines[1].split() == [
        "JOB", "DEVICE", "MEDIAN", "AGAINST", "ITS", "MEDIAN", "RATIO", "GOAL",
    ]  # fmt: skip
    assert [line.split()[0] for line in lines[2:-1]] == [
        *["randread-4k-d1"] * 3, "sqlite",
    ]  # fmt: skip
    told = json.loads((tmp_path / "a.json").read_text())
    figures = {(figure["job"], figure["device"]): figure["rounds"] for figure in told["figures"]}
    assert len(figures["randread-4k-d1", "linear"]) == 1
    assert figures["sqlite", "ext4"][0] > 0
    assert told["versions"]["fio"].startswith("fio-")
    assert told["conditions"]["medium"] == "tmpfs"
    for ratio in told["ratios"]:
        ours, theirs = (figures[ratio["job"], ratio[side]][0] for side in ("device", "against"))
        assert ratio["rounds"] == [ours / theirs]
    assert len(told["ratios"]) + len(told["not_run"]) == 4
    assert (tmp_path / "a.png").stat().st_size > 1000 or not told["ratios"]


@NIGHTLY
def test_each_device_of_ours_gives_a_figure(folder, tmp_path):
    words = ("randread-4k-d1", "fsync-4k-d1", "slow-neighbour", "sqlite:ext4-crypt")
    only = [option for word in words for option in ("--only", word)]
    done = run(folder, *only, "--json", tmp_path / "a.json")
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "a.json").read_text())
    measured = {figure["device"] for figure in told["figures"]}
    ours = {entrant.name for entrant in (*our_entrants(), *neighbour_entrants())}
    assert ours | {"ext4-crypt"} <= measured
    assert {item["against"] for item in told["not_run"]} <= {
        pair.against for pair in PAIRS if pair.against.startswith(("qemu", "nbd"))
    }


@pytest.mark.alone  # Its mount namespace holds what others have mounted.
def test_without_a_disk_its_rows_say_so_and_the_others_are_measured(folder):
    # The two that are looked at if no other is named are hidden below a tmpfs.
    words = (PROGRAM, *QUICK, "--folder", folder, "--only", "randread-4k-d1:disk*")
    hidden = f"mount -t tmpfs none /var/tmp && cd /proc && {shlex.join(map(str, words))}"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", hidden], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if " disk-linear " in line]
    assert len(rows) == 1
    assert "not run: /var/tmp: is on tmpfs, not on a disk; /proc: is on proc" in rows[0]
    assert "store-loop" in done.stdout


def test_an_interrupted_run_leaves_nothing(folder):
    with in_its_rounds(folder) as bench:
        os.killpg(bench.pid, signal.SIGINT)
        assert ended(bench) == (1, "fusedm: the benchmark was interrupted")


@NIGHTLY
def test_a_killed_run_leaves_nothing(folder):
    with in_its_rounds(folder) as bench:
        bench.kill()
        bench.communicate(timeout=60)
    wait_until(lambda: not left_behind(str(folder)) and not list(folder.iterdir()))


def test_a_run_whose_worker_is_killed_leaves_nothing(folder):
    with in_its_rounds(folder) as bench:
        os.kill(child_of(bench.pid), signal.SIGKILL)
        text = "fusedm: the benchmark was killed by signal 9; nothing of it is left"
        assert ended(bench) == (1, text)


def test_a_peer_that_is_missing_has_rows_that_say_so_and_no_figure(folder, without_peers, tmp_path):
    words = ("--only", "randread-4k-d1:linear", "--json", tmp_path / "a.json")
    done = run(folder, *words, env=without_peers)
    assert done.returncode == 0, done.stderr
    qemu, memory, _ = done.stdout.splitlines()[2:-1]
    text = "not run: qemu-storage-daemon is not installed (apt-get install qemu-system-common)"
    assert text in qemu
    assert "not run: nbdfuse, nbdkit are not installed (apt-get install libnbd-bin" in memory
    told = json.loads((tmp_path / "a.json").read_text())
    assert [figure["device"] for figure in told["figures"]] == ["linear"]
    assert (told["ratios"], len(told["not_run"])) == ([], 3)


def test_a_peer_that_is_required_and_missing_ends_the_run_before_it_begins(folder, without_peers):
    done = run(folder, "--only", "disk", "--require-peers", env=without_peers)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "fusedm: --require-peers: nbd-memory: nbdfuse, nbdkit are not installed "
        "(apt-get install libnbd-bin nbdkit)\n"
    )


def test_a_ratio_that_fell_is_told_of_and_the_exit_code_is_1(folder, tmp_path):
    old = Ratio("slow-neighbour", "linear-busy", "linear", 0.9, [1e9])
    record = Record("compare", False, {}, {}, {}, [], [old])
    (tmp_path / "old.json").write_text(to_json(record))
    done = run(folder, "--only", "slow-neighbour", "--compare", tmp_path / "old.json")
    assert done.returncode == 1
    assert (
        "slow-neighbour linear-busy against linear: the ratio fell from 1000000000" in done.stdout
    )
    assert done.stderr.endswith("fusedm: 1 ratios fell by more than a factor of 1.2\n")


def test_the_layers_of_a_request_are_told_for_reads_and_writes(folder):
    done = run_alone(folder, "--layers")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()[2:-1]
    assert [line.split()[0] for line in lines] == ["read"] * 5 + ["write"] * 5
    for layer in ("store", "FUSE", "mapping", "crypto"):
        assert sum(layer in line for line in lines) == 2


def test_the_memory_check_tells_the_peak_the_start_and_many_devices(folder):
    done = run_alone(folder, "--memory", "--minutes", "0.02")
    assert done.returncode == 0, done.stderr
    for text in ("start to ready", "growth under the load", "peak", "adding one", "looking one up"):
        assert text in done.stdout

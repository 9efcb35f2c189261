"""scripts/xfstests.sh, with a tree that stands in for xfstests and calls dmsetup as it does."""

import os
import subprocess
from pathlib import Path

import pytest

#: It uses /dev/mapper, as xfstests does.
pytestmark = [pytest.mark.fuse, pytest.mark.loop, pytest.mark.alone]

SCRIPT = Path(__file__).parents[2] / "scripts/xfstests.sh"

#: What it is asked for is told as the real one tells it; a test that makes a .notrun was not run.
CHECK = r"""#!/bin/bash
. "$HOST_OPTIONS"
cp "$HOST_OPTIONS" "$RECORD/$FSTYP"
mkdir -p "$RESULT_BASE"
for name in "$@"; do
    rm -f notrun
    ran="$ran $name"
    if ! "tests/$name"; then failed="$failed $name"; elif [ -e notrun ]; then none="$none $name"; fi
done
echo "Ran:$ran"
[ -z "$none" ] || echo "Not run:$none"
[ -z "$failed" ] || echo "Failures:$failed"
"""
HEAD = '#!/bin/sh\n# _require_dm_target flakey\n. "$HOST_OPTIONS"\nset -eu\n'
TESTS = {
    "generic/034": HEAD
    + """
dev=${SCRATCH_DEV:-${SCRATCH_DEV_POOL%% *}}
size=$(blockdev --getsz "$dev")
dmsetup create flakey-test --table "0 $size linear $dev 0"
${UDEV_WAIT_PROG-udevadm wait} /dev/mapper/flakey-test >/dev/null 2>&1 || :
name=$(basename $(readlink -f /dev/mapper/flakey-test))
if [ $FSTYP = xfs ]; then test -d /sys/class/block/$name; else test $name = flakey-test; fi
mkfs.$FSTYP -q /dev/mapper/flakey-test >/dev/null
mkdir -p "$SCRATCH_MNT"; mount /dev/mapper/flakey-test "$SCRATCH_MNT"
dmsetup suspend --nolockfs flakey-test
dmsetup load flakey-test --table "0 $size flakey $dev 0 0 180 1 drop_writes"
dmsetup resume flakey-test
umount "$SCRATCH_MNT"; dmsetup remove flakey-test
""",
    "generic/035": HEAD + "touch notrun\n",
    "generic/036": HEAD + "dmsetup create left --table '0 8 zero'; exit 1\n",
    "generic/037": "#!/bin/sh\n# _require_dm_target thin-pool\nexit 1\n",
    "generic/038": "#!/bin/sh\n# _require_scratch\nexit 1\n",
    "xfs/001": HEAD,
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    for name, text in {"check": CHECK, **{f"tests/{n}": text for n, text in TESTS.items()}}.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
        (tree / name).chmod(0o755)
        (tree / name).with_suffix(".out").write_text("_require_dm_target\n")
    return tree


def run(tree: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    (tree.parent / "record").mkdir(exist_ok=True)
    return subprocess.run(
        [SCRIPT, *words], cwd=tree.parent, capture_output=True, text=True, timeout=300,
        env={**os.environ, "XFSTESTS": str(tree), "SIZE": "1G", "TMPDIR": str(tree.parent),
             "RECORD": str(tree.parent / "record")},
    )  # fmt: skip


def test_the_tests_that_ask_for_a_target_are_listed(tree: Path) -> None:
    assert run(tree, "-l").stdout.split() == [
        *("generic/034", "generic/035", "generic/036", "xfs/001")
    ]


def test_what_passes_and_fails_is_told_in_a_table_and_nothing_is_left(tree: Path) -> None:
    done = run(tree, "ext4")
    assert done.stdout.endswith("\next4 | 3 | 1 | 1 | 1\n"), done
    assert done.returncode == 1
    config = (tree.parent / "record/ext4").read_text()
    assert "LOGWRITES_DEV=/dev/loop" in config
    kept = sorted(path.name for path in tree.parent.iterdir())
    assert kept == ["record", "tree", "xfstests-results"]
    assert not Path("/dev/mapper/left").exists()
    over = [line for line in loop_files() if str(tree.parent) in line]
    assert over == []


def loop_files() -> list[str]:
    """What every loop device of this machine lies over."""
    return [path.read_text() for path in Path("/sys/block").glob("loop*/loop/backing_file")]


def test_nodes_of_xfs_are_links_and_those_of_btrfs_are_not(tree: Path) -> None:
    done = run(tree, "xfs", "btrfs", "--", "generic/034")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\nxfs | 1 | 1 | 0 | 0\nbtrfs | 1 | 1 | 0 | 0\n")
    assert "SCRATCH_DEV_POOL=" in (tree.parent / "record/btrfs").read_text()


@pytest.mark.parametrize(
    ("words", "says"), [(("zfs",), "zfs: is not -l, ext4, xfs, btrfs or --"), ((), "has no check")]
)
def test_what_is_missing_is_said(tree: Path, words: tuple[str, ...], says: str) -> None:
    (tree / "check").unlink()
    done = run(tree, *words)
    assert (done.returncode, says in done.stderr) == (2, True), done.stderr

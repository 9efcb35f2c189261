"""Scripts as storage test suites write them, with the shim's dmsetup and real file systems."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fusedm.host import loop
from tests.helpers.dmsetup import Dmsetup, dmsetup_in

pytestmark = [pytest.mark.fuse, pytest.mark.loop]

SIZE_BYTES = 64 << 20

#: What begins each: DEV is a block device, MAPPER where nodes are.
SETTING = "DEV={dev}; MAPPER=$DM_DEV_DIR/mapper; SZ=$(blockdev --getsz $DEV); mkdir -p mnt\n"

CRASH = """
ALLOW="0 $SZ flakey $DEV 0 180 0"
DROP="0 $SZ flakey $DEV 0 0 180 1 drop_writes"
NODE=$MAPPER/flakey-test

load_table() {
    dmsetup suspend --nolockfs flakey-test
    dmsetup load flakey-test --table "$1"
    dmsetup resume --nolockfs flakey-test
}

dmsetup create flakey-test --table "$ALLOW"
MKFS $NODE
mount $NODE mnt
trap 'umount mnt 2>/dev/null; dmsetup remove --retry flakey-test' EXIT
echo kept > mnt/kept
sync mnt/kept; sync -f mnt
load_table "$DROP"
echo lost > mnt/lost
sync mnt/lost || true
umount mnt
load_table "$ALLOW"
mount $NODE mnt
cat mnt/kept
test ! -e mnt/lost && echo lost as it should be
umount mnt
FSCK $NODE > fsck.log
dmsetup status flakey-test
dmsetup remove flakey-test
trap - EXIT
dmsetup ls
"""

ERRORS = """
dmsetup create bad <<TABLE
0 2048 linear $DEV 0
2048 8 error
2056 2048 linear $DEV 2056
TABLE
dd if=$MAPPER/bad of=/dev/null bs=1M count=1 iflag=direct 2>/dev/null && echo the beginning
dd if=$MAPPER/bad of=/dev/null bs=4096 skip=256 count=1 iflag=direct 2>/dev/null || echo an error
dd if=$MAPPER/bad of=/dev/null bs=4096 skip=257 count=1 iflag=direct 2>/dev/null && echo the end
dmsetup wipe_table bad
dd if=$MAPPER/bad of=/dev/null bs=4096 count=1 iflag=direct 2>/dev/null || echo all errors
dmsetup table bad
dmsetup remove bad
"""


@pytest.fixture
def dmsetup(tmp_path: Path) -> Iterator[Dmsetup]:
    with dmsetup_in(tmp_path) as dmsetup:
        yield dmsetup


@pytest.fixture
def setting(dmsetup: Dmsetup) -> Iterator[str]:
    """The beginning of a script; its device is a loop device over a file of holes."""
    device = loop.attach(str(dmsetup.image("disk.img", SIZE_BYTES)), 512)
    try:
        yield SETTING.format(dev=device.node)
    finally:
        dmsetup.end()
        loop.release_all(str(dmsetup.folder), force=True)


@pytest.mark.parametrize(
    ("make", "check"),
    [("mkfs.ext4 -q -F", "e2fsck -fn"), ("mkfs.xfs -q -f", "xfs_repair -n")],
    ids=["ext4", "xfs"],
)
def test_a_file_system_survives_a_crash_by_dropped_writes(
    dmsetup: Dmsetup, setting: str, make: str, check: str
) -> None:
    if make.startswith("mkfs.xfs"):
        setting = setting.replace("SZ=", f"truncate -s 400M {dmsetup.folder}/disk.img;"
                                  "losetup --set-capacity $DEV; SZ=")  # fmt: skip
    said = dmsetup.script(setting + CRASH.replace("MKFS", make).replace("FSCK", check))
    size = (400 << 11) if make.startswith("mkfs.xfs") else SIZE_BYTES >> 9
    assert said == f"kept\nlost as it should be\n0 {size} flakey \nNo devices found\n"


def test_errors_where_the_table_says(dmsetup: Dmsetup, setting: str) -> None:
    assert dmsetup.script(setting + ERRORS) == (
        "the beginning\nan error\nthe end\nall errors\n0 4104 error \n"
    )

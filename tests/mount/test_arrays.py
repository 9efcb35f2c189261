"""Arrays that lose disks under file systems that are in use."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.dm_scripts import FILE_SYSTEMS, run_script
from tests.helpers.dmsetup import Dmsetup, dmsetup_in
from tests.helpers.nightly import nightly_but

pytestmark = [pytest.mark.fuse, pytest.mark.loop]
#: A file system and a kind of array of each; the rest is tried by night.
EVERY_RUN = [("raid1", "xfs"), ("raid5_ls", "ext4"), ("raid10", "btrfs")]


@pytest.fixture
def dmsetup(tmp_path: Path) -> Iterator[Dmsetup]:
    with dmsetup_in(tmp_path) as dmsetup:
        yield dmsetup


#: Kinds of arrays, and file systems on them.
ARRAYS = [
    *(("raid1", fs) for fs in FILE_SYSTEMS),
    *(("raid5_ls", fs) for fs in FILE_SYSTEMS),
    *(("raid10", fs) for fs in ("xfs", "btrfs")),
    *(("mirror", fs) for fs in ("ext4", "xfs")),
]
#: A file system and a kind of array of each; the rest is tried by night.
EVERY_RUN = [("raid1", "xfs"), ("raid5_ls", "ext4"), ("raid10", "btrfs")]


@pytest.mark.parametrize(("kind", "fs"), nightly_but(EVERY_RUN, ARRAYS))
def test_a_disk_that_is_pulled_in_use_is_replaced_and_rebuilt_and_then_another_may_go(
    dmsetup: Dmsetup, kind: str, fs: str
) -> None:
    run_script(dmsetup, "array", fs, kind)

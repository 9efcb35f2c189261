"""Thin pools as those use them who write for the kernel's: containers, and suites of tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.dm_scripts import run_script
from tests.helpers.dmsetup import Dmsetup, dmsetup_in

pytestmark = [pytest.mark.fuse, pytest.mark.loop]


@pytest.fixture
def dmsetup(tmp_path: Path) -> Iterator[Dmsetup]:
    with dmsetup_in(tmp_path) as dmsetup:
        yield dmsetup


@pytest.mark.parametrize("fs", ["ext4", "xfs"])
def test_layers_of_images_are_snapshots_of_snapshots(dmsetup: Dmsetup, fs: str) -> None:
    run_script(dmsetup, "thin-containers", fs)


def test_thin_devices_share_what_they_have_in_common_and_give_back_what_they_have_alone(
    dmsetup: Dmsetup,
) -> None:
    run_script(dmsetup, "thin-snapshots")


@pytest.mark.parametrize("fs", ["ext4", "xfs"])
def test_a_pool_that_is_full_is_grown_under_a_file_system_that_waits_for_it(
    dmsetup: Dmsetup, fs: str
) -> None:
    run_script(dmsetup, "thin-grow", fs)

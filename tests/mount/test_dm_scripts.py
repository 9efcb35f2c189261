"""Scripts as storage test suites write them, which only know dmsetup, through the shim."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import write_log
from tests.helpers.dm_scripts import on_file_systems, run_script
from tests.helpers.dmsetup import Dmsetup, dmsetup_in

pytestmark = [pytest.mark.fuse, pytest.mark.loop]

POINTS = 12


@pytest.fixture
def dmsetup(tmp_path: Path) -> Iterator[Dmsetup]:
    with dmsetup_in(tmp_path) as dmsetup:
        yield dmsetup


@on_file_systems("xfs")
def test_what_was_durable_before_a_disk_lost_writes_is_there_after(
    dmsetup: Dmsetup, fs: str
) -> None:
    run_script(dmsetup, "flakey", fs)


@on_file_systems("ext4", of=("ext4", "xfs"))
def test_a_file_system_survives_a_disk_that_was_gone(dmsetup: Dmsetup, fs: str) -> None:
    run_script(dmsetup, "error", fs)


@on_file_systems("ext4")
def test_bad_blocks_are_met_and_healed_through_files_too(dmsetup: Dmsetup, fs: str) -> None:
    run_script(dmsetup, "dust", fs)


def test_a_slow_disk_is_as_slow_as_its_table_says(dmsetup: Dmsetup) -> None:
    run_script(dmsetup, "delay", "ext4")


@on_file_systems("btrfs")
def test_a_snapshot_of_a_mounted_file_system_holds_until_it_is_full(
    dmsetup: Dmsetup, fs: str
) -> None:
    run_script(dmsetup, "snapshot", fs)


def test_a_file_system_becomes_what_its_snapshot_was_while_it_is_in_use(dmsetup: Dmsetup) -> None:
    run_script(dmsetup, "merge", "ext4")


@on_file_systems("xfs")
def test_a_pool_has_a_device_and_snapshots_of_snapshots_and_grows(
    dmsetup: Dmsetup, fs: str
) -> None:
    run_script(dmsetup, "thin", fs)


def test_a_file_system_waits_for_room_in_its_pool_and_goes_on(dmsetup: Dmsetup) -> None:
    run_script(dmsetup, "thin-full", "ext4")


def test_what_table_shows_can_be_loaded_for_every_target(dmsetup: Dmsetup) -> None:
    run_script(dmsetup, "round-trip")


@on_file_systems("ext4")
def test_every_point_of_a_log_can_be_recovered_to(dmsetup: Dmsetup, fs: str) -> None:
    run_script(dmsetup, "log-writes", fs)
    disk, log = dmsetup.folder / "disk.img", dmsetup.folder / "log.img"
    entries = list(write_log.entries(log.read_bytes()))
    marks = [entry.text for entry in entries if entry.kind == "mark"]
    files = [f"file{number}" for number in (1, 2, 3, 4)]
    assert marks == ["begin", "mkfs", *files, "unmounted", "dm-log-writes-end"]
    made = next(index for index, entry in enumerate(entries) if entry.text == "mkfs")
    points = {index for index, entry in enumerate(entries) if entry.text in (*files, "unmounted")}
    flushes = [n for n, entry in enumerate(entries) if entry.kind == "flush" and n > made]
    assert len(flushes) >= len(files)
    points |= {made, *flushes[:: -(-len(flushes) // (POINTS - len(points) - 1))]}
    image, point = dmsetup.image("replayed.img", disk.stat().st_size), dmsetup.folder / "point.img"
    durable = 0
    with image.open("r+b", buffering=0) as file:
        for index, entry in enumerate(entries):
            if entry.kind in (*write_log.WRITES, "discard"):
                os.pwrite(file.fileno(), entry.data or bytes(entry.length), entry.offset)
            durable += entry.text in files
            if index in points:
                subprocess.run(["cp", "--sparse=always", image, point], check=True, timeout=60)
                run_script(dmsetup, "recover", fs, str(point), str(durable))
    assert image.read_bytes() == disk.read_bytes()

"""Who is measured against whom, and how --only chooses."""

import pytest

from fusedm.bench.contest import PAIRS, choose, entrants_of, jobs_of, rotated
from fusedm.bench.jobs import FIO_JOBS, JOBS
from fusedm.block.errors import UsageError

GOALS = {(pair.job.name, pair.device, pair.against): pair.goal for pair in PAIRS}


@pytest.mark.parametrize(
    ("job", "device", "against", "goal"),
    [
        ("randread-4k-d1", "linear", "qemu-raw", 2),
        ("randwrite-4k-d16", "linear", "qemu-raw", 1.5),
        ("write-1m-d4", "linear", "qemu-raw", 1.5),
        ("randread-4k-d1", "view4096", "qemu-luks", 2),
        ("randread-4k-d16", "view4096", "qemu-luks", 2.5),
        ("read-1m-d4", "view4096", "qemu-luks", 6),
        ("randwrite-4k-d1", "view512", "qemu-luks", 1.5),
        ("randwrite-4k-d16", "view512", "qemu-luks", 2),
        ("read-1m-d4", "view512", "qemu-luks", 4),
        ("randread-4k-d1", "disk", "nbd-memory", 2),
        ("write-1m-d4", "view512", "nbd-luks", 2),
        ("read-1m-d4", "view4096", "openssl-4096", None),
        ("randread-4k-d1", "disk", "store-loop", None),
        ("slow-neighbour", "linear-busy", "linear", 0.9),
        ("slow-neighbour", "linear-blocked", "linear", 0.9),
        ("randwrite-4k-d1", "disk-linear", "qemu-raw-disk", 2),
        ("randread-4k-d16", "disk-linear", "qemu-raw-disk", 1.5),
        ("read-1m-d4", "disk-linear", "qemu-raw-disk", 1.5),
        ("write-1m-d4", "disk-linear", "qemu-raw-disk", 1),
        ("randread-4k-d16", "disk-view", "qemu-luks-disk", 2),
        ("write-1m-d4", "disk-view", "qemu-luks-disk", 4),
        ("randwrite-4k-d1", "view-fallback", "qemu-luks", 2),
        ("read-1m-d4", "crypt", "qemu-luks", 4),
        ("randread-4k-d16", "flakey", "qemu-raw", 1.5),
        ("read-1m-d4", "dust", "qemu-raw", 1.5),
        ("write-1m-d4", "striped", "qemu-raw", 1),
        ("randread-4k-d16", "nbd-store-0ms", "nbdfuse-0ms", 1.5),
        ("write-1m-d4", "nbd-store-10ms", "qemu-nbd-10ms", 1),
        ("fsync-4k-d1", "disk-linear", "qemu-raw-disk", 1),
        ("untar", "ext4", "qemu-luks-ext4", 1.3),
        ("sqlite", "ext4", "qemu-luks-ext4", 1.2),
        ("untar", "disk-ext4", "qemu-luks-ext4-disk", 1.3),
        ("sqlite", "ext4-linear", "loop-ext4", None),
    ],
)
def test_the_goals_are_those_that_were_set(job, device, against, goal):
    assert GOALS[job, device, against] == goal


def test_no_pair_is_there_twice():
    assert len(GOALS) == len(PAIRS)


def test_every_job_is_in_a_pair():
    assert jobs_of(PAIRS) == list(JOBS)


def test_without_patterns_all_pairs_are_chosen():
    assert choose([]) == list(PAIRS)


def test_a_pattern_is_that_of_a_job_or_of_a_device():
    assert {pair.job.name for pair in choose(["randread-*"])} == {
        "randread-4k-d1",
        "randread-4k-d16",
    }
    assert {pair.device for pair in choose(["view*"])} == {
        "view4096",
        "view512",
        "view-fallback",
    }


def test_a_pattern_with_a_colon_is_both():
    assert [(pair.job.name, pair.device) for pair in choose(["read-1m-d4:disk"])] == [
        ("read-1m-d4", "disk"),
        ("read-1m-d4", "disk"),
    ]


def test_all_that_lies_on_a_disk_is_one_group():
    chosen = choose(["disk-*"])
    assert {pair.device for pair in chosen} == {"disk-linear", "disk-view", "disk-ext4"}
    assert all(pair.against.endswith("-disk") for pair in chosen)


def test_of_several_patterns_each_chooses():
    assert {pair.job.name for pair in choose(["untar", "sqlite"])} == {"untar", "sqlite"}


@pytest.mark.parametrize("pattern", ["nothing", "untar:disk", "", ":"])
def test_a_pattern_that_means_nothing_is_refused_with_the_names_there_are(pattern):
    with pytest.raises(UsageError) as caught:
        choose(["untar", pattern])
    text = str(caught.value)
    assert text.startswith(f"--only {pattern}: is none of the 18 jobs (randread-4k-d1, ")
    assert "of the 22 devices (disk, linear, view4096, view512, view-fallback, crypt, " in text


def test_everybody_who_takes_part_is_named_once():
    names = entrants_of(PAIRS, FIO_JOBS[0])
    assert len(names) == len(set(names)) == 28
    assert set(names) < set(entrants_of(PAIRS))


def test_each_round_begins_with_another_one():
    assert [rotated("abc", number) for number in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]
    assert rotated([], 3) == []

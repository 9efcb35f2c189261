"""Bytes, replies and logs of flakey, dust and log-writes beside the kernel's."""

from collections.abc import Mapping

import pytest

from tests.helpers.uml.compare import NONE, compare
from tests.helpers.uml.experiment import DiskSpec, Experiment, Outcome, Step, started, step

pytestmark = pytest.mark.kernel

DISKS = {"d0": DiskSpec(seed=3), "d1": DiskSpec()}
LAYOUT = {"d0": DiskSpec(), "d1": DiskSpec()}


def logged(entries: int, sector: int) -> Step:
    """The status once the log has so many entries and ends there: a thread of the kernel's does."""
    return step("status_when", "x", f"0 1024 log-writes {entries} {sector}")


def told(*texts: str) -> list[Step]:
    return [step("message", "x", 0, text) for text in texts]


#: Its iterator is at the end when the read has ended, so nothing is changed.
LATER = "Linux 7.2 is followed: 6.1 means to damage reads, but never does"


def flakey(words: str) -> Experiment:
    """Some I/O through a device that is always down."""
    departs = LATER if " r " in words.lower() else ""
    steps = (
        *started("x", f"0 64 flakey d0 8 0 60 {words}"),
        step("read", "x", 0, 4096, departs=departs),
        step("write", "x", 4096, 4096, 1),
        step("read", "x", 4096, 1024, departs=departs),
        step("flush", "x"),
        step("remove", "x"),
    )
    return Experiment(steps, DISKS, images=True)


EXPERIMENTS = {
    **{
        words: flakey(words)
        for words in (
            "1 drop_writes",
            "1 error_writes",
            "5 corrupt_bio_byte 32 r 7 0",
            "5 corrupt_bio_byte 32 w 7 0",
            "5 corrupt_bio_byte 4096 w 255 0",
            "5 corrupt_bio_byte 4097 w 255 0",
            "5 CORRUPT_BIO_BYTE 1 W 0 1",
            "6 drop_writes corrupt_bio_byte 1024 R 9 0",
        )
    },
    "dust: messages": Experiment(
        (
            *started("x", "0 1024 dust d0 0 512"),
            *told("countbadblocks", "listbadblocks", "addbadblock 60", "addbadblock 60"),
            *told("AddBadBlock 67 3", "queryblock 60", "queryblock 61", "listbadblocks"),
            *told("countbadblocks", "enable", "quiet", "removebadblock 61", "addbadblock x"),
            *told("addbadblock 61 256", "addbadblock 2048", "addbadblock 2049", "addbadblock"),
            *told("enable 1", "nosuch", "queryblock", "removebadblock 60 1", "disable"),
            step("status", "x"),
            step("table", "x"),
            *told("removebadblock 60", "clearbadblocks", "clearbadblocks", "quiet"),
            step("status", "x"),
            step("remove", "x"),
        ),
        DISKS,
    ),
    "dust: bad blocks": Experiment(
        (
            *started("x", "0 1024 dust d0 16 1024"),
            *told("addbadblock 10", "addbadblock 12 2"),
            step("read", "x", 4 * 512, 1024),
            *told("enable"),
            *(step("read", "x", sector * 512, 512) for sector in (1, 3, 4, 5, 6, 7, 8, 9, 10)),
            *(step("write", "x", 8 * 512, 1024, seed) for seed in range(3)),
            *told("listbadblocks"),
            step("read", "x", 8 * 512, 1024),
            step("write", "x", 0, 8192, 2),
            *told("listbadblocks"),
            step("read", "x", 0, 8192),
            step("remove", "x"),
        ),
        DISKS,
        images=True,
    ),
    "log-writes: the log, to the byte": Experiment(
        (
            *started("x", "0 1024 log-writes d0 d1"),
            step("status", "x"),
            *told("mark begin", "mark", "mark a b", "nosuch x"),
            step("write", "x", 4096, 1024, 3),
            step("write", "x", 0, 512, 4),
            logged(1, 1),
            step("flush", "x"),
            step("write", "x", 0, 4096, 5),
            *told("mark middle"),
            logged(5, 8),
            step("read", "x", 0, 4096),
            step("flush", "x"),
            step("write", "x", 512, 512, 6),
            step("table", "x"),
            step("remove", "x"),
        ),
        LAYOUT,
        images=True,
    ),
}


#: Where the log has the last write before a flush: with FUA here, since a loop device has none.
DURABLE = {"log-writes: the log, to the byte": {"d1": [5, 9]}}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_it_is_as_under_the_kernel(kernel: Mapping[str, Outcome], name: str) -> None:
    compare(EXPERIMENTS[name], kernel[name], DURABLE.get(name, NONE))

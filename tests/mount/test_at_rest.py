"""Once a verb has said that nothing is under way, no call reaches the store, under load."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.crowd import wait_until
from tests.helpers.load import fio_running
from tests.helpers.mounted import MIB, Mounted
from tests.helpers.nightly import nightly_but
from tests.helpers.places import folder_on_disk
from tests.helpers.store_faults import KINDS, StoreFaults, stack_with_faults

pytestmark = pytest.mark.fuse

SIZE = 4 * MIB
SECTORS = SIZE // 512
ROUNDS = 12

#: How long something is watched that must not happen.
WATCHED_SECONDS = 0.03

STACK = f"""
version = 1
[disks.d0]
size = "{SIZE}"
store = "file:STORE"
engine = {{ keyslots = 2, max_dun_bytes = 8, modes = {{ "AES-256-XTS" = [4096] }} }}
[disks.d1]
size = "{SIZE}"
store = "memory:"
[mapper.vol]
table = "0 {SECTORS} linear d0 0"
[mapper.top]
table = "0 {SECTORS} linear vol 0"
[keys.alice]
mode = "AES-256-XTS"
data_unit_size = 4096
dun_bytes = 8
source = "file:alice.key"
[views.home]
device = "top"
key = "alice"
"""


@pytest.fixture(params=["mapper/vol", "views/home"])
def loaded(
    request: pytest.FixtureRequest, tmp_path: Path, store_faults: Path
) -> Iterator[tuple[Mounted, StoreFaults]]:
    """A stack, one of whose files is written all the time."""
    with folder_on_disk(tmp_path) as folder:
        store = folder / "d0.img"
        store.touch()
        os.truncate(store, SIZE)
        text = STACK.replace("STORE", str(store))
        with (
            stack_with_faults(text, tmp_path, store_faults, store) as (stack, faults),
            fio_running(stack.mount_point / request.param),
        ):
            yield stack, faults


def calls(faults: StoreFaults) -> int:
    return sum(faults.told(kind, "calls") for kind in KINDS)


def is_called(faults: StoreFaults) -> bool:
    """Whether anything reaches the store within a moment."""
    before = calls(faults)
    time.sleep(WATCHED_SECONDS)
    return calls(faults) != before


@pytest.mark.parametrize("name", ["vol", "top"])
@pytest.mark.parametrize("noflush", nightly_but([False], [False, True]))
def test_nothing_reaches_the_store_of_a_suspended_device(
    loaded: tuple[Mounted, StoreFaults], name: str, noflush: bool
) -> None:
    stack, faults = loaded
    name = "vol" if stack.call("dm.show", name="top")["open"] == 0 else name
    for _ in range(ROUNDS):
        stack.call("dm.suspend", name=name, noflush=noflush)
        try:
            assert not is_called(faults)
        finally:
            stack.call("dm.resume", name=name)
        before = calls(faults)
        wait_until(lambda before=before: calls(faults) > before)


def test_nothing_reaches_the_store_that_a_new_table_has_left(
    loaded: tuple[Mounted, StoreFaults],
) -> None:
    stack, faults = loaded
    for _ in range(ROUNDS):
        stack.call("dm.load", name="vol", table=f"0 {SECTORS} linear d1 0")
        stack.call("dm.resume", name="vol")
        assert not is_called(faults)
        stack.call("dm.load", name="vol", table=f"0 {SECTORS} linear d0 0")
        stack.call("dm.resume", name="vol")
        before = calls(faults)
        wait_until(lambda before=before: calls(faults) > before)

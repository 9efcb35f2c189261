"""A pool's metadata cross over: the kernel's are read and written on here, and the reverse."""

import base64
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from fusedm.dm.thin.pool_metadata import PoolMetadata
from tests.helpers.thin_metadata import Medium, Tools, mappings, needs_tools, refill
from tests.helpers.uml import machine
from tests.helpers.uml.experiment import DiskSpec, Experiment, Outcome, Step, started, step

pytestmark = [pytest.mark.kernel, needs_tools]

BLOCKS = 200
CHUNK = 128 * 512
DATA_SECTORS = BLOCKS * 128
META_SECTORS = 4096
POOL = started("pool", f"0 {DATA_SECTORS} thin-pool meta data 128 0 1 skip_block_zeroing")
END = (step("status", "pool"), step("remove", "pool"), step("peek", "meta", 0, META_SECTORS * 512))


def told(*words: str) -> tuple[Step, ...]:
    return tuple(step("message", "pool", 0, each) for each in words)


def thin(device: int, sectors: int = 50 * 128) -> tuple[Step, ...]:
    return started(f"thin{device}", f"0 {sectors} thin pool {device}")


def gone(*devices: int) -> tuple[Step, ...]:
    return tuple(step("remove", f"thin{device}") for device in devices)


def written(device: int, blocks: Iterable[int]) -> tuple[Step, ...]:
    return tuple(step("write", f"thin{device}", block * CHUNK, 4096, block) for block in blocks)


DISKS = {"meta": DiskSpec(META_SECTORS), "data": DiskSpec(DATA_SECTORS)}
BUSY = (
    *POOL,
    *told("create_thin 0", "create_thin 5", "set_transaction_id 0 7"),
    *(*thin(0), *thin(5)),
    *written(0, (3, 1, 2, 30, 4)),
    *written(5, range(40)),
    step("suspend", "thin5"),
    *told("create_snap 6 5", "create_snap 7 5", "create_snap 8 5"),
    step("resume", "thin5"),
    *thin(6),
    *written(5, (1, 2)),
    *written(6, (2, 45)),
    step("discard", "thin6", 10 * CHUNK, 5 * CHUNK),
)
EXPERIMENTS = {
    "new": Experiment((*POOL, *END), DISKS),
    "busy": Experiment((*BUSY, *gone(0, 5, 6), *END), DISKS),
    "held": Experiment(
        (
            *BUSY,
            *told("reserve_metadata_snap"),
            *written(0, (9, 10)),
            *gone(0, 5, 6),
            *told("delete 5"),
            *END,
        ),
        DISKS,
    ),
}


def image(outcome: Outcome) -> bytes:
    assert not any("errno" in answer for answer in outcome.answers), outcome.answers
    return base64.b64decode(outcome.answers[-1]["bytes"])


def status(outcome: Outcome) -> str:
    """The pool's words before its end."""
    return str(outcome.answers[-3]["text"])


def counted(pool: PoolMetadata) -> str:
    """What status says of space."""
    metadata, data = pool.metadata_blocks, pool.data_blocks
    used = metadata - pool.free_metadata_blocks
    return f"{pool.transaction_id} {used}/{metadata} {data - pool.free_data_blocks}/{data} "


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_what_the_kernel_has_written_is_read(
    kernel: Mapping[str, Outcome], tmp_path: Path, name: str
):
    found = image(kernel[name])
    pool = Medium(image=found).open()
    dump = Tools(tmp_path).dump(found)
    assert mappings(pool) == dump.mappings
    assert counted(pool) in status(kernel[name])
    assert bool(pool.held_root) == (name == "held")
    for device, times in dump.times.items():
        for block, time in times.items():
            assert pool.lookup(device, block)[1] == (time < dump.details[device][3])


def here() -> tuple[Medium, PoolMetadata]:
    """What BUSY does, done here."""
    medium = Medium(META_SECTORS // 8)
    pool = medium.open()
    pool.resize_data(BLOCKS)
    pool.create_thin(0)
    pool.create_thin(5)
    pool.set_transaction_id(0, 7)
    for block in (3, 1, 2, 30, 4):
        pool.insert(0, block, pool.allocate())
    for block in range(40):
        pool.insert(5, block, pool.allocate())
    for device in (6, 7, 8):
        pool.create_snap(device, 5)
    for device, block in ((5, 1), (5, 2), (6, 2), (6, 45)):
        pool.insert(device, block, pool.allocate())
    pool.remove(6, 10, 15)
    medium.run(pool.commit())
    refill(pool)
    return medium, pool


def test_the_same_changes_are_the_same_metadata(kernel: Mapping[str, Outcome]):
    _, pool = here()
    assert mappings(pool) == mappings(Medium(image=image(kernel["busy"])).open())
    assert counted(pool) in status(kernel["busy"])


def boot(folder: Path, medium: Medium, steps: tuple[Step, ...]) -> Outcome:
    """What the kernel says to metadata."""
    begins = base64.b64encode(bytes(medium.image).rstrip(b"\0")).decode()
    disks = {**DISKS, "meta": DiskSpec(META_SECTORS, begins=begins)}
    (outcome,) = machine.boot(folder, {"one": Experiment(steps, disks)}).values()
    return outcome


def test_both_write_on_what_the_other_has_written(kernel: Mapping[str, Outcome], tmp_path: Path):
    tools = Tools(tmp_path)
    for number, medium in enumerate((Medium(image=image(kernel["held"])), here()[0])):
        # Here:
        pool = medium.open()
        if pool.held_root:
            pool.release_metadata_snap()
        pool.create_snap(20, 6)
        for block in range(0, 50, 2):
            pool.insert(20, block, pool.allocate())
        pool.remove(7, 0, 30)
        pool.delete(8)
        medium.run(pool.commit())
        refill(pool)
        tools.check(medium.image)
        before = mappings(pool)
        # In the kernel:
        folder = tmp_path / str(number)
        folder.mkdir()
        steps = (
            *POOL,
            step("status", "pool"),
            *thin(20),
            *written(20, (0, 1)),
            *gone(20),
            *told("create_snap 21 20", "delete 6", "reserve_metadata_snap"),
            *END,
        )
        outcome = boot(folder, medium, steps)
        said = image(outcome)
        assert counted(pool) in outcome.answers[3]["text"]
        tools.check(said)
        # And here again:
        medium = Medium(image=said)
        pool = medium.open()
        after = mappings(pool)
        assert counted(pool) in status(outcome)
        # Its snapshot has block 1 of its origin no longer; block 0 was its own.
        changed = {block for block in after[20] if after[20][block] != before[20].get(block)}
        assert changed == {1}
        assert after[21] == after[20]
        others = before.keys() - {6, 20}
        assert {device: after[device] for device in after.keys() - {20, 21}} == {
            device: before[device] for device in others
        }
        assert pool.held_root
        pool.release_metadata_snap()
        pool.delete(21)
        medium.run(pool.commit())
        tools.check(medium.image)

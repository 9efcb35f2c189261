"""Mirrors cross over: what is written here comes up in the kernel, and the reverse."""

import base64
from collections.abc import Mapping

import pytest
import trio

from fusedm.block import Op
from fusedm.dm import format_status
from tests.helpers.builders import pattern, read, write
from tests.helpers.mirror_stack import SECTORS, Stack, run
from tests.helpers.uml.compare import compare
from tests.helpers.uml.experiment import DiskSpec, Experiment, Outcome, started, step

pytestmark = pytest.mark.kernel

NAMES = ("lg", "d0", "d1")
LINE = "disk 2 lg 8 2 d0 0 d1 0"
TABLE = f"0 {SECTORS} mirror {LINE}"
#: What is written, by sector.
WRITES = {0: 512, 9: 4096, 17: 1024, 40: 512, 57: 2048}


def made_here(how: str) -> dict[str, DiskSpec]:
    """Disks of a mirror that was written to here, and then lost its power, or was ended."""
    disks: dict[str, DiskSpec] = {}

    async def main() -> None:
        stack = Stack("disk 2 lg 8")
        if how == "half copied":
            stack.stores["d1"].fail(Op.WRITE, SECTORS // 2, SECTORS)
        await stack.copied()
        stack.stores["d1"].failing.clear()
        for sector, length in WRITES.items():
            await write(stack.device, sector, bytes(pattern(length, sector)))
        if how == "in order":
            await stack.device.suspend()
        for disk in stack.disks[:2] + stack.disks[-1:]:
            data = bytearray(disk.store.size)
            disk.store.pread_into(0, memoryview(data))
            begins = base64.b64encode(data).decode()
            disks[disk.name] = DiskSpec(SECTORS, begins=begins)

    run(main)
    return disks


HERE = {
    f"written here, {how}": Experiment(
        (
            *started("x", TABLE),
            step("read", "x", 0, SECTORS * 512),
            step("sleep", 1.0),
            step("status", "x"),
            step("read", "x", 0, SECTORS * 512),
            step("remove", "x"),
        ),
        made_here(how),
        images=True,
    )
    for how in ("in order", "without an end", "half copied")
}

#: The log first: what it says is clean then is so on the legs later, too.
PEEKS = tuple(step("peek", name, 0, SECTORS * 512) for name in NAMES)
THERE = {
    f"written by the kernel, {how}": Experiment(
        (
            *started("x", TABLE),
            *((step("sleep", 1.0),) if how != "while legs are copied" else ()),
            *(step("write", "x", at * 512, length, at) for at, length in WRITES.items()),
            *((step("suspend", "x"),) if how == "in order" else ()),
            step("peek", "d0", 0, SECTORS * 512)
            if how == "in order"
            else step("peek", "x", 0, SECTORS * 512),
            *PEEKS,
        ),
        {"d0": DiskSpec(SECTORS, seed=1), "d1": DiskSpec(SECTORS, seed=2), "lg": DiskSpec(SECTORS)},
    )
    for how in ("in order", "without an end", "while legs are copied")
}
EXPERIMENTS = {**HERE, **THERE}


@pytest.mark.parametrize("name", HERE)
def test_the_kernel_finds_what_was_written_here(kernel: Mapping[str, Outcome], name: str) -> None:
    compare(EXPERIMENTS[name], kernel[name])


@pytest.mark.parametrize("name", THERE)
def test_what_the_kernel_has_written_is_found(kernel: Mapping[str, Outcome], name: str) -> None:
    shown, *images = (base64.b64decode(one["bytes"]) for one in kernel[name].answers[-4:])

    async def main() -> None:
        stack = Stack("disk 2 lg 8")
        for disk, image in zip((stack.disks[-1], *stack.disks[:2]), images, strict=True):
            disk.store.pwrite(0, memoryview(image))
        await stack.make()
        assert await read(stack.device, 0, SECTORS * 512) == shown
        await trio.sleep(5)
        assert " 8/8 1 AA 3 disk lg A" in format_status(stack.device.live)
        assert stack.leg(0) == stack.leg(1) == shown

    run(main)

"""What a table and each layer cost one bio: .venv/bin/python -m tests.bench.mapping

Prints a JSON line for each stack: microseconds to plan and carry out a read of 4 KiB of memory, the
median of the rounds, and the ratio to a table of one target, taken in the same round. Never
collected by pytest.
"""

import json
import statistics
import time

import trio

from fusedm.block import Bio, BlockDevice
from fusedm.crypto import submit_bio_nowait
from tests.helpers.builders import make_disk, make_mapped

SECTORS = 1 << 20
TARGETS = 1000
LAYERS = 8
ROUNDS = 100
BIOS = 200
BASE = "table of 1"


def microseconds(device: BlockDevice, buffer: memoryview) -> float:
    """What one bio takes, of many in a row."""
    bio = Bio.read(SECTORS // 3, buffer)
    begin = time.perf_counter()
    for _ in range(BIOS):
        submit_bio_nowait(device, bio)
    return (time.perf_counter() - begin) / BIOS * 1e6


async def stacks() -> dict[str, BlockDevice]:
    """A table of one target, one of many, and linear devices one above the other."""
    disk = make_disk("d0", SECTORS)
    length = SECTORS // TARGETS
    lines = [f"{at * length} {length} linear d0 {at * length}" for at in range(TARGETS)]
    found: dict[str, BlockDevice] = {
        "disk": disk,
        BASE: await make_mapped(f"0 {SECTORS} linear d0 0", disk, name="l1"),
        f"table of {TARGETS}": await make_mapped("\n".join(lines), disk, name="many"),
    }
    below = found[BASE]
    for number in range(2, LAYERS + 1):
        table = f"0 {SECTORS} linear {below.name} 0"
        below = await make_mapped(table, below, name=f"l{number}")
        found[f"{number} layers"] = below
    return found


async def main() -> None:
    """Measure in turns and print."""
    buffer = memoryview(bytearray(4096))
    found = await stacks()
    taken: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(ROUNDS):
        for name, device in found.items():
            taken[name].append(microseconds(device, buffer))
    for name, figures in taken.items():
        ratios = [own / base for own, base in zip(figures, taken[BASE], strict=True)]
        line = {
            "stack": name,
            "us": round(statistics.median(figures), 2),
            "ratio": round(statistics.median(ratios), 3),
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    trio.run(main)

"""Random I/O and random tables, each from a seed."""

from collections.abc import Sequence
from random import Random

from tests.helpers.uml.experiment import Step, step

#: Bios of up to 128 KiB, as most are; longer ones the kernel may cut in other places.
MAX_SECTORS = 256


ALL = ("write", "write", "write", "read", "discard", "zero", "flush")


def traffic(
    seed: int,
    name: str,
    sectors: int,
    count: int = 24,
    block: int = 1,
    verbs: Sequence[str] = ALL,
) -> list[Step]:
    """Reads, writes and all else on a device, then a read of the whole.

    Units: block in sectors.
    """
    random = Random(seed)
    steps = []
    for _ in range(count):
        length = min(random.choice((1, 8, random.randint(1, 64), MAX_SECTORS)) * block, sectors)
        start = random.randrange(0, sectors - length + 1, block)
        verb = random.choice(verbs)
        if verb == "flush":
            steps.append(step("flush", name))
        elif verb == "write":
            steps.append(step("write", name, start * 512, length * 512, random.getrandbits(32)))
        else:
            steps.append(step(verb, name, start * 512, length * 512))
    return steps + reads(name, sectors)


def reads(name: str, sectors: int) -> list[Step]:
    """A read of the whole device, piece by piece, so that an error hides little."""
    return [
        step("read", name, start * 512, min(MAX_SECTORS, sectors - start) * 512)
        for start in range(0, sectors, MAX_SECTORS)
    ]


def random_table(seed: int) -> str:
    """A few lines over d0 and d1 (2048 sectors) and d2 (4096)."""
    random = Random(seed)
    lines, start = [], 0
    for _ in range(random.randint(1, 6)):
        length = random.choice((1, 7, 8, 64, random.randint(1, 300)))
        kind = random.choice(("linear", "linear", "striped", "zero", "error", "flakey", "delay"))
        disk = random.choice(("d0", "d1", "d2"))
        offset = random.randint(0, 1700)
        match kind:
            case "striped":
                count, chunk = random.randint(1, 3), random.choice((1, 3, 8, 16))
                length = count * chunk * random.randint(1, 20)
                parts = [f"d{index} {random.randint(0, 1700)}" for index in range(count)]
                params = f"{count} {chunk} {' '.join(parts)}"
            case "flakey":
                feature = random.choice(("drop_writes", "error_writes"))
                interval = random.choice(("1 0", "0 1"))
                params = f"{disk} {offset} {interval} 1 {feature}"
            case "delay":
                params = f"{disk} {offset} {random.choice((0, 0, 3))}"
            case "linear":
                params = f"{disk} {offset}"
            case _:
                params = ""
        lines.append(f"{start} {length} {kind} {params}".rstrip())
        start += length
    return "\n".join(lines)


def size(table: str) -> int:
    """The sectors of a table."""
    start, length = table.splitlines()[-1].split()[:2]
    return int(start) + int(length)

"""Arrays for both sides: their tables, their disks, and what is done to them."""

from fusedm.dm.raid.layouts import LAYOUTS
from tests.helpers.uml.experiment import DiskSpec, Step, started, step
from tests.helpers.uml.traffic import traffic

#: Of the others 8.
CHUNKS = {"raid1": 0, "raid10": 16}
MEMBER = 256
#: Of what is rebuilt, enough to be interrupted.
LARGE = 8192
META = 64
WRITES = ("write", "write", "flush")
#: What the kernel takes for a resync or a check of so little, and more.
SECONDS = 0.4


def sectors(kind: str, count: int, member: int = MEMBER) -> int:
    """The size of an array."""
    if kind in CHUNKS:  # Two copies of everything.
        return member * count // 2
    return member * (count - LAYOUTS[kind].parities)


def spare(kind: str) -> tuple[int, ...]:
    """The first members, as many as may be lost."""
    return tuple(range(LAYOUTS[kind].parities)) if kind in LAYOUTS else (0,)


def table(
    kind: str, count: int, words: str = "", lost: tuple[int, ...] = (), member: int = MEMBER
) -> str:
    devices = " ".join("- -" if n in lost else f"m{n} d{n}" for n in range(count))
    parameters = f"{CHUNKS.get(kind, 8)} region_size 16 {words}".split()
    length = sectors(kind, count, member)
    return f"0 {length} raid {kind} {len(parameters)} {' '.join(parameters)} {count} {devices}"


def disks(count: int, member: int = MEMBER) -> dict[str, DiskSpec]:
    metas = {f"m{n}": DiskSpec(META) for n in range(count)}
    return {**metas, **{f"d{n}": DiskSpec(member, seed=n) for n in range(count)}}


def once(line: str, *steps: Step, seconds: float = SECONDS) -> tuple[Step, ...]:
    """An array that comes up, is left alone for a while, used, and goes."""
    return (*started("x", line), step("sleep", seconds), *steps, step("remove", "x"))


LOOK = (step("status", "x"), step("table", "x"), step("info", "x"), step("deps", "x"))


def used(kind: str, count: int, seed: int) -> list[Step]:
    return traffic(seed, "x", sectors(kind, count), count=10, verbs=WRITES)

"""Stacks three mapped devices high, cut anywhere, over three disks with or without engines."""

from hypothesis import strategies as st

from fusedm.block.plan import Concat, Delayed, Hooked, LeafIO, Node, SoftwareCrypt
from fusedm.crypto import start_using_key
from fusedm.system import System, View
from tests.helpers.builders import make_disk, make_mapped

SIZE = 192
KINDS = ("linear", "striped", "delay", "flakey", "zero")

engines = st.sampled_from([None, (512,), (512, 4096), (1024, 4096)])


@st.composite
def tables(draw, names, kinds=KINDS):
    """A table over devices of 2 * SIZE sectors, no sector of which it uses twice."""
    cuts = draw(st.lists(st.integers(1, SIZE - 1), max_size=5))
    borders = [0, *sorted(set(cuts)), SIZE]
    lines = []
    for start, end in zip(borders, borders[1:], strict=False):
        count, kind = end - start, draw(st.sampled_from(kinds))
        first, second = draw(st.permutations(names))[:2]
        chunk = draw(st.sampled_from([1, 3, 8, 12, 16]))
        place = start + draw(st.sampled_from([0, SIZE]))
        words = {
            "zero": "zero",
            "delay": f"delay {first} {place} 3",
            "no delay": f"delay {first} {place} 0",
            "crypt": f"crypt aes-cbc-plain64 {'5a' * 32} {place} {first} {place} 1 allow_discards",
        }.get(kind)
        if kind == "striped" and count % (2 * chunk) == 0:
            words = f"striped 2 {chunk} {first} {place} {second} {place}"
        elif kind == "flakey":
            words = f"flakey {first} {place} 1 0"
        lines.append(f"{start} {count} {words or f'linear {first} {place}'}")
    return "\n".join(lines)


@st.composite
def stacks(draw, kinds=KINDS):
    """What build takes: the tables of the lowest and of the highest device, and three engines."""
    low = draw(tables(("d0", "d1", "d2"), kinds))
    return (
        low,
        draw(tables(("high", "d1", "d2"), kinds)),
        draw(st.tuples(engines, engines, engines)),
    )


async def build(stack, latency=0.0):
    """(top, high, lower) and the disks: top lies over high, which lies over lower and a disk."""
    low_table, top_table, each = stack
    disks = [
        make_disk(f"d{index}", SIZE * 2, slots=None if units is None else 2, units=units or ())
        for index, units in enumerate(each)
    ]
    lower = await make_mapped(low_table, *disks, name="lower")
    high = await make_mapped(
        f"0 {SIZE} linear lower 0\n{SIZE} {SIZE} linear d0 0", lower, *disks, name="high"
    )
    return [await make_mapped(top_table, high, *disks[1:], name="top"), high, lower], disks


def crypto_points(node: Node) -> list[tuple[str, str]]:
    """(how, where) of every place in a plan at which data are transformed."""
    match node:
        case LeafIO(leaf, bio):
            return [("native", leaf.name)] if bio.crypt is not None else []
        case SoftwareCrypt(child=child, device_name=name):
            at_leaf = isinstance(child, LeafIO) and child.leaf.name == name
            how = "leaf fallback" if at_leaf else "fallback above"
            return [(how, name), *crypto_points(child)]
        case Concat(parts):
            return [point for part in parts for point in crypto_points(part)]
        case Hooked(_, _, child) | Delayed(_, child):
            return crypto_points(child)
    return []


def system_of(mapped, disks, **views):
    """A system that shows what build has made, and views: name -> (key, DUN base) over top."""
    system = System()
    system.disks.update((disk.name, disk) for disk in disks)
    system.mapped.update((device.name, device) for device in mapped)
    for name, (key, dun_base) in views.items():
        start_using_key(mapped[0], key)
        system.views[name] = View(name, mapped[0], key, dun_base)
    return system

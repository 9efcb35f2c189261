"""What a span says of a bio is what its plan would do: where it goes, and is counted."""

from collections import Counter

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from fusedm.block import FLUSH, Bio, CryptContext, Op
from fusedm.block.plan import Concat, Hooked, LeafIO, SoftwareCrypt, Transformed
from fusedm.crypto import make_plan, start_using_key
from tests.helpers.builders import make_key
from tests.helpers.by_span import parts_of
from tests.helpers.random_stacks import SIZE, build, stacks

#: Few kinds at a time, so that the same meet on several levels.
SEVERAL = st.one_of(
    stacks(("linear", "striped", "striped")),
    stacks(("no delay", "striped", "linear")),
    stacks(("flakey", "crypt", "zero", "striped")),
)
KEYS = [None, make_key("small", 512), make_key("large", 4096)]


def leaf_nodes(node):
    """Every bio of a plan at its leaf, in order."""
    match node:
        case LeafIO():
            yield node
        case Concat(parts):
            for part in parts:
                yield from leaf_nodes(part)
        case Hooked(child=child) | SoftwareCrypt(child=child) | Transformed(child=child):
            yield from leaf_nodes(child)


def counted(node):
    """Who counts a bio of a plan as encrypted, and how."""
    match node:
        case LeafIO(bio=bio, route=route) if bio.crypt is not None:
            yield from (("native", id(counts)) for counts in route)
        case SoftwareCrypt(route=route):
            yield from (("fallback", id(counts)) for counts in route)
        case Concat(parts):
            for part in parts:
                yield from counted(part)
        case Hooked(child=child):
            yield from counted(child)


def counted_by_span(span, parts, config):
    if span.fallback is not None:
        yield from (("fallback", id(counts)) for counts in span.fallback_route)
        return
    for leg, *_ in parts:
        how = "native" if leg.leaf.capabilities.supports(config) else "fallback"
        yield from ((how, id(counts)) for counts in (*span.route, *leg.route))


def visits(plan, devices):
    """How often each device is passed; what is on an engine is not told by a span."""
    known = {id(device.stats) for device in devices}
    return Counter(id(stats) for stats, _, _ in plan.visits if id(stats) in known)


@settings(max_examples=150)
@given(SEVERAL, st.data())
def test_a_bio_goes_where_its_span_says(stack, data):
    async def main():
        mapped, disks = await build(stack)
        top = mapped[0]
        for key in KEYS[1:]:
            start_using_key(top, key)
        for _ in range(6):
            key = data.draw(st.sampled_from(KEYS))
            unit = key.config.data_unit_size // 512 if key else 1
            sector = data.draw(st.integers(0, SIZE - unit))
            count = data.draw(st.integers(1, min(6, (SIZE - sector) // unit))) * unit
            op = data.draw(st.sampled_from([Op.READ, Op.WRITE]))
            crypt = CryptContext(key, 7) if key else None
            bio = Bio(op, sector, count, memoryview(bytearray(count * 512)), crypt)
            span = top.span(sector)
            assert span.begin <= sector < span.end
            assert (span.begin, span.end) == (
                top.span(span.end - 1).begin,
                top.span(span.begin).end,
            )
            if op not in span.ops or bio.end_sector > span.end:
                continue
            parts = list(parts_of(span, bio))
            if key and not span.fallback and any((b | e) % unit for _, _, b, e in parts):
                continue  # A data unit that a chunk cuts is transformed above.
            plan = make_plan(top, [bio])
            places = [(leg.leaf, at, at + end - begin) for leg, at, begin, end in parts]
            nodes = leaf_nodes(plan.root)
            assert [(node.leaf, node.bio.sector, node.bio.end_sector) for node in nodes] == places
            passed = [*span.visits, *(stats for leg, *_ in parts for stats in leg.visits)]
            assert visits(plan, [*mapped, *disks]) == Counter(map(id, passed))
            if key is not None and span.cipher is None:
                told = Counter(counted_by_span(span, parts, key.config))
                assert Counter(counted(plan.root)) == told

    trio.run(main)


@settings(max_examples=50)
@given(SEVERAL)
def test_a_flush_goes_where_its_span_says(stack):
    async def main():
        mapped, disks = await build(stack)
        top = mapped[0]
        span, plan = top.flush_span(), make_plan(top, [FLUSH])
        assert span is not None
        assert {leg.leaf for leg in span.legs} == {node.leaf for node in leaf_nodes(plan.root)}
        assert Counter(map(id, span.visits)) == visits(plan, [*mapped, *disks])

    trio.run(main)

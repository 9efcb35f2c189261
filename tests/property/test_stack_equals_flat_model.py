"""Any stack is a flat array: what the medium holds does not depend on where it was transformed."""

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from fusedm.block import Bio
from fusedm.block.errors import WouldBlock
from fusedm.crypto import start_using_key, submit, submit_bio_nowait, submit_nowait
from tests.helpers.builders import (
    assert_nothing_is_held,
    make_disk,
    make_key,
    make_mapped,
    medium,
    patch,
    pattern,
    read,
    read_bio,
    write_bio,
)
from tests.helpers.by_span import carry_out_by_span
from tests.helpers.model import FlatModel

SIZE = 192
#: Of each data unit size a key of the mode that the engines have, and one of another.
OTHER_MODES = {512: "SM4-XTS", 1024: "Adiantum", 4096: "AES-128-CBC-ESSIV"}
KEYS = {
    unit: [make_key(f"{unit}a", unit), make_key(f"{unit}b", unit, mode=other)]
    for unit, other in OTHER_MODES.items()
}
EVERY_KEY = [key for some in KEYS.values() for key in some]


KINDS = ("linear", "striped", "striped", "delay", "flakey", "dust", "crypt", "zero")
KINDS += ("mirror", "switch", "unstriped", "ebs")


@st.composite
def targets(draw, length, names):
    """A table of one line for each length, over devices of SIZE sectors."""
    lines, start = [], 0
    while start < length:
        count = min(draw(st.integers(1, length)), length - start)
        first, second = draw(st.permutations(names))[:2]
        kind = draw(st.sampled_from([*KINDS, "linear"]))
        if kind == "striped" and count % 6 == 0:
            words = f"striped 2 3 {first} {start // 2 + SIZE} {second} {start // 2 + SIZE}"
        elif kind == "delay":
            words = f"delay {first} {start} {draw(st.sampled_from([0, 3]))}"
        elif kind == "flakey":
            words = f"flakey {first} {start} 1 0"
        elif kind == "dust":
            words = f"dust {first} {start} 512"
        elif kind == "crypt":
            words = f"crypt aes-cbc-plain64 {'5a' * 32} {start} {first} {start} 1 allow_discards"
        elif kind == "zero":
            words = "zero"
        elif kind == "mirror" and count > 1:  # Of its legs the other has a disk of its own.
            words = f"mirror core 2 2 nosync 2 {first} {start} d4 {start}"
        elif kind == "switch":
            words = f"switch 2 5 0 {first} {start} {first} {start}"
        elif kind == "unstriped" and count % 3 == 0:
            words = f"unstriped 2 3 1 d4 {SIZE + 2 * start}"
        elif kind == "ebs" and start % 4 == count % 4 == 0:  # Its blocks are its own.
            words = f"ebs {first} {start} 1 4"
        else:
            words = f"linear {first} {start}"
        lines.append(f"{start} {count} {words}")
        start += count
    return lines


@st.composite
def accesses(draw):
    """(write, patch?, sector, units, key, dun): aligned to units of the key anywhere."""
    unit = draw(st.sampled_from(list(KEYS)))
    key = draw(st.sampled_from([None, *KEYS[unit]]))
    step = unit // 512 if key else 1
    count = draw(st.integers(1, 40 // step)) * step
    kind = draw(st.sampled_from(["read", "write", "write", "patch"]))
    if kind == "patch":
        count = step
    sector = draw(st.integers(0, SIZE - count))
    return kind, sector, count * 512, key, draw(st.integers(0, 3) | st.just((1 << 64) - 200))


slot_counts = st.sampled_from([None, 0, 1, 2])

#: The lowest device, over d0; those that copy keep that on d3.
LOWEST = [
    *("linear d0 0", "snapshot d0 d3 N 8", "snapshot d0 d3 P 2"),
    *("mirror disk 3 d3 16 nosync 2 d0 0 d3 64", "ebs d0 0 1 8", "switch 2 7 0 d0 0 d3 0"),
    "raid raid1 2 0 nosync 2 - d0 - d3",
]
lowest = st.sampled_from(LOWEST)


async def do(device, request, way):
    """By a span, or on the spot, if it may be and can be."""
    if way == "by span" and isinstance(request, Bio) and carry_out_by_span(device, request, 0.0):
        return
    if way == "on the spot":
        try:
            return submit_nowait(device, [request])
        except WouldBlock:
            pass
    await submit(device, [request])


async def run(lines, slots, some, way, lowest=LOWEST[0]):
    disks = [
        make_disk(f"d{index}", SIZE * 2, slots=count, latency=0.001)
        for index, count in enumerate(slots)
    ]
    disks += [make_disk("d3", SIZE * 6), make_disk("d4", SIZE * 4)]
    lower = await make_mapped(f"0 {SIZE * 2} {lowest}", *disks, name="lower")
    device = await make_mapped("\n".join(lines), lower, *disks[1:])
    model = FlatModel(SIZE)
    for entry in device.live.entries:
        if entry.target.name == "zero":
            model.holes.update(range(entry.start_sector, entry.end_sector))
    for key in EVERY_KEY:
        start_using_key(device, key)
    for seed, (kind, sector, length, key, dun) in enumerate(some):
        if kind == "write":
            text = bytes(pattern(length, seed))
            await do(device, write_bio(sector, text, key, dun), way)
            model.write(sector, text, key, dun)
        elif kind == "patch":
            payload = bytes(pattern(37, seed))
            await do(device, patch(sector, length, 100, payload, key, dun), way)
            text = bytearray(model.read(sector, length, key, dun))
            text[100:137] = payload
            model.write(sector, bytes(text), key, dun)
        bio, got = read_bio(sector, length, key, dun)
        await do(device, bio, way)
        assert model.mismatch(sector, bytes(got), key, dun) is None
    assert await read(device, 0, SIZE * 512) == model.raw
    assert_nothing_is_held(device, lower, *disks)
    return [medium(disk) for disk in disks]


@settings(max_examples=80)
@given(
    targets(SIZE, ["lower", "d1", "d2"]),
    st.tuples(slot_counts, slot_counts, slot_counts),
    st.lists(accesses(), max_size=8),
    st.sampled_from(["by span", "by span", "on the spot", "waiting"]),
    lowest,
)
def test_a_stack_is_a_flat_array_of_reference_ciphertext(lines, slots, some, way, lowest):
    trio.run(run, lines, slots, some, way, lowest, clock=MockClock(autojump_threshold=0))


@settings(max_examples=30)
@given(targets(SIZE, ["lower", "d1", "d2"]), st.lists(accesses(), min_size=1, max_size=5))
def test_native_and_fallback_leave_the_same_media(lines, some):
    media = [
        trio.run(run, lines, slots, some, "waiting", clock=MockClock(autojump_threshold=0))
        for slots in [(None, None, None), (0, 1, 2), (2, None, 1)]
    ]
    assert media[0] == media[1] == media[2]


@settings(max_examples=25)
@given(
    targets(SIZE, ["lower", "d1", "d2"]).filter(lambda lines: not any("zero" in x for x in lines)),
    st.tuples(slot_counts, slot_counts, slot_counts),
    accesses().filter(lambda access: access[3] is not None),
)
def test_another_key_or_dun_base_does_not_read_what_was_written(lines, slots, access):
    _, sector, length, key, dun = access

    async def main():
        disks = [make_disk(f"d{i}", SIZE * 2, slots=n) for i, n in enumerate(slots)]
        disks.append(make_disk("d4", SIZE * 4))
        lower = await make_mapped(f"0 {SIZE * 2} linear d0 0", *disks, name="lower")
        device = await make_mapped("\n".join(lines), lower, *disks[1:], keys=EVERY_KEY)
        text = bytes(pattern(length))
        await submit(device, [write_bio(sector, text, key, dun)])
        other = next(each for each in KEYS[key.config.data_unit_size] if each is not key)
        assert await read(device, sector, length, key, dun) == text
        for wrong in [(key, dun + 1), (other, dun), (None, 0)]:
            got = await read(device, sector, length, *wrong)
            # In CBC mode the data unit number changes what the first block of a unit reads as only.
            same_chain = wrong[0] is key and "CBC" in key.config.mode
            step = key.config.data_unit_size if same_chain else 16
            assert not any(got[at : at + 16] == text[at : at + 16] for at in range(0, length, step))
        bio, got = read_bio(sector, length, key, dun)
        try:
            submit_bio_nowait(device, bio)
        except WouldBlock:
            return
        assert got == text

    trio.run(main, clock=MockClock(autojump_threshold=0))

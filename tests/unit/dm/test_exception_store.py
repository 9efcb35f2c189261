"""What a snapshot keeps on its COW device, byte for byte, and how chunks are given out."""

import errno
import struct

import pytest

from fusedm.block.errors import StackError
from fusedm.dm.exception_store import MAGIC, ExceptionStore, PersistentStore, parse_header

#: With chunks of one sector an area has 32 entries.
ENTRIES = 32


def filled(count: int, size: int = 1000) -> PersistentStore:
    store = PersistentStore(1, size)
    for old in range(count):
        store.add(old, *store.allocate(1))
        store.written()
    return store


def test_a_transient_store_gives_out_chunk_after_chunk_until_it_is_full():
    store = ExceptionStore(8, 20)
    assert [store.allocate(1) for _ in range(3)] == [[0], [1], []]
    assert store.usage() == "16/20 0"


def test_a_new_persistent_store_has_a_header_and_one_area():
    assert PersistentStore(8, 400).usage() == "16/400 16"


def test_data_chunks_leave_out_the_chunks_of_metadata():
    store = PersistentStore(1, 1000)
    given = store.allocate(2 * ENTRIES + 1)
    assert given[:3] == [2, 3, 4]
    metadata = {1 + area * (ENTRIES + 1) for area in range(3)}
    assert not metadata & set(given)
    assert given == sorted(set(given))


def test_a_persistent_store_is_full_when_the_next_chunk_would_pass_its_end():
    store = PersistentStore(8, 31)
    assert store.allocate(2) == [2]


def test_the_header_says_magic_validity_version_and_chunk_size():
    header = PersistentStore(8, 400).header()
    assert struct.unpack_from("<4I", header) == (MAGIC, 1, 1, 8)
    assert len(header) == 4096
    assert not any(header[16:])
    assert struct.unpack_from("<4I", PersistentStore(8, 400).header(False))[1] == 0


def test_an_area_is_the_pairs_of_chunks_in_order():
    store = filled(2)
    assert struct.unpack_from("<6Q", store.area_bytes()) == (0, 2, 1, 3, 0, 0)


def test_a_full_area_makes_way_for_the_next():
    store = filled(ENTRIES - 1)
    store.add(99, *store.allocate(1))
    assert store.is_area_full
    store.written()
    assert (store.area, store.area_sector(1)) == (1, 1 + ENTRIES + 1)
    assert not any(store.area_bytes())


@pytest.mark.parametrize("count", [0, 1, ENTRIES - 1, ENTRIES, ENTRIES + 1, 3 * ENTRIES])
def test_what_was_kept_is_taken_in_again(count):
    areas: dict[int, bytes] = {}
    store = PersistentStore(1, 1000)
    for old in range(count):
        store.add(7 * old, *store.allocate(1))
        areas[store.area] = store.area_bytes()
        store.written()
    again, more = PersistentStore(1, 1000), True
    while more:
        more = again.take_area(areas.get(again.area, bytes(512)))
    assert again.chunks == store.chunks
    assert again.usage() == store.usage()
    assert again.area_bytes() == store.area_bytes()
    assert again.allocate(3) == store.allocate(3)


def test_a_header_is_read_as_it_was_written():
    assert parse_header(PersistentStore(16, 64).header()) == (16, True)
    assert parse_header(PersistentStore(16, 64).header(False)) == (16, False)
    assert parse_header(bytes(512)) is None


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ((7, 1, 1, 8), "magic 0x00000007 is not that of a snapshot (0x70416e53)"),
        ((MAGIC, 1, 2, 8), "snapshot version 2 is not 1"),
        ((MAGIC, 1, 1, 9), "chunk size 9 in the header is not a power of two of sectors"),
        ((MAGIC, 1, 1, 0), "chunk size 0 in the header is not a power of two of sectors"),
        ((MAGIC, 1, 1, 1 << 31), f"chunk size {1 << 31} in the header is not a power of two"),
    ],
)
def test_what_is_no_header_is_refused(fields, text):
    with pytest.raises(StackError) as caught:
        parse_header(struct.pack("<4I", *fields))
    assert str(caught.value).startswith(text)
    assert caught.value.errno == (errno.ENXIO if text.startswith("magic") else errno.EINVAL)


@pytest.mark.parametrize(
    ("held", "more", "filled_areas"),
    [(0, ENTRIES - 1, 0), (0, ENTRIES, 1), (ENTRIES - 1, 1, 1), (3, 2 * ENTRIES, 2)],
)
def test_it_is_known_beforehand_how_many_areas_will_be_full(held, more, filled_areas):
    store = filled(held)
    assert store.areas_filled_by(more) == filled_areas
    before = store.area
    for chunk in store.allocate(more):
        store.add(chunk, chunk)
        store.written()
    assert store.area == before + filled_areas
    assert store.is_area_empty == (not (held + more) % ENTRIES)

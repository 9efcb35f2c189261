"""What a snapshot keeps on its COW device, byte for byte, and how chunks are given out."""

import errno
import struct

import pytest

from fusedm.block.errors import StackError
from fusedm.dm.snapshot.exception_store import MAGIC, ExceptionStore, PersistentStore, parse_header

#: With chunks of one sector an area has 32 entries.
ENTRIES = 32


def filled(count: int, size: int = 1000) -> PersistentStore:
    store = PersistentStore(1, size)
    store.add(enumerate(store.allocate(count)))
    return store


def test_a_transient_store_gives_out_chunk_after_chunk_until_it_is_full():
    store = ExceptionStore(8, 20)
    assert [store.allocate(1) for _ in range(3)] == [[0], [1], []]
    assert store.usage() == ["16/20", "0"]


def test_a_new_persistent_store_has_a_header_and_one_area():
    assert PersistentStore(8, 400).usage() == ["16/400", "16"]


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
    sector, header = PersistentStore(8, 400).header()
    assert sector == 0
    assert struct.unpack_from("<4I", header) == (MAGIC, 1, 1, 8)
    assert len(header) == 4096
    assert not any(header[16:])
    assert struct.unpack_from("<4I", PersistentStore(8, 400).header(False)[1])[1] == 0


def test_an_area_is_the_pairs_of_chunks_in_order():
    store = filled(1)
    empty, ((sector, data),) = store.telling([(7, 3)])
    assert (empty, sector) == ([], 1)
    assert struct.unpack_from("<6Q", data) == (0, 2, 7, 3, 0, 0)
    assert len(data) == 512


def test_a_full_area_makes_way_for_the_next_which_is_empty_before():
    store = filled(ENTRIES - 1)
    pairs = [(99, *store.allocate(1))]
    empty, told = store.telling(pairs)
    assert empty == [(1 + ENTRIES + 1, bytes(512))]
    assert [sector for sector, _ in told] == [1]
    assert store.area == 0
    store.add(pairs)
    assert (store.area, store.area_sector(1)) == (1, 1 + ENTRIES + 1)


@pytest.mark.parametrize("held", [0, 3, ENTRIES - 1])
def test_what_many_pairs_change_is_known_before_they_are_added(held):
    store = filled(held)
    pairs = [(1000 + n, new) for n, new in enumerate(store.allocate(2 * ENTRIES))]
    empty, told = store.telling(pairs)
    assert [sector for sector, _ in empty] == [store.area_sector(1), store.area_sector(2)]
    assert [sector for sector, _ in told] == [store.area_sector(n) for n in range(2 + bool(held))]
    store.add(pairs)
    again = reread({sector: data for sector, data in (*empty, *told)})
    assert again.chunks == store.chunks


def reread(areas: dict[int, bytes]) -> PersistentStore:
    """A store of what is on a device."""
    again, more = PersistentStore(1, 1000), True
    while more:
        more = again.take_area(areas.get(again.area_sector(again.area), bytes(512)))
    return again


@pytest.mark.parametrize("count", [0, 1, ENTRIES - 1, ENTRIES, ENTRIES + 1, 3 * ENTRIES])
def test_what_was_kept_is_taken_in_again(count):
    areas: dict[int, bytes] = {}
    store = PersistentStore(1, 1000)
    for old in range(count):
        pairs = [(7 * old, *store.allocate(1))]
        for written in store.telling(pairs):
            areas.update(written)
        store.add(pairs)
    again = reread(areas)
    assert again.chunks == store.chunks
    assert again.usage() == store.usage()
    assert again.allocate(3) == store.allocate(3)


def test_metadata_that_tell_of_a_chunk_twice_are_refused():
    with pytest.raises(StackError, match="area 0 of the metadata tells of a chunk for the second"):
        reread({1: struct.pack("<4Q", 5, 2, 5, 3).ljust(512, b"\0")})


# Merging.


def test_the_last_run_is_of_chunks_that_count_up_in_both():
    store = PersistentStore(1, 1000)
    assert store.last_run(9)[2] == 0
    store.add([(4, 2), (5, 3), (9, 4), (10, 5), (11, 6)])
    assert store.last_run(9) == (9, 4, 3)
    assert store.last_run(2) == (10, 5, 2)
    assert store.last_run(1) == (11, 6, 1)
    store.remove_last(3)
    assert store.last_run(9) == (4, 2, 2)


def test_a_run_ends_with_its_area():
    store = filled(ENTRIES)
    store.add([(ENTRIES, *store.allocate(1))])
    assert store.last_run(99) == (ENTRIES, ENTRIES + 3, 1)
    store.remove_last(1)
    assert store.last_run(99) == (0, 2, ENTRIES)


@pytest.mark.parametrize("count", [1, 5, ENTRIES, ENTRIES + 1, 2 * ENTRIES])
def test_what_is_merged_is_cleared_from_the_end_on_and_no_more_allocated(count):
    store, areas = filled(count), {}
    for written in PersistentStore(1, 1000).telling(list(store.chunks.items())):
        areas.update(written)
    while store.chunks:
        run = min(store.last_run(3)[2], 3)
        areas.update([store.without_last(run)])
        store.remove_last(run)
        again = reread(areas)
        assert again.chunks == store.chunks
        assert again.usage() == store.usage()
    assert store.usage() == ["2/1000", "2"]
    assert not any(map(any, areas.values()))


def test_a_store_that_is_no_more_merged_gives_out_chunks_that_are_free():
    store = PersistentStore(1, 1000)
    store.add([(0, 20), (1, 21), (2, 5)])
    store.remove_last(1)
    assert store.usage() == ["4/1000", "2"]
    assert store.allocate(2) == [22, 23]


def test_a_header_is_read_as_it_was_written():
    assert parse_header(PersistentStore(16, 64).header()[1]) == (16, True)
    assert parse_header(PersistentStore(16, 64).header(False)[1]) == (16, False)
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

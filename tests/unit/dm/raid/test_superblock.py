"""The superblock of dm-raid, byte by byte."""

import struct

import pytest

from fusedm.block.errors import StackError
from fusedm.dm.raid.superblock import DONE, MAGIC, SIZE, Superblock, parse

SOME = Superblock(
    *(3, 2, 77, 5, 2, 128, 8192, 4096),
    failed=frozenset({0, 64, 200}),
    recovery_offset=1024,
    resync_offset=2048,
)


def test_what_is_packed_is_parsed():
    assert parse(SOME.pack(512)) == SOME


def test_it_fills_a_logical_block():
    assert len(SOME.pack(4096)) == 4096
    assert not any(SOME.pack(4096)[SIZE:])


def test_fields_lie_where_the_kernel_has_them():
    data = SOME.pack(512)
    assert data[:4] == b"DmRd"
    assert struct.unpack_from("<III", data, 4) == (1, 3, 2), "features, devices, position"
    assert struct.unpack_from("<QQQQ", data, 16) == (77, 1, 1024, 2048)
    assert struct.unpack_from("<III", data, 48) == (5, 2, 128), "level, layout, chunk"
    assert struct.unpack_from("<I", data, 60) == (0,), "no reshape goes on"
    assert struct.unpack_from("<Q", data, 64) == (DONE,), "nor did one"
    assert struct.unpack_from("<QQQQ", data, 88) == (8192, 0, 0, 4096)
    assert struct.unpack_from("<QQQ", data, 120) == (1, 0, 1 << 8), "failed devices from 64 on"
    assert struct.unpack_from("<I", data, 144) == (0,), "incompatible features"


@pytest.mark.parametrize("data", [bytes(512), b"\xff" * 512])
def test_something_else_is_no_superblock(data):
    assert parse(data) is None


def test_one_without_the_fields_of_version_1_9_is_read():
    data = bytearray(SOME.pack(512))
    struct.pack_into("<I", data, 4, 0)
    found = parse(data)
    assert (found.events, found.array_sectors, found.failed) == (77, 0, frozenset({0}))


@pytest.mark.parametrize(("at", "value"), [(4, 2), (144, 1)])
def test_unknown_features_are_refused(at, value):
    data = bytearray(SOME.pack(512))
    struct.pack_into("<I", data, at, value)
    with pytest.raises(StackError, match="features .* are not known"):
        parse(data)


def test_an_array_that_is_being_reshaped_is_refused():
    data = bytearray(SOME.pack(512))
    struct.pack_into("<Q", data, 64, 640)
    with pytest.raises(StackError, match="being reshaped \\(at sector 640\\)"):
        parse(data)


def test_the_magic_is_that_of_the_kernel():
    assert MAGIC == 0x64526D44

"""What a server answers, byte by byte."""

from struct import pack

from fusedm.nbd import replies
from fusedm.nbd.replies import Parts

CHUNK_MAGIC = 0x668E33EF


def joined(parts: Parts) -> bytes:
    return b"".join(parts)


def test_a_simple_reply():
    assert joined(replies.simple(5, 28)) == pack(">IIQ", 0x67446698, 28, 5)


def test_a_simple_reply_with_data():
    expected = pack(">IIQ", 0x67446698, 0, 5) + b"data"
    assert joined(replies.simple_data(5, memoryview(b"data"))) == expected


def test_data_at_an_offset():
    expected = pack(">IHHQIQ", CHUNK_MAGIC, 1, 1, 5, 12, 4096) + b"data"
    assert joined(replies.data_chunk(5, 4096, memoryview(b"data"), done=True)) == expected


def test_a_hole_that_more_follows():
    expected = pack(">IHHQIQI", CHUNK_MAGIC, 0, 2, 5, 12, 4096, 512)
    assert joined(replies.hole_chunk(5, 4096, 512, done=False)) == expected


def test_an_error_says_why():
    expected = pack(">IHHQIIH", CHUNK_MAGIC, 1, 0x8001, 5, 9, 5, 3) + b"why"
    assert joined(replies.error_chunk(5, 5, "why")) == expected


def test_a_text_that_is_too_long_is_cut():
    assert len(joined(replies.error_chunk(5, 5, "y" * 9999))) == 20 + 6 + 4096


def test_extents_follow_each_other():
    expected = pack(">IHHQI", CHUNK_MAGIC, 1, 5, 9, 20) + pack(">IIIII", 1, 512, 0, 1024, 3)
    assert joined(replies.status_chunk(9, [(512, False), (1024, True)])) == expected

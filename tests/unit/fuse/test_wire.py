"""Messages of FUSE: their layouts against bytes written by hand, and what is changed in them."""

import struct

import pytest

from fusedm.fuse import wire
from fusedm.fuse.wire import Opcode

HEADER = bytes.fromhex(
    "50000000" "10000000" "0807060504030201" "0200000000000000"
    "01000000" "02000000" "03000000" "0000" "0000"
)  # fmt: skip


def test_a_request_begins_with_its_length_opcode_and_number() -> None:
    assert wire.IN_HEADER.unpack(HEADER) == (80, 16, 0x0102030405060708, 2, 1, 2, 3, 0, 0)


def test_a_reply_begins_with_its_length_error_and_number() -> None:
    packed = wire.OUT_HEADER.pack(16, -5, 7)
    assert packed == bytes.fromhex("10000000fbffffff0700000000000000")


@pytest.mark.parametrize(
    ("layout", "text", "words"),
    [
        (
            wire.IO_IN,
            "0100000000000000" "0010000000000000" "00020000" "00000000"
            "0900000000000000" "02100000" "00000000",
            (1, 4096, 512, 0, 9, 0x1002, 0),
        ),
        (wire.WRITE_OUT, "00020000" "00000000", (512, 0)),
        (wire.FSYNC_IN, "0100000000000000" "01000000" "00000000", (1, 1, 0)),
        (
            wire.FALLOCATE_IN,
            "0100000000000000" "0010000000000000" "0020000000000000" "03000000" "00000000",
            (1, 4096, 8192, 3, 0),
        ),
        (wire.BATCH_FORGET_IN, "02000000" "00000000", (2, 0)),
    ],
    ids=["io", "written", "fsync", "fallocate", "forget"],
)  # fmt: skip
def test_layouts(layout: struct.Struct, text: str, words: tuple[int, ...]) -> None:
    assert layout.unpack(bytes.fromhex(text)) == words


def test_the_payload_of_a_write_follows_its_two_heads() -> None:
    assert wire.DATA_OFFSET == 80


def init_request(minor: int) -> bytearray:
    body = struct.pack("=IIII", 7, minor, 131072, 0xFFFF)
    return bytearray(wire.IN_HEADER.pack(56, Opcode.INIT, 2, 0, 0, 0, 0, 0, 0) + body)


@pytest.mark.parametrize(("minor", "shown"), [(45, 13), (13, 13), (8, 8)])
def test_libfuse_is_shown_no_kernel_newer_than_minor_13(minor: int, shown: int) -> None:
    request = init_request(minor)
    assert wire.show_old_minor(request) == minor
    assert request == init_request(shown)


def init_reply(flags: int = 0) -> bytes:
    """As libfuse gives it to a kernel of minor 13: a reply of 24 bytes and the header."""
    return bytes.fromhex("28000000000000000200000000000000") + struct.pack(
        "=IIIIHHI", 7, 13, 131072, flags, 12, 9, 131072
    )


@pytest.mark.parametrize(("minor", "spoken"), [(45, 31), (31, 31), (27, 27)])
def test_the_kernel_gets_a_reply_of_its_own_minor_with_our_sizes(minor: int, spoken: int) -> None:
    reply = wire.widen_init_reply(init_reply(flags=0x20), minor, pages=256, background=1024)
    assert reply[:16] == bytes.fromhex("50000000000000000200000000000000")
    assert reply[16:] == struct.pack(
        "=IIIIHHIIHHI28x",
        7, spoken, 131072, 0x20 | 1 | 1 << 15 | 1 << 22, 1024, 768, 1 << 20, 1, 256, 0, 0,
    )  # fmt: skip


def test_a_refused_init_stays_as_it_is() -> None:
    reply = wire.OUT_HEADER.pack(16, -71, 2)
    assert wire.widen_init_reply(reply, 45, 256, 1024) == reply


@pytest.mark.parametrize(("size", "asked"), [(1 << 20, 4096), (4096, 4096), (100, 100)])
def test_a_listing_is_asked_for_in_pieces_of_a_page(size: int, asked: int) -> None:
    def request(size: int) -> bytearray:
        words = wire.IO_IN.pack(1, 2, size, 0, 9, 0x8000, 0)
        return bytearray(wire.IN_HEADER.pack(80, Opcode.READDIR, 3, 1, 0, 0, 0, 0, 0) + words)

    listing = request(size)
    wire.limit_reply(listing, 4096)
    assert listing == request(asked)


def forgets(inodes: range) -> bytearray:
    ones = b"".join(struct.pack("=QQ", inode, 1) for inode in inodes)
    header = wire.IN_HEADER.pack(48 + len(ones), Opcode.BATCH_FORGET, 5, 0, 0, 0, 0, 0, 0)
    return bytearray(header + struct.pack("=II", len(inodes), 0) + ones)


@pytest.mark.parametrize(
    ("count", "parts"),
    [(1, [range(1)]), (3, [range(3)]), (7, [range(3), range(3, 6), range(6, 7)]), (0, [])],
)
def test_many_forgets_are_split(count: int, parts: list[range]) -> None:
    assert wire.split_forgets(forgets(range(count)), 3) == [forgets(part) for part in parts]

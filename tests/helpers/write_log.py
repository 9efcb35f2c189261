"""A second reader of the log of log-writes, which shares no code with its writer."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

WRITES = ("write", "durable")


@dataclass(frozen=True)
class Entry:
    """One entry, places in bytes; data of what was written, text of a mark.

    A write with FUA is of the kind `durable`.
    """

    kind: str
    offset: int
    length: int
    data: bytes
    text: str


def _number(raw: bytes, at: int, size: int = 8) -> int:
    return int.from_bytes(raw[at : at + size], "little")


def entries(raw: bytes) -> Iterator[Entry]:
    """What a log says, from its first block on."""
    assert raw[:8] == bytes.fromhex("72 68 73 77 66 73 6a 00"), "the magic"
    assert _number(raw, 8) == 1, "the version"
    block = _number(raw, 24, 4)
    assert not any(raw[28:block]), "the rest of the first block is zeros"
    at = block
    for _ in range(_number(raw, 16)):
        offset, length = _number(raw, at) * block, _number(raw, at + 8) * block
        flags, text_length = _number(raw, at + 16), _number(raw, at + 24)
        kind = {0: "write", 2: "durable", 1: "flush", 4: "discard", 8: "mark"}[flags]
        text = raw[at + 32 : at + 32 + text_length]
        assert not any(raw[at + 32 + text_length : at + block]), "the rest of a block is zeros"
        at += block
        data = raw[at : at + length] if kind in WRITES else b""
        at += len(data)
        assert not length or kind in (*WRITES, "discard")
        yield Entry(kind, offset, length, data, text.decode())


def apply(image: bytearray, entry: Entry) -> None:
    """Do to an image what an entry says; what is discarded becomes zeros."""
    if entry.kind in (*WRITES, "discard"):
        image[entry.offset : entry.offset + entry.length] = entry.data or bytes(entry.length)


def replayed(image: bytes, log: Iterable[Entry]) -> bytes:
    """The image after all of a log."""
    result = bytearray(image)
    for entry in log:
        apply(result, entry)
    return bytes(result)

"""Writes that are kept until they have been flushed."""

from fusedm.nbd import Request, Unflushed, is_change
from fusedm.nbd.words import Command


def write(offset: int, content: bytes) -> Request:
    return Request(Command.WRITE, 0, offset, len(content), memoryview(content))


def kept(unflushed: Unflushed) -> list[list[tuple[int, int, bytes]]]:
    return [
        [(request.offset, request.length, bytes(request.data)) for request in batch]
        for batch in unflushed.batches()
    ]


def test_what_is_kept_is_what_was_written_then() -> None:
    unflushed = Unflushed()
    content = bytearray(b"first")
    unflushed.add(Request(Command.WRITE, 0, 0, 5, memoryview(content)))
    content[:] = b"later"
    assert kept(unflushed) == [[(0, 5, b"first")]]


def test_what_cannot_change_is_not_copied() -> None:
    unflushed = Unflushed()
    content = bytes(1000)
    unflushed.add(write(0, content))
    unflushed.add(Request(Command.WRITE, 0, 1000, 10, memoryview(content)[:10]))
    [[whole, part]] = unflushed.batches()
    assert whole.data.obj is content
    assert part.data == content[:10]


def test_what_was_flushed_is_kept_no_more() -> None:
    unflushed = Unflushed()
    unflushed.add(write(0, b"one"))
    mark = unflushed.mark()
    unflushed.add(write(512, b"two"))
    assert unflushed.size > 6
    unflushed.flushed(mark)
    assert kept(unflushed) == [[(512, 3, b"two")]]
    unflushed.flushed(unflushed.mark())
    assert (kept(unflushed), unflushed.size) == ([], 0)


def test_what_overlaps_is_sent_again_one_after_the_other() -> None:
    unflushed = Unflushed()
    for offset, content in ((0, b"aaaa"), (8, b"bbbb"), (2, b"cccc"), (6, b"dd")):
        unflushed.add(write(offset, content))
    assert kept(unflushed) == [
        [(0, 4, b"aaaa"), (8, 4, b"bbbb")],
        [(2, 4, b"cccc"), (6, 2, b"dd")],
    ]


def test_a_batch_has_an_end() -> None:
    unflushed = Unflushed()
    for place in range(65):
        unflushed.add(write(place * 512, b"x"))
    assert [len(batch) for batch in unflushed.batches()] == [64, 1]


def test_what_is_sent_again_is_as_it_was_and_marked() -> None:
    unflushed = Unflushed()
    unflushed.add(Request(Command.WRITE_ZEROES, 2, 512, 1024))
    [[again]] = unflushed.batches()
    assert (again.command, again.flags, again.offset, again.length) == (6, 2, 512, 1024)
    assert again.is_kept


def test_changes_are_what_a_flush_makes_durable() -> None:
    assert [command.name for command in Command if is_change(command)] == ["WRITE", "WRITE_ZEROES"]

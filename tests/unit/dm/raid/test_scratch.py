"""Memory that is used again, and when it is not."""

from contextlib import ExitStack, suppress

import pytest

from fusedm.block.errors import BlockIOError, Status
from fusedm.dm.raid.scratch import MAX_KEPT, MAX_KEPT_BYTES, Scratches


def test_buffers_are_apart_and_come_from_the_same_memory_the_next_time():
    scratches = Scratches()
    with scratches.one() as scratch:
        scratch.take(2)[:] = b"a" * 1024
        scratch.take(1)
    with scratches.one() as again:
        assert again is scratch
        first, second, third = again.take(1), again.take(2), again.take(4)
        first[:], second[:], third[:] = b"b" * 512, b"c" * 1024, b"d" * 2048
        assert (bytes(first), bytes(second)) == (b"b" * 512, b"c" * 1024)
        assert first.obj is second.obj
        assert third.obj is not first.obj, "there was no room for it"


def test_each_of_several_users_has_its_own_and_few_are_kept():
    scratches, used = Scratches(), []
    for _ in range(2):
        with ExitStack() as users:
            used.append({users.enter_context(scratches.one()) for _ in range(MAX_KEPT + 1)})
    assert [len(each) for each in used] == [MAX_KEPT + 1] * 2
    assert len(used[0] & used[1]) == MAX_KEPT


def test_much_is_not_kept():
    scratches = Scratches()
    with scratches.one() as scratch:
        scratch.take(MAX_KEPT_BYTES // 512 + 1)
    with scratches.one() as again:
        one, other = again.take(1), again.take(1)
        assert one.obj is not other.obj


def test_it_is_kept_after_an_error_but_not_from_who_was_stopped():
    scratches = Scratches()
    with pytest.raises(BlockIOError), scratches.one() as scratch:
        raise BlockIOError(Status.IOERR, "d0", "told to")
    with suppress(GeneratorExit), scratches.one() as again:
        assert again is scratch
        raise GeneratorExit  # Something below may still be reading.
    with scratches.one() as another:
        assert another is not scratch

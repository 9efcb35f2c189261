"""Worker threads: what they give back, how many there are, in which order, and cancelling."""

import gc
import threading
from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fusedm.crypto import Workers


class Gate:
    """Work that waits in its thread until it is let go on, and says that it has begun."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self._one_more = threading.Semaphore(0)
        self._open = threading.Event()

    def pass_(self, number: int) -> int:
        self.begun.append(number)
        self._one_more.release()
        assert self._open.wait(10), "nobody opened the gate"
        return number

    async def one_has_begun(self) -> None:
        """Until one more has."""
        assert await trio.to_thread.run_sync(self._one_more.acquire, True, 10)

    def open(self) -> None:
        self._open.set()


async def test_what_work_returns_is_returned_and_it_was_done_elsewhere():
    workers = Workers(1)
    assert await workers.run(lambda: 42) == 42
    assert await workers.run(threading.get_ident) != threading.get_ident()
    assert workers.busy == 0


async def test_what_work_raises_is_raised_and_held_by_nobody():
    workers = Workers(1)
    with pytest.raises(ZeroDivisionError):
        await workers.run(lambda: 1 // 0)
    assert await workers.run(lambda: 1) == 1
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(ZeroDivisionError):
            await workers.run(lambda: 1 // 0)
        assert gc.collect() < 100, "an error with its traceback is a circle of its own"
    finally:
        gc.enable()


@pytest.mark.parametrize("limit", [1, 2])
async def test_no_more_work_than_the_limit_and_the_rest_in_order(limit):
    workers, gate = Workers(limit), Gate()
    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(workers.run, partial(gate.pass_, number))
            await wait_all_tasks_blocked()
        for _ in range(limit):
            await gate.one_has_begun()
        await wait_all_tasks_blocked()
        assert sorted(gate.begun) == list(range(limit))
        assert workers.busy == limit
        gate.open()
    assert sorted(gate.begun) == list(range(6))
    if limit == 1:
        assert gate.begun == list(range(6))
    assert workers.busy == 0
    assert await workers.run(lambda: 1) == 1


async def test_cancelled_before_its_turn_work_is_not_begun(nursery):
    workers, gate = Workers(1), Gate()
    nursery.start_soon(workers.run, partial(gate.pass_, 0))
    await gate.one_has_begun()
    with trio.move_on_after(0.01) as scope:
        await workers.run(partial(gate.pass_, 1))
    assert scope.cancelled_caught
    gate.open()
    assert await workers.run(lambda: 2) == 2
    assert gate.begun == [0]
    with trio.CancelScope() as scope:
        scope.cancel()
        await workers.run(partial(gate.pass_, 3))
    assert scope.cancelled_caught
    assert gate.begun == [0]


async def test_cancelled_when_it_has_begun_work_is_waited_for():
    workers, gate = Workers(1), Gate()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(workers.run, partial(gate.pass_, 0))
            await gate.one_has_begun()
            scope.cancel()
            with trio.CancelScope(shield=True):
                await wait_all_tasks_blocked()
            assert workers.busy == 1
            gate.open()
    assert workers.busy == 0


async def test_many_at_once_from_many_threads_are_all_told_of():
    workers, ended = Workers(8), []

    async def one(number):
        ended.append(await workers.run(lambda: number))

    for _ in range(20):
        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(one, number)
    assert sorted(ended) == sorted(list(range(100)) * 20)
    assert workers.busy == 0

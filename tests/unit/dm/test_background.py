"""What a target does in the background, and what a suspend has to do with it."""

from collections.abc import Callable, Iterable

import pytest
import trio
import trio.lowlevel
from trio.testing import wait_all_tasks_blocked

from fusedm.block import Bio, RangeLocks
from fusedm.block.errors import StackError
from fusedm.dm import MappedDevice, Quiesce, Remap, Script, Signal, Steps, Wait
from tests.helpers.builders import make_disk, read, write
from tests.helpers.copier import Copier, table_of


class Worker(Copier):
    """A copier that does something in the background, too."""

    work: Callable[["Worker"], Steps[None]]

    def background(self) -> Iterable[Steps[None]]:
        return [self.work()]


async def make(work: Callable[[Worker], Steps[None]]) -> tuple[MappedDevice, Worker]:
    worker = Worker(make_disk("d0", 64), make_disk("d1", 64), locks=RangeLocks())
    worker.work = lambda: work(worker)
    worker.signal = Signal()
    mapped = MappedDevice("dm0")
    mapped.load(table_of(worker))
    await mapped.resume()
    return mapped, worker


def count(worker: Worker) -> Steps[None]:
    for number in range(1000):
        yield Remap(worker.first, Bio.read(0, memoryview(bytearray(512))))
        worker.life.append(number)
        yield Wait(seconds=1)


async def test_it_begins_with_the_first_resume_and_ends_with_its_table(autojump_clock):
    mapped, worker = await make(count)
    await trio.sleep(2.5)
    assert worker.life[-3:] == [0, 1, 2]
    await mapped.end()
    await trio.sleep(5)
    assert 3 not in worker.life


async def test_while_the_device_is_suspended_it_has_no_turn(autojump_clock):
    mapped, worker = await make(count)
    await trio.sleep(1.5)
    await mapped.suspend()
    await trio.sleep(100)
    assert worker.life[-1] == "postsuspend"
    await mapped.resume()
    await trio.lowlevel.checkpoint()
    await wait_all_tasks_blocked()
    assert worker.life[-2:] == ["resumed", 2]


async def test_a_suspend_waits_for_the_step_that_is_under_way():
    def read_what_hangs(worker: Worker) -> Steps[None]:
        yield Remap(hung, Bio.read(0, memoryview(bytearray(512))))
        worker.life.append("read")
        yield Wait()

    hung = MappedDevice("hung")
    hung.load(table_of(Copier(make_disk("d2", 64), make_disk("d3", 64))))
    await hung.resume()
    await hung.suspend()
    mapped, worker = await make(read_what_hangs)
    await wait_all_tasks_blocked()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mapped.suspend)
        await wait_all_tasks_blocked()
        assert (mapped.is_suspending, mapped.suspended) == (True, False)
        await hung.resume()
    assert mapped.suspended
    assert "read" not in worker.life
    await mapped.resume()
    await wait_all_tasks_blocked()
    assert "read" in worker.life
    await mapped.end()


async def test_a_signal_wakes_it_and_a_time_that_is_over_is_told_apart(autojump_clock):
    def listen(worker: Worker) -> Steps[None]:
        worker.life.append((yield Wait(worker.signal, 10)))
        worker.life.append((yield Wait(worker.signal, 10)))

    mapped, worker = await make(listen)
    await trio.sleep(1)
    worker.signal.notify()
    await trio.sleep(20)
    assert worker.life[-2:] == [True, False]
    await mapped.end()


async def test_a_script_within_holds_its_locks_and_answers():
    def copy(worker: Worker) -> Steps[None]:
        got = yield Script(lambda: hold(worker), ((worker.locks, 0, 8),))
        worker.life.append(got)

    def hold(worker: Worker) -> Steps[str]:
        yield Wait(worker.signal)
        worker.life.append("let go")
        return "answer"

    mapped, worker = await make(copy)
    await wait_all_tasks_blocked()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write, mapped, 0, bytes(512))
        await wait_all_tasks_blocked()
        assert "end of write" not in worker.life
        worker.signal.notify()
    await wait_all_tasks_blocked()
    said = [each for each in worker.life if each in ("let go", "answer", "end of write")]
    assert said[0] == "let go"
    assert sorted(said) == ["answer", "end of write", "let go"]
    await mapped.end()


async def test_it_may_wait_until_all_bios_have_ended_that_were_planned_before():
    def quiesce(worker: Worker) -> Steps[None]:
        yield Wait(worker.signal)
        yield Quiesce()
        worker.life.append("quiet")

    mapped, worker = await make(quiesce)
    lock = worker.locks.take(((0, 8),))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write, mapped, 0, bytes(512))
        await wait_all_tasks_blocked()
        worker.signal.notify()
        await wait_all_tasks_blocked()
        assert mapped.is_suspending
        nursery.start_soon(read, mapped, 0, 512)
        await wait_all_tasks_blocked()
        assert "quiet" not in worker.life
        worker.locks.release(lock)
    await wait_all_tasks_blocked()
    ends = [each for each in worker.life if each in ("quiet", "end of write", "end of read")]
    assert ends[0] == "end of write"
    assert sorted(ends) == ["end of read", "end of write", "quiet"]
    assert not mapped.is_suspending
    await mapped.end()


async def test_a_quiesce_finds_a_suspended_device_quiet_and_leaves_it_so():
    def quiesce(worker: Worker) -> Steps[None]:
        yield Wait(worker.signal)
        yield Quiesce()

    mapped, worker = await make(quiesce)
    await mapped.suspend()
    worker.signal.notify()
    await wait_all_tasks_blocked()
    assert mapped.is_suspending
    await mapped.resume()
    await wait_all_tasks_blocked()
    assert not mapped.is_suspending
    await mapped.end()


async def test_one_that_fails_is_logged_and_not_begun_again(caplog):
    def fail(worker: Worker) -> Steps[None]:
        yield Remap(worker.first, Bio.read(1000, memoryview(bytearray(512))))

    def refuse(worker: Worker) -> Steps[None]:
        yield Wait(seconds=0)
        raise StackError("enough")

    for work, text in ((fail, "not within the device"), (refuse, "enough")):
        mapped, worker = await make(work)
        await wait_all_tasks_blocked()
        assert "dm0: what it does in the background has ended: " in caplog.text
        assert text in caplog.text
        caplog.clear()
        await mapped.suspend()
        await mapped.resume()
        await write(mapped, 0, bytes(512))
        await mapped.end()
        assert worker.life[-1] == "forgotten"


@pytest.mark.parametrize("is_waiting", [False, True])
async def test_ended_it_may_clean_up(is_waiting):
    def wait() -> Steps[None]:
        yield Wait()

    def clean(worker: Worker) -> Steps[None]:
        try:
            yield Wait() if is_waiting else Script(wait)
        finally:
            worker.life.append("cleaned")

    mapped, worker = await make(clean)
    await wait_all_tasks_blocked()
    if is_waiting:
        await mapped.suspend()
    mapped.close()
    await mapped.settle()
    assert "cleaned" in worker.life

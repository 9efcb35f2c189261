"""Worker threads, for what may block its thread or takes long: so many at a time, first come first.

trio's own way to a thread names it twice for each call, carries context variables along, and goes
through its scheduler once more before it begins; that costs twice the work it is used for here.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar

import trio

T = TypeVar("T")


class Workers:
    """At most limit threads at work; what comes when all are waits its turn."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.busy = 0
        self._waiting: deque[_Job[Any]] = deque()
        #: What has ended, and whether its thread has as well.
        self._ended: deque[tuple[_Job[Any], bool]] = deque()
        #: Whether the scheduler has been told of what has ended, and has not looked yet.
        self._is_told = False

    async def run(self, work: Callable[[], T]) -> T:
        """What work returns or raises.

        Await: until a thread is free and has done it; cancelled, only if it has not begun.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        job = _Job(work, trio.lowlevel.current_task(), trio.lowlevel.current_trio_token())
        if self.busy < self.limit:
            self.busy += 1
            self._start(job)
        else:
            self._waiting.append(job)
        await trio.lowlevel.wait_task_rescheduled(partial(self._give_up, job))
        return job.result()

    def _give_up(self, job: "_Job[T]", _: object) -> trio.lowlevel.Abort:
        try:
            self._waiting.remove(job)
        except ValueError:
            return trio.lowlevel.Abort.FAILED
        return trio.lowlevel.Abort.SUCCEEDED

    def _start(self, job: "_Job[Any]") -> None:
        trio.lowlevel.start_thread_soon(partial(self._work_off, job), _nothing)

    def _work_off(self, job: "_Job[Any] | None") -> None:
        """In a thread: a job, and then those that wait."""
        while job is not None:
            job.do()
            try:
                following = self._waiting.popleft()
            except IndexError:
                following = None
            self._ended.append((job, following is None))
            if not self._is_told:
                self._is_told = True
                job.token.run_sync_soon(self._collect)
            job = following

    def _collect(self) -> None:
        self._is_told = False
        while self._ended:
            job, thread_ended = self._ended.popleft()
            trio.lowlevel.reschedule(job.task)
            if thread_ended and self._waiting:
                self._start(self._waiting.popleft())
            elif thread_ended:
                self.busy -= 1


class _Job(Generic[T]):
    """Something to be done in a thread, and what has come of it."""

    __slots__ = ("_error", "_result", "_work", "task", "token")

    def __init__(
        self, work: Callable[[], T], task: trio.lowlevel.Task, token: trio.lowlevel.TrioToken
    ) -> None:
        self._work = work
        self.task = task
        self.token = token
        self._error: BaseException | None = None

    def do(self) -> None:
        try:
            self._result = self._work()
        except BaseException as error:
            self._error = error

    def result(self) -> T:
        if self._error is None:
            return self._result
        try:
            raise self._error
        finally:
            self._error = None  # Or it would hold itself, by way of its traceback.


def _nothing(_: object) -> None:
    """Nobody waits for the end of a thread."""

"""Running scripts: the I/O of a target's own, step by step.

Every bio of a step enters the device below by the front door, planned on its own: it waits there
for what is suspended or locked, like any other. What a script holds meanwhile is its own lock, and
its bio in flight on its own device; so waits only ever point down.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial

import trio

from fusedm.block.errors import BlockIOError
from fusedm.crypto import do_all, submit_bio
from fusedm.dm.target import Many, Remap, Steps, T


async def run_script(steps: Steps[T]) -> T:
    """Carry a script out, step by step; returns what it returns.

    Raises: what the script raises or lets through.
    """
    error: BlockIOError | None = None
    try:
        while True:
            action = steps.throw(error) if error is not None else next(steps)
            try:
                await _submit(action)
                error = None
            except BlockIOError as failed:
                error = failed
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        steps.close()
        error = None  # Or it would be held by its own traceback.


class Turn(AbstractAsyncContextManager[None]):
    """For the scripts of one plan, which hold their locks together, to be run one at a time."""

    def __init__(self) -> None:
        self._lock = trio.Lock()

    async def __aenter__(self) -> None:
        """Wait, if another has it: acquire would go through the scheduler if none has, too."""
        try:
            self._lock.acquire_nowait()
        except trio.WouldBlock:
            await self._lock.acquire()

    async def __aexit__(self, *_: object) -> None:
        """Let the next one run."""
        self._lock.release()


async def run_for_bio(
    make: Callable[[], Steps[None]], turn: AbstractAsyncContextManager[object] | None
) -> None:
    """Carry out the script that is made for a bio, when it is its turn.

    Raises: BlockIOError.
    """
    async with turn or nullcontext():
        await run_script(make())


async def _submit(action: Remap | Many) -> None:
    """Have one step done.

    Raises: BlockIOError.
    """
    if isinstance(action, Remap):
        await submit_bio(action.device, action.bio)
        return
    works = []
    for remap in action.actions:
        assert isinstance(remap, Remap), "the steps of a script are bios for devices below"
        works.append(partial(submit_bio, remap.device, remap.bio))
    await do_all(works, at_once=True)

"""Running scripts: the I/O of a target's own, step by step.

Every bio of a step enters the device below by the front door, planned on its own: it waits there
for what is suspended or locked, like any other. What a script holds meanwhile is its own lock, and
its bio in flight on its own device; so waits only ever point down.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import Any

import trio

from fusedm.block import FLUSH
from fusedm.block.errors import BlockIOError, DeviceSuspended, WouldBlock
from fusedm.block.plan import Route, Scripted
from fusedm.crypto import carry_out_locked, do_all, raise_first, submit_bio, submit_bio_nowait
from fusedm.dm.target import Action, Each, Many, Remap, Script, Step, Wait
from fusedm.dm.turns import Steps, T


async def run_script(
    steps: Steps[T], take: Callable[[Step], Awaitable[Any]] | None = None, route: Route = ()
) -> T:
    """Carry a script out, step by step; returns what it returns.

    take carries a step out, take_step if not said otherwise. route: what the bio has passed whose
    script it is.
    Raises: what the script raises or lets through.
    """
    take = take or partial(take_step, route=route)
    answer: Any = None
    error: BlockIOError | None = None
    try:
        while True:
            step = steps.send(answer) if error is None else steps.throw(error)
            try:
                answer, error = await take(step), None
            except BlockIOError as failed:
                answer, error = None, failed
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        steps.close()
        error = None  # Or it would be held by its own traceback.


async def take_step(step: Step, route: Route = (), waits: bool = True) -> Any:
    """Have one step done; returns what its script is answered with.

    Raises: BlockIOError; DeviceSuspended unless it waits for that.
    """
    match step:
        case Remap(device, bio):
            await submit_bio(device, bio, route, waits)
        case Many(actions):
            raise_first(await _submit_all(actions, route, waits))
        case Each(actions):
            return await _submit_all(actions, route, waits)
        case Wait():
            return await wait(step)
        case Script():
            return await _run_step(step, route, waits)
        case _:
            raise AssertionError(f"{step} is for scripts in the background")


async def wait(step: Wait) -> bool:
    """Wait for a signal or a time; whether it was the signal."""
    called = trio.Event()
    if step.signal is not None:
        step.signal.call(called.set)
    try:
        with trio.move_on_after(step.seconds):
            await called.wait()
    finally:
        if step.signal is not None:
            step.signal.forget(called.set)
    return called.is_set()


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
    make: Callable[[], Steps[None]],
    route: Route,
    turn: AbstractAsyncContextManager[object] | None = None,
    waits: bool = True,
) -> None:
    """Carry out the script that is made for a bio, when it is its turn.

    Raises: BlockIOError, Requeue; DeviceSuspended unless it waits for that.
    """
    async with turn or nullcontext():
        await run_script(make(), partial(take_step, route=route, waits=waits))


async def _submit_all(
    actions: Sequence[Action], route: Route, waits: bool
) -> list[BlockIOError | None]:
    """Submit bios, and run scripts, those that have something to wait for at the same time."""
    outcomes: list[BlockIOError | None] = []
    for action in actions:
        try:
            outcomes.append(_submitted_now(action))
        except WouldBlock:
            break
    # The others are not looked at twice: where one has to wait they may well have to, too.
    works = [partial(_submit, action, route, waits) for action in actions[len(outcomes) :]]
    return outcomes + await do_all(works, at_once=len(works) > 1)


def _submitted_now(action: Action) -> BlockIOError | None:
    """What comes of a bio that is carried out on the spot, which takes no task of its own.

    Raises: WouldBlock, before any effect, if it has something to wait for.
    """
    if not isinstance(action, Remap) or action.bio.crypt is not None:
        raise WouldBlock  # A script waits, and the route of a context would have to be told.
    try:
        submit_bio_nowait(action.device, action.bio)
    except BlockIOError as error:
        return error
    return None


async def _submit(action: Action, route: Route, waits: bool) -> None:
    if isinstance(action, Script):
        await _run_step(action, route, waits)
        return
    assert isinstance(action, Remap), "the steps of a script are bios for devices below"
    await submit_bio(action.device, action.bio, route, waits)


async def _run_step(script: Script, route: Route, waits: bool) -> Any:
    """Run a script that is a step of another, again if it is given up and that one waits."""
    own_waits = waits if script.is_repeatable is None else not script.is_repeatable
    while True:
        try:
            return await _run_locked(script, partial(take_step, route=route, waits=own_waits))
        except DeviceSuspended as suspended:
            if not waits:
                raise
            wait = suspended.wait
        await wait()


async def _run_locked(script: Script, take: Callable[[Step], Awaitable[Any]]) -> Any:
    result: Any = None

    async def run() -> None:
        nonlocal result
        result = await run_script(script.steps(), take)

    await carry_out_locked(Scripted(FLUSH, run), script.locks)
    return result

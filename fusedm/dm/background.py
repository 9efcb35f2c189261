"""What the targets of a table do in the background: held while their device is suspended.

A script's next turn is given to it only while none is held; so between postsuspend and resumed
nothing of a target's own is under way, and none of its state changes.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import trio

from fusedm.block.errors import FusedmError
from fusedm.dm.scripts import run_script, take_step, wait
from fusedm.dm.target import Quiesce, Step, Wait
from fusedm.dm.turns import Steps

log = logging.getLogger(__name__)


class Background:
    """The background scripts of one table.

    name: of their device, for the log; quiesce waits until what is in flight on it has ended.
    Lives: from its first start until end; its tasks are trio's system tasks, since a device is made
    in one task and removed in another.
    """

    def __init__(self, name: str, quiesce: Callable[[], Awaitable[None]]) -> None:
        self._name = name
        self._quiesce = quiesce
        self._is_held = False
        #: Set while they may go on; while not, set when none is under way any more.
        self._go_on = trio.Event()
        self._idle = trio.Event()
        self._under_way = 0
        self._scopes: dict[trio.CancelScope, trio.Event] = {}

    def start(self, scripts: Iterable[Steps[None]]) -> None:
        """Begin them."""
        for steps in scripts:
            scope, ended = trio.CancelScope(), trio.Event()
            self._scopes[scope] = ended
            trio.lowlevel.spawn_system_task(self._run, steps, scope, ended)

    async def hold(self) -> None:
        """Let none have another turn, and wait for the steps under way."""
        if not self._is_held:
            self._is_held, self._go_on = True, trio.Event()
        while self._under_way:
            self._idle = trio.Event()
            await self._idle.wait()

    def go_on(self) -> None:
        """Give those that are held their turns."""
        self._is_held = False
        self._go_on.set()

    async def end(self) -> None:
        """End them where they are, and wait until they have."""
        for scope, ended in list(self._scopes.items()):
            scope.cancel()
            await ended.wait()

    async def _run(self, steps: Steps[None], scope: trio.CancelScope, ended: trio.Event) -> None:
        try:
            with scope:
                try:
                    await self._turn()
                    await run_script(steps, self._take)
                finally:
                    self._turn_over()
        except FusedmError as error:
            log.warning("%s: what it does in the background has ended: %s", self._name, error)
        finally:
            del self._scopes[scope]
            ended.set()

    async def _take(self, step: Step) -> Any:
        """One step of a script that has its turn; it has the next one when this returns."""
        if isinstance(step, Wait | Quiesce):
            self._turn_over()
            try:
                return await (wait(step) if isinstance(step, Wait) else self._quiesce())
            finally:
                await self._turn()
        try:
            # Others have a turn too, where no step has anything to wait for.
            await trio.lowlevel.checkpoint()
            return await take_step(step)
        finally:
            self._turn_over()
            await self._turn()

    async def _turn(self) -> None:
        try:
            while self._is_held:
                await self._go_on.wait()
        finally:
            self._under_way += 1  # Ended meanwhile, it has something to clean up.

    def _turn_over(self) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._idle.set()

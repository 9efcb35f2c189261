"""What requests leave behind in the daemon's memory is given back soon, and so overwritten.

Objects in cycles (an error knows the frames it went through, and they know it) wait for Python's
collector, which may take hours where little happens: they may hold text with a key in it.
"""

import gc

import trio

from fusedm.control.protocol import Request
from fusedm.control.server import Dispatch
from fusedm.host.memory import wipe_stack

#: How long after a request it is done: for many requests at once, and before anybody looks.
FORGET_SECONDS = 0.5


class Forgetting:
    """Collects garbage a little after each burst of requests, and after the start."""

    def __init__(self) -> None:
        self._asked = trio.Event()
        self._asked.set()

    def after(self, dispatch: Dispatch) -> Dispatch:
        """The same, but what it leaves behind is collected."""

        async def dispatch_and_note(request: Request) -> object:
            try:
                return await dispatch(request)
            finally:
                self._asked.set()

        return dispatch_and_note

    async def run(self) -> None:
        """Collect until cancelled."""
        while True:
            await self._asked.wait()
            self._asked = trio.Event()
            await trio.sleep(FORGET_SECONDS)
            gc.collect()
            wipe_stack()

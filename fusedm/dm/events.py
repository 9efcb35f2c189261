"""Events of a mapped device: counted, and waited for."""

import trio


class EventCounter:
    """How many events there were; what is an event is decided by targets and the stack."""

    def __init__(self) -> None:
        self.event_number = 0
        self._next_event = trio.Event()

    def raise_event(self) -> None:
        """Count an event and wake those who wait for one."""
        self.event_number += 1
        self._next_event.set()
        self._next_event = trio.Event()

    async def wait_event(self, number: int) -> None:
        """Wait until another number of events has been counted than this."""
        while self.event_number == number:
            await self._next_event.wait()

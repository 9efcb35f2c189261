"""How much one client may have under way: what is more stays unread in its socket."""

import trio

#: Requests of one connection that are under way: more than clients have by themselves (QEMU 16),
#: and few enough for a suspended device to hold that many for each.
MAX_IN_HAND = 128
#: Bytes of their data: two of the longest requests.
MAX_BYTES_IN_HAND = 64 << 20


class Room:
    """What one client has under way."""

    def __init__(self) -> None:
        self._requests = self._bytes = 0
        self._changed = trio.Event()

    def has_room(self, size: int) -> bool:
        """Whether one more request with so many bytes may begin."""
        fits = self._bytes + size <= MAX_BYTES_IN_HAND
        return self._requests < MAX_IN_HAND and fits

    @property
    def is_empty(self) -> bool:
        """Whether nothing is under way."""
        return not self._requests

    def take(self, size: int) -> None:
        """One more is under way."""
        self._requests += 1
        self._bytes += size

    def give_back(self, size: int) -> None:
        """It is over."""
        self._requests -= 1
        self._bytes -= size
        self._changed.set()

    async def wait(self) -> None:
        """Until one more is over."""
        self._changed = trio.Event()
        await self._changed.wait()

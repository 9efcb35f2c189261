"""What scripts wait for. Pure."""

from collections.abc import Callable


class Signal:
    """Whoever finds that it has to wait does so in its next step: so no call of it is lost."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[Callable[[], None], None] = {}

    def notify(self) -> None:
        """Let everybody go on who waits."""
        waiting, self._waiting = self._waiting, {}
        for wake in waiting:
            wake()

    def call(self, wake: Callable[[], None]) -> None:
        """Have wake called once, at the next notify."""
        self._waiting[wake] = None

    def forget(self, wake: Callable[[], None]) -> None:
        """Do not call it any more."""
        self._waiting.pop(wake, None)

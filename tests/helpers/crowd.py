"""Many who do the same at once, and what became of each; and waiting with a bound."""

import threading
import time
from collections.abc import Callable

#: Another file must answer well within this, however busy the machine is.
PROMPT_SECONDS = 5.0


class Crowd:
    """Threads that each do one thing, and what came of it: a result, or an errno."""

    def __init__(self, count: int, work: Callable[[int], object]) -> None:
        self.results: dict[int, object] = {}
        self._work = work
        self._threads = [
            threading.Thread(target=self._run, args=(i,), daemon=True) for i in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, index: int) -> None:
        try:
            self.results[index] = self._work(index)
        except OSError as error:
            self.results[index] = error.errno

    def join(self) -> dict[int, object]:
        """All results, once all are done."""
        for thread in self._threads:
            thread.join(20)
        assert not any(thread.is_alive() for thread in self._threads), "some still wait"
        assert len(self.results) == len(self._threads), "some have failed"
        return self.results


def promptly(work: Callable[[], object]) -> object:
    """The result of work, which must not be held up."""
    crowd = Crowd(1, lambda _: work())
    deadline = time.monotonic() + PROMPT_SECONDS
    while time.monotonic() < deadline:
        if crowd.results:
            return crowd.join()[0]
        time.sleep(0.01)
    raise AssertionError(f"no answer within {PROMPT_SECONDS} seconds")


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something that another process is about to do."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)

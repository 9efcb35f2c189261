"""trio with the order of its tasks from a seed: the same seed, the same interleaving."""

from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest
import trio
from trio.testing import MockClock


def run_seeded(seed: int, main: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    """Run main as trio.run does, in an order of tasks that follows from the seed, in no time.

    In each step trio carries out the tasks that can go on in a random order. Sorted first, and
    with dice of ours, that order is the seed's.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
        patch.setattr(trio._core._run, "_r", Random(seed))
        return trio.run(main, *args, clock=MockClock(autojump_threshold=0))

"""The lane, with a socket in place of the kernel."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.helpers.express_loop import Finder, Loop
from tests.helpers.lane_kernel import Kernel, running


@pytest.fixture
def idle() -> Iterator[Kernel]:
    """A lane that does not run yet."""
    kernel = Kernel()
    yield kernel
    kernel.close()


@pytest.fixture
async def kernel(idle: Kernel) -> AsyncIterator[Kernel]:
    """A lane at work."""
    async with running(idle):
        yield idle


@pytest.fixture
def finder() -> Finder:
    """Paths that a test adds."""
    return Finder()


@pytest.fixture
def loop(finder: Finder) -> Iterator[Loop]:
    """The compiled loop, which asks the finder."""
    loop = Loop(finder)
    yield loop
    loop.close()

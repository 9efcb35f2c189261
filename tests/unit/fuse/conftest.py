"""The lane, and its compiled loop alone, with a socket in place of the kernel."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.helpers.express_loop import RoutedLoop, routed
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
def loop() -> Iterator[RoutedLoop]:
    """The compiled loop over two disks with engines."""
    with routed() as loop:
        yield loop

"""The compiled loop of the lane, as somebody who asks for paths."""

from collections.abc import Iterator

import pytest

from tests.helpers.express_loop import RoutedLoop, routed


@pytest.fixture
def loop() -> Iterator[RoutedLoop]:
    """The compiled loop over two disks with engines."""
    with routed() as loop:
        yield loop

"""The contract of stores that wait, over images of a real cluster."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import FunctionType

import pytest

from fusedm.stores import WaitingStore
from tests.ceph.conftest import MakeImage
from tests.contracts import test_every_waiting_store as contract
from tests.helpers.ceph.cluster import Cluster
from tests.helpers.ceph.opened import opened

pytestmark = pytest.mark.ceph


@asynccontextmanager
async def rbd(
    ceph: Cluster, make_image: MakeImage, _: Path, size: int, read_only: bool
) -> AsyncIterator[WaitingStore]:
    """A store over a new image."""
    async with opened(ceph, make_image(size), read_only=read_only) as store:
        yield store


@pytest.fixture
def opener(ceph: Cluster, make_image: MakeImage) -> contract.Opener:
    return partial(rbd, ceph, make_image)


def over_rbd(test: FunctionType) -> Callable[..., object]:
    """The test without its own openers, so that it takes the one above."""
    copy = FunctionType(test.__code__, test.__globals__, test.__name__)
    marks = getattr(test, "pytestmark", ())
    copy.pytestmark = [mark for mark in marks if mark.args[:1] != ("opener",)]  # type: ignore[attr-defined]  # pytest's
    return copy


for name, test in vars(contract).items():
    if name.startswith("test_"):
        globals()[name] = over_rbd(test)


def test_the_whole_contract_is_here() -> None:
    names = [name for name in vars(contract) if name.startswith("test_")]
    assert len(names) > 10
    assert all(name in globals() for name in names)

"""One cluster a session, and images of it."""

from collections.abc import Callable, Iterator
from itertools import count

import pytest

from tests.helpers.ceph.cluster import POOL, Cluster, cluster

MakeImage = Callable[..., str]

_numbers = count(1)


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that serves."""
    with cluster(tmp_path_factory.mktemp("ceph") / "cluster") as made:
        yield made


@pytest.fixture
def make_image(ceph: Cluster) -> MakeImage:
    """Makes an image of so many bytes and gives pool/name; words are for rbd create."""

    def make(size: int = 64 << 20, *words: str) -> str:
        name = f"{POOL}/image{next(_numbers)}"
        ceph.rbd("create", "--size", f"{size}B", *words, name)
        return name

    return make

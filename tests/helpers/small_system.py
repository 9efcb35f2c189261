"""A system of two disks, one mapped device and one view, and what it refuses."""

from collections.abc import Callable

import pytest

from fusedm.block.errors import StackError
from fusedm.system import System
from tests.helpers.builders import make_disk, make_key


async def make_system() -> System:
    """Two disks, dm0 over d0, key k of 4096-byte units, view v on dm0 from DUN 5."""
    system = System()
    system.add_disk(make_disk("d0", slots=2))
    system.add_disk(make_disk("d1"))
    system.add_mapped("dm0", "uuid-0")
    system.load("dm0", "0 100 linear d0 0")
    await system.mapped["dm0"].resume()
    system.add_key(make_key("k", 4096))
    system.add_view("v", "dm0", "k", 5)
    return system


def refusal(number: int, call: Callable[..., object], *words: object) -> str:
    """What a call says that is refused with an errno."""
    with pytest.raises(StackError) as caught:
        call(*words)
    assert caught.value.errno == number
    return str(caught.value)

"""One suite on contexts, run through Python objects and through the mount: the same must hold.

Each test asks for bytes of files and for verbs only; who answers is the fixture's doing.
"""

import errno
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest
import trio
from trio.from_thread import run as in_trio

from fusedm.block import MODES
from fusedm.block.errors import FusedmError
from fusedm.files import device_file
from fusedm.inspect.independent import encrypt_unit
from tests.helpers import mounted
from tests.helpers.builders import pattern
from tests.helpers.commands import Verbs, verbs
from tests.helpers.mounted import mounted_stack, read_at, write_at

pytestmark = pytest.mark.fuse

UNIT = 4096
#: The first DUN of each view: it carries into the second word within the view.
BASE = (1 << 32) - 3
KEYS = {mode: bytes(pattern(MODES[mode].key_size, 7)) for mode in MODES}

STACK = """
version = 1
[disks.rich]
size = "128KiB"
store = "memory:"
engine = { profile = "everything", keyslots = 2 }
[disks.poor]
size = "128KiB"
store = "memory:"
[mapper.m]
table = '''
0 64 striped 2 8 rich 0 poor 0
64 60 linear rich 64
124 68 linear poor 64
'''
""" + "".join(
    f"""
[keys.{mode}]
mode = "{mode}"
data_unit_size = {UNIT}
dun_bytes = 8
source = "file:{mode}.key"
[views.{mode}]
device = "m"
key = "{mode}"
start = "{index * 20}KiB"
size = "20KiB"
dun_base = {BASE}
"""
    for index, mode in enumerate(MODES)
)


class Way(Protocol):
    """A stack, however it is reached."""

    def read(self, name: str, offset: int, length: int) -> bytes: ...
    def write(self, name: str, offset: int, data: bytes) -> None: ...
    def call(self, verb: str, **args: Any) -> Any: ...


class ThroughPython:
    """A stack in this process; a test is in a thread beside its trio."""

    def __init__(self, stack: Verbs) -> None:
        self._stack = stack

    def read(self, name: str, offset: int, length: int) -> bytes:
        view = self._stack.stack.system.view(name)
        return bytes(in_trio(device_file.read, view, offset, length))

    def write(self, name: str, offset: int, data: bytes) -> None:
        view = self._stack.stack.system.view(name)
        in_trio(device_file.write, view, offset, memoryview(data))

    def call(self, verb: str, **args: Any) -> Any:
        return in_trio(functools.partial(self._stack.call, verb, **args))


class ThroughTheMount:
    """A stack in a daemon, by its files and its socket."""

    def __init__(self, stack: mounted.Mounted) -> None:
        self._stack = stack

    def _path(self, name: str) -> Path:
        return next(self._stack.mount_point.glob(f"*/{name}"))

    def read(self, name: str, offset: int, length: int) -> bytes:
        return read_at(self._path(name), offset, length)

    def write(self, name: str, offset: int, data: bytes) -> None:
        write_at(self._path(name), offset, data)

    def call(self, verb: str, **args: Any) -> Any:
        return self._stack.call(verb, **args)


Check = Callable[[Callable[[Way], None]], None]


@pytest.fixture(params=["python", "lane", "libfuse"])
def check(request: pytest.FixtureRequest, tmp_path: Path) -> Check:
    """Run a check on a fresh stack, in one of the ways."""
    for mode, raw in KEYS.items():
        path = tmp_path / f"{mode}.key"
        path.touch(mode=0o600)
        path.write_bytes(raw)

    def through_python(work: Callable[[Way], None]) -> None:
        async def main() -> None:
            async with verbs(tmp_path, STACK) as stack:
                await trio.to_thread.run_sync(work, ThroughPython(stack))

        trio.run(main)

    def through_the_mount(work: Callable[[Way], None]) -> None:
        options = ["--no-lane"] if request.param == "libfuse" else []
        with mounted_stack(STACK, tmp_path, *options) as stack:
            work(ThroughTheMount(stack))

    return through_python if request.param == "python" else through_the_mount


def ciphertext(mode: str, first: int, data: bytes) -> bytes:
    """What the medium should hold of units from first on, by the second implementation."""
    units = range(len(data) // UNIT)
    cut = [data[unit * UNIT : (unit + 1) * UNIT] for unit in units]
    return b"".join(
        encrypt_unit(mode, KEYS[mode], BASE + first + unit, part)
        for unit, part in zip(units, cut, strict=True)
    )


def test_every_mode_leaves_the_ciphertext_of_the_reference_across_all_borders(check: Check):
    def work(way: Way) -> None:
        for index, mode in enumerate(MODES):
            data = bytes(pattern(5 * UNIT, index))
            way.write(mode, 0, data)
            assert way.read(mode, 0, len(data)) == data
            assert way.read("m", index * 5 * UNIT, len(data)) == ciphertext(mode, 0, data)
        for mode in MODES:
            assert way.call("verify.part", name=mode, begin=0, end=5 * UNIT)["mismatch_count"] == 0

    check(work)


def test_less_than_a_unit_changes_that_unit_alone(check: Check):
    def work(way: Way) -> None:
        for mode in MODES:
            data = bytearray(pattern(5 * UNIT, 1))
            way.write(mode, 0, bytes(data))
            way.write(mode, 2 * UNIT - 3, b"seven b")
            data[2 * UNIT - 3 : 2 * UNIT + 4] = b"seven b"
            assert way.read(mode, 0, 5 * UNIT) == data

    check(work)


def test_no_byte_changes_with_tables_and_engines(check: Check):
    def work(way: Way) -> None:
        for index, mode in enumerate(MODES):
            way.write(mode, 0, bytes(pattern(5 * UNIT, index)))
        before = way.read("m", 0, 20 * 5 * 1024)
        way.call("disk.loseengine", name="rich")
        again = bytes(pattern(5 * UNIT, 0))
        way.write(next(iter(MODES)), 0, again)
        way.call("disk.gainengine", name="poor", engine={"profile": "everything"})
        way.write("SM4-XTS", 0, bytes(pattern(5 * UNIT, len(MODES) - 1)))
        assert way.read("m", 0, len(before)) == before
        way.call("dm.load", name="m", table="0 192 error")
        way.call("dm.clear", name="m")
        for index, mode in enumerate(MODES):
            assert way.read(mode, 0, 5 * UNIT) == bytes(pattern(5 * UNIT, index))

    check(work)


REFUSALS = [
    ("key.add", {"mode": "ROT-13"}, errno.EINVAL),
    ("key.add", {"dun_bytes": 0}, errno.EINVAL),
    ("key.add", {"dun_bytes": 17}, errno.EINVAL),
    ("key.add", {"data_unit_size": 768}, errno.EINVAL),
    ("view.add", {"device": "m", "key": "Adiantum", "start": 512}, errno.EINVAL),
    ("view.add", {"device": "m", "key": "Adiantum", "dun_base": (1 << 64) - 1}, errno.EINVAL),
    ("key.generatewrapped", {"name": "poor"}, errno.EOPNOTSUPP),
    ("key.generatewrapped", {"name": "m"}, errno.EOPNOTSUPP),
    ("key.prepare", {"name": "rich", "key": "AAAA"}, errno.EBADMSG),
    ("key.remove", {"name": "Adiantum"}, errno.EBUSY),
    ("disk.resetengine", {"name": "poor"}, errno.EOPNOTSUPP),
    ("disk.gainengine", {"name": "rich", "engine": {"profile": "ufs"}}, errno.EEXIST),
    ("verify.view", {"name": "nobody"}, errno.ENXIO),
]
USUAL = {
    "key.add": {
        "name": "z", "mode": "AES-256-XTS", "data_unit_size": 4096, "dun_bytes": 8,
        "source": "random",
    },
    "view.add": {"name": "z"},
}  # fmt: skip


def test_what_is_refused_is_refused_with_the_same_errno(check: Check):
    def work(way: Way) -> None:
        for verb, args, number in REFUSALS:
            with pytest.raises(FusedmError) as caught:
                way.call(verb, **(USUAL.get(verb, {}) | args))
            assert caught.value.errno == number, (verb, args, str(caught.value))

    check(work)


def test_who_honours_a_context_is_told_alike(check: Check):
    def work(way: Way) -> None:
        (told,) = way.call("why", name="SM4-XTS")["configs"]
        assert {one["how"] for one in told["extents"]} == {"fallback above", "leaf fallback"}
        (told,) = way.call("why", name="AES-256-XTS")["configs"]
        places = {(one["how"], one["where"]) for one in told["extents"]}
        assert places == {("native", "rich"), ("leaf fallback", "poor")}

    check(work)

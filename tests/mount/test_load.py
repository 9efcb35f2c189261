"""Every byte is read back right under load, while tables change and two keys share one keyslot."""

import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Self

import pytest

from fusedm.control.client import Client
from tests.helpers.mounted import KEY_TABLES, MIB, Mounted, mounted_stack, read_at, write_at
from tests.helpers.places import folder_on_disk

pytestmark = pytest.mark.fuse

#: Of each device that is written: small, so that all of it is written several times.
SIZE = 4 * MIB
SECTORS = SIZE // 512

#: The views home and small lie on one disk, whose engine has one keyslot for both of their keys.
STACK = f"""
version = 1
[disks.m0]
size = "16MiB"
store = "memory:"
engine = {{ keyslots = 1, max_dun_bytes = 8, modes = {{ "AES-256-XTS" = [512, 4096] }} }}
[disks.m1]
size = "16MiB"
store = "memory:"
[mapper.one]
table = "0 {SECTORS} linear m0 0"
[mapper.two]
table = "0 {SECTORS} linear m0 {SECTORS}"
[mapper.bare]
table = "0 {SECTORS} linear m1 0"
[mapper.three]
table = "0 {SECTORS} linear m0 {2 * SECTORS}"
{KEY_TABLES}
[views.home]
device = "one"
key = "alice"
[views.small]
device = "two"
key = "small"
[views.looped]
device = "three"
key = "alice"
"""

#: Where a device may lie; its content is moved along, and what stays behind made useless.
PLACES = {
    "one": [("m0", 0), ("m0", 3 * SECTORS)],
    "two": [("m0", SECTORS)],
    "bare": [("m1", 0), ("m1", SECTORS)],
    "three": [("m0", 2 * SECTORS)],
}


def tables(disk: str, begin: int) -> list[str]:
    """Tables that send every sector to one place: whole, cut in units, in chunks, and slower."""
    cut, half = 2501, SECTORS // 2
    return [
        f"0 {SECTORS} linear {disk} {begin}",
        f"0 {cut} linear {disk} {begin}\n{cut} {SECTORS - cut} linear {disk} {begin + cut}",
        f"0 {SECTORS} striped 1 64 {disk} {begin}",
        f"0 {half} linear {disk} {begin}\n{half} {half} flakey {disk} {begin + half} 1 0",
    ]


@pytest.fixture(scope="module", params=["memory", "disk"])
def stack(
    request: pytest.FixtureRequest, way: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mounted]:
    text, directory = STACK, tmp_path_factory.mktemp("load")
    with folder_on_disk(directory) as folder:
        if request.param == "disk":
            for name in ("m0", "m1"):
                text = text.replace("memory:", f"file:{folder}/{name}.img", 1)
        with mounted_stack(text, directory) as mounted:
            yield mounted


class Changes:
    """Tables are swapped and devices suspended and moved, in a thread of its own, until the end."""

    def __init__(self, stack: Mounted) -> None:
        self.made: Counter[str] = Counter()
        self._stack = stack
        self._at = {name: places[0] for name, places in PLACES.items()}
        self._finished = threading.Event()
        self._errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._finished.set()
        self._thread.join()
        assert self._errors == []

    def _run(self) -> None:
        try:
            with Client(str(self._stack.mount_point)) as client:
                for index in count():
                    for name, places in PLACES.items():
                        self._change(client, name, index, places[index % len(places)])
                    # All are back at their first places after an even number of rounds.
                    if index % 2 and self._finished.is_set():
                        return
        except BaseException as error:
            self._errors.append(error)

    def _change(self, client: Client, name: str, index: int, place: tuple[str, int]) -> None:
        """Load the next kind of table; if it is of another place, move the content there."""
        if place != self._at[name]:
            client.call("dm.suspend", name=name)
            old, new = (self._stack.disk(disk) for disk, _ in (self._at[name], place))
            begins = self._at[name][1] * 512, place[1] * 512
            write_at(new, begins[1], read_at(old, begins[0], SIZE))
            write_at(old, begins[0], b"\xee" * SIZE)
            self._at[name] = place
        kinds = tables(*place)
        client.call("dm.load", name=name, table=kinds[index // 2 % len(kinds)])
        client.call("dm.resume", name=name)
        self.made[name] += 1


def fio_verifies(folder: Path, *files: tuple[Path, str]) -> None:
    """Write each file in blocks of any size, all files at once, and read all of it back."""
    command = [
        "fio", "--rw=randrw", "--rwmixread=30", "--direct=1", "--ioengine=libaio", "--iodepth=16",
        f"--size={SIZE}", "--loops=10", "--verify=crc32c", "--verify_fatal=1", "--verify_dump=0",
        "--norandommap=0", f"--aux-path={folder}",
    ]  # fmt: skip
    for file, smallest in files:
        command += [f"--name={file.name}", f"--filename={file}", f"--bsrange={smallest}-128k"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verify" not in done.stderr


def test_what_fio_writes_to_views_and_devices_it_reads_back_while_tables_change(
    stack: Mounted, tmp_path: Path
) -> None:
    with Changes(stack) as changes:
        fio_verifies(
            tmp_path,
            (stack.view("home"), "512"),
            (stack.view("small"), "512"),
            (stack.mapper("bare"), "512"),
        )
    assert min(changes.made[name] for name in PLACES) > 2


@pytest.mark.loop
def test_what_fio_writes_to_a_loop_device_over_a_view_it_reads_back_while_tables_change(
    stack: Mounted, tmp_path: Path
) -> None:
    done = stack.fusedm("attach", "looped")
    assert done.returncode == 0, done.stderr
    node = Path(done.stdout.strip())
    with Changes(stack) as changes:
        fio_verifies(tmp_path, (node, "4k"), (stack.view("home"), "512"))
    assert min(changes.made[name] for name in PLACES) > 2
    assert read_at(node, 0, SIZE) == stack.view("looped").read_bytes()
    assert stack.fusedm("detach", "looped").returncode == 0

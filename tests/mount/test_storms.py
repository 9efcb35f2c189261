"""Storms: fio writes and verifies every kind of device over every kind of store, while at random
tables are swapped, devices suspended, keys evicted, engines lost, gained and reset.

FUSEDM_STORM_SECONDS is how long each blows, FUSEDM_STORM_SEED repeats one: its verbs and what fio
does, not when.
"""

import base64
import json
import os
import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Self

import pytest

from fusedm.block.errors import FusedmError
from fusedm.control.client import Client
from fusedm.host import loop
from tests.helpers import reference_xts
from tests.helpers.crowd import Crowd, wait_until
from tests.helpers.mounted import KEYS, MIB, Mounted, mounted_stack, opened, read_at, write_at
from tests.helpers.nightly import nightly_but
from tests.helpers.places import folder_on_disk, folder_on_tmpfs

pytestmark = [pytest.mark.fuse, pytest.mark.loop]

SECONDS = float(os.environ.get("FUSEDM_STORM_SECONDS", "2"))
SEED = int(os.environ.get("FUSEDM_STORM_SEED") or random.randrange(1 << 30))

#: Of each device.
SIZE = 2 * MIB
SECTORS = SIZE // 512
CHUNK = 16
DISK_SIZE = 8 * SIZE
CRYPT_KEY = bytes(range(64))
ENGINE = {"keyslots": 2, "max_dun_bytes": 8, "modes": {"AES-256-XTS": [512, 4096]}}

#: Each mapped device: its kind, its disk, and the first sector of it there.
DEVICES = {
    name: (kind, disk, place * SECTORS)
    for name, kind, disk, place in (
        ("linear", "linear", "a", 0),
        ("native", "linear", "a", 1),
        ("ragged", "linear", "a", 2),
        ("spare", "linear", "a", 3),
        ("soft", "linear", "b", 0),
        ("crypt", "crypt", "b", 1),
        ("flakey", "flakey", "b", 2),
        ("striped", "striped", "a", 4),
    )
}

#: The views: device, key, data unit size.
VIEWS = {
    "engine": ("native", "alice", 4096),
    "fallback": ("soft", "small", 512),
    "unaligned": ("ragged", "alice", 4096),
    "twin": ("native", "alice", 4096),
    "second": ("soft", "small", 512),
    "evicted": ("spare", "third", 4096),
}
RAW = {**KEYS, "third": bytes(range(64, 128))}

#: What fio writes to, in requests that are whole sectors.
ALIGNED = {
    "linear": "mapper/linear",
    "native": "views/engine",
    "soft": "views/fallback",
    "crypt": "mapper/crypt",
    "flakey": "mapper/flakey",
    "striped": "mapper/striped",
}


def tables(name: str) -> list[str]:
    """Tables under which a device has the same content in the same place."""
    kind, disk, begin = DEVICES[name]
    whole = {
        "linear": f"linear {disk} {begin}",
        "flakey": f"flakey {disk} {begin} 1 0",
        "crypt": f"crypt aes-xts-plain64 {CRYPT_KEY.hex()} 0 {disk} {begin}",
        "striped": f"striped 2 {CHUNK} a {begin} b {begin}",
    }[kind]
    found = [f"0 {SECTORS} {whole}"]
    if kind == "striped":
        half, quarter = SECTORS // 2, SECTORS // 4
        later = f"striped 2 {CHUNK} a {begin + quarter} b {begin + quarter}"
        return [*found, f"0 {half} {whole}\n{half} {half} {later}"]
    cut = 2504 if kind == "crypt" else 2501
    if kind == "crypt":
        later = f"crypt aes-xts-plain64 {CRYPT_KEY.hex()} {cut} {disk} {begin + cut}"
        return [*found, f"0 {cut} {whole}\n{cut} {SECTORS - cut} {later}"]
    for later in ("linear {} {}", "flakey {} {} 1 0", "delay {} {} 0", "dust {} {} 512"):
        line = later.format(disk, begin + cut)
        found.append(f"0 {cut} {whole}\n{cut} {SECTORS - cut} {line}")
    return [*found, f"0 {SECTORS} striped 1 64 {disk} {begin}"]


def key_file(name: str, unit: int) -> str:
    return f"""
[keys.{name}]
mode = "AES-256-XTS"
data_unit_size = {unit}
dun_bytes = 8
source = "file:{name}.key"
"""


def stack_file(a: str, b: str) -> str:
    """Two disks of one kind, the first with an engine, and all that lies over them."""
    engine = 'engine = { keyslots = 2, max_dun_bytes = 8, modes = { "AES-256-XTS" = [512, 4096] } }'
    text = f'version = 1\n[disks.a]\nsize = "{DISK_SIZE}"\nstore = "{a}"\n{engine}\n'
    text += f'[disks.b]\nsize = "{DISK_SIZE}"\nstore = "{b}"\n'
    text += "".join(f"[mapper.{name}]\ntable = '''\n{tables(name)[0]}\n'''\n" for name in DEVICES)
    text += key_file("alice", 4096) + key_file("small", 512) + key_file("third", 4096)
    for view, (device, key, _) in VIEWS.items():
        text += f'[views.{view}]\ndevice = "{device}"\nkey = "{key}"\n'
    return text


class Storm:
    """Verbs at random in a thread of its own, from a seed, until the end of the with block."""

    def __init__(self, stack: Mounted, seed: int) -> None:
        self.made: Counter[str] = Counter()
        self._stack = stack
        self._random = random.Random(seed)
        self._finished = threading.Event()
        self._errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._finished.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "a verb does not end"
        assert self._errors == []

    def _run(self) -> None:
        verbs = (self._swap, self._suspend, self._evict, self._renew_engine, self._reset,
                 self._look, self._be_refused)  # fmt: skip
        try:
            with Client(str(self._stack.mount_point)) as client:
                while not self._finished.is_set():
                    verb = self._random.choice(verbs)
                    verb(client)
                    self.made[verb.__name__] += 1
                    time.sleep(self._random.random() * 0.02)
        except BaseException as error:
            self._errors.append(error)

    def _swap(self, client: Client) -> None:
        name = self._random.choice([*DEVICES])
        client.call("dm.load", name=name, table=self._random.choice(tables(name)))
        if self._random.random() < 0.1:
            client.call("dm.clear", name=name)
        else:
            client.call("dm.resume", name=name)

    def _suspend(self, client: Client) -> None:
        names = self._random.sample([*DEVICES], self._random.randint(1, 3))
        for name in names:
            client.call("dm.suspend", name=name, noflush=self._random.random() < 0.5)
            assert self._stack.told(name, "inflight").split() == ["0", "0"]
        time.sleep(self._random.random() * 0.03)
        for name in names:
            client.call("dm.resume", name=name)

    def _evict(self, client: Client) -> None:
        """A key that is in use only now and then loses its keyslot and is added again."""
        device, key, unit = VIEWS["evicted"]
        data = self._random.randbytes(4 * 4096)
        write_at(self._stack.view("evicted"), 0, data)
        # The kernel tells of the end of an open when it likes.
        wait_until(lambda: client.call("view.show", name="evicted")["open"] == 0)
        client.call("view.remove", name="evicted")
        client.call("key.remove", name=key)
        raw = base64.b64encode(RAW[key]).decode()
        words = {"mode": "AES-256-XTS", "data_unit_size": unit, "dun_bytes": 8}
        client.call("key.add", name=key, source=f"file:{key}.key", raw=raw, **words)
        client.call("view.add", name="evicted", device=device, key=key)
        assert read_at(self._stack.view("evicted"), 0, len(data)) == data

    def _renew_engine(self, client: Client) -> None:
        client.call("disk.loseengine", name="a")
        time.sleep(self._random.random() * 0.03)
        client.call("disk.gainengine", name="a", engine=ENGINE)

    def _reset(self, client: Client) -> None:
        client.call("disk.resetengine", name="a")

    def _look(self, client: Client) -> None:
        for name in self._random.sample([*DEVICES, "a", "b"], 4):
            for file in ("stat", "inflight", "fusedm/crypto_extents"):
                self._stack.told(name, file)
        client.call("status")
        client.call("why", name="engine")

    def _be_refused(self, client: Client) -> None:
        verb, name = self._random.choice(
            [("key.remove", "alice"), ("view.remove", "engine"), ("disk.remove", "a")]
        )
        with pytest.raises(FusedmError, match="open|use"):
            client.call(verb, name=name)


def fio(stack: Mounted, folder: Path, seed: int) -> dict[str, tuple[int, ...]]:
    """Write all devices at once and read all back; reads, bytes read, writes, bytes written."""
    command = [
        "fio", "--rw=randrw", "--rwmixread=30", f"--size={SIZE}", "--verify=crc32c",
        "--verify_fatal=1", "--verify_dump=0", "--norandommap=0", f"--aux-path={folder}",
        f"--randseed={seed}", "--fsync=64", "--output-format=json",
    ]  # fmt: skip
    direct = ["--direct=1", "--ioengine=libaio", "--iodepth=16"]
    for name, file in ALIGNED.items():
        command += [f"--name={name}", f"--filename={stack.mount_point / file}", *direct]
        smallest = "4k" if name == "native" else "512"  # Less would be read first.
        command += [f"--bsrange={smallest}-1m"]
    command += ["--name=ragged", f"--filename={stack.view('unaligned')}", "--ioengine=psync"]
    command += ["--direct=0", "--bs_unaligned=1", "--bsrange=600-300k"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verify" not in done.stderr
    return {
        job["jobname"]: tuple(job[way][what] for way in ("read", "write") for what in COLUMNS)
        for job in json.loads(done.stdout)["jobs"]
    }


COLUMNS = ("total_ios", "io_bytes")


def counted(stack: Mounted, name: str) -> tuple[int, ...]:
    """The same of a device, by its own counters."""
    columns = [int(word) for word in stack.told(name, "stat").split()]
    return columns[0], columns[2] * 512, columns[4], columns[6] * 512


def added(*counts: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(sum, zip(*counts, strict=True)))


@pytest.fixture(
    params=nightly_but(
        ["memory", "disk", "volatile"], ["memory", "tmpfs", "disk", "block device", "volatile"]
    )
)
def stack(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mounted]:
    kind = request.param
    (tmp_path / "third.key").touch(mode=0o600)
    (tmp_path / "third.key").write_bytes(RAW["third"])
    with ExitStack() as undo:
        stores = {"a": "memory:", "b": "memory:"}
        if kind == "volatile":
            stores = {name: f"volatile:{text}" for name, text in stores.items()}
        elif kind != "memory":
            place = folder_on_tmpfs if kind == "tmpfs" else folder_on_disk
            folder = undo.enter_context(place(tmp_path))
            for name in stores:
                file = folder / f"{name}.img"
                file.touch()
                os.truncate(file, DISK_SIZE)
                if kind == "block device":
                    device = loop.attach(str(file), 512)
                    undo.callback(loop.detach, device)
                    file = Path(device.node)
                stores[name] = f"file:{file}"
        yield undo.enter_context(mounted_stack(stack_file(**stores), tmp_path))


def test_what_is_written_in_a_storm_is_read_back_stored_and_counted(
    stack: Mounted, tmp_path: Path
) -> None:
    print(f"FUSEDM_STORM_SEED={SEED}")
    seeds = random.Random(SEED)
    for file in (*ALIGNED.values(), "views/unaligned"):  # Or zeros would be holes to views.
        write_at(stack.mount_point / file, 0, seeds.randbytes(SIZE))
    before = {name: counted(stack, name) for name in (*DEVICES, "a", "b")}
    done = {name: (0, 0, 0, 0) for name in (*ALIGNED, "ragged")}
    ends = time.monotonic() + SECONDS
    with opened(stack.view("engine")), Storm(stack, seeds.randrange(1 << 30)) as storm:
        while time.monotonic() < ends:
            told = fio(stack, tmp_path, seeds.randrange(1 << 30))
            done = {name: added(done[name], told[name]) for name in done}
    assert storm.made.total() > 10
    check_counters(stack, before, done)
    check_content(stack)


@pytest.mark.parametrize(("one", "other"), [("engine", "twin"), ("fallback", "second")])
def test_a_whole_write_is_never_undone_by_a_part_that_another_writes(
    stack: Mounted, one: str, other: str
) -> None:
    """Who writes a part of a block reads the rest and writes it again; nobody gets in between."""
    with opened(stack.view(one)) as whole, opened(stack.view(other)) as part:
        for round_ in range(1, 101):
            block, some = bytes([round_]) * 4096, bytes([100 + round_]) * 100
            crowd = Crowd(2, partial(write_both, ((whole, 0, block), (part, 100, some))))
            assert set(crowd.join().values()) == {4096, 100}
            assert os.pread(whole, 4096, 0) in (block, block[:100] + some + block[200:])


def write_both(what: Sequence[tuple[int, int, bytes]], index: int) -> int:
    fd, offset, data = what[index]
    return os.pwrite(fd, data, offset)


def check_counters(
    stack: Mounted, before: dict[str, tuple[int, ...]], done: dict[str, tuple[int, ...]]
) -> None:
    """Every device has counted what was done, no more and no less, and nothing is in flight."""
    for name in ALIGNED:
        assert counted(stack, name) == added(before[name], done[name]), name
    now = {name: counted(stack, name) for name in before}
    # What the devices have passed down is what the disks have had; pieces count as bios there.
    for column in (1, 3):
        passed = sum(now[name][column] - before[name][column] for name in DEVICES)
        assert sum(now[disk][column] - before[disk][column] for disk in "ab") == passed
    for name in before:
        assert stack.told(name, "inflight").split() == ["0", "0"]
    status = stack.call("status")
    assert (status["in_flight"], status["suspended"]) == (0, [])
    assert all(" users 0 " in slot for slot in stack.told("a", "fusedm/keyslots").splitlines())


def check_content(stack: Mounted) -> None:
    """Each disk has what other code encrypts for what the devices show."""
    media = {disk: stack.disk(disk).read_bytes() for disk in "ab"}

    def lies(name: str) -> bytes:
        _, disk, begin = DEVICES[name]
        return media[disk][begin * 512 : begin * 512 + SIZE]

    for view, (device, key, unit) in VIEWS.items():
        shown = stack.view(view).read_bytes()
        if view != "evicted":  # Of which most is a hole.
            assert lies(device) == reference_xts.encrypt(RAW[key], unit, 0, shown), view
    crypt = stack.mapper("crypt").read_bytes()
    assert lies("crypt") == reference_xts.encrypt(CRYPT_KEY, 512, 0, crypt)
    for name in ("linear", "flakey"):
        assert lies(name) == stack.mapper(name).read_bytes()
    begin, chunk = DEVICES["striped"][2] * 512, CHUNK * 512
    legs = [media[disk][begin : begin + SIZE // 2] for disk in "ab"]
    chunks = (leg[at : at + chunk] for at in range(0, SIZE // 2, chunk) for leg in legs)
    assert b"".join(chunks) == stack.mapper("striped").read_bytes()

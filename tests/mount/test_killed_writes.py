"""A daemon is killed again and again under writers: what was told to be durable is in the store.

Read from the store's file, and decrypted by other code, before any daemon is up again.
"""

import os
import random
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.helpers import reference_xts
from tests.helpers.crowd import wait_until
from tests.helpers.mounted import (
    KEY_TABLES,
    KEYS,
    MIB,
    Mounted,
    fusedm,
    mounted_stack,
    opened,
    page_aligned,
)
from tests.helpers.places import folder_on_disk

pytestmark = pytest.mark.fuse

ROUNDS = int(os.environ.get("FUSEDM_KILL_ROUNDS", "4"))
#: Of each writer before the daemon is killed.
LEAST = 25

BLOCK = 4096
SIZE = MIB
SECTORS = SIZE // 512
PLACES = SIZE // BLOCK
CRYPT_KEY = bytes(range(64))

STACK = f"""
version = 1
[disks.d0]
size = "4MiB"
store = "file:STORE"
engine = {{ keyslots = 2, max_dun_bytes = 8, modes = {{ "AES-256-XTS" = [4096] }} }}
[mapper.linear]
table = "0 {SECTORS} linear d0 0"
[mapper.native]
table = "0 {SECTORS} linear d0 {SECTORS}"
[mapper.soft]
table = "0 {SECTORS} linear d0 {2 * SECTORS}"
[mapper.crypt]
table = "0 {SECTORS} crypt aes-xts-plain64 {CRYPT_KEY.hex()} 0 d0 {3 * SECTORS}"
{KEY_TABLES}
[views.engine]
device = "native"
key = "alice"
[views.fallback]
device = "soft"
key = "small"
"""


class Front(NamedTuple):
    """A file that is written, and how that lies on the store, which it has a quarter of."""

    file: str
    key: bytes | None
    unit: int


FRONTS = [
    Front("mapper/linear", None, 0),
    Front("views/engine", KEYS["alice"], 4096),
    Front("views/fallback", KEYS["small"], 512),
    Front("mapper/crypt", CRYPT_KEY, 512),
]


def block_of(number: int) -> bytes:
    return number.to_bytes(8, "little") * (BLOCK // 8)


def place_of(number: int) -> int:
    return number * 7 % PLACES


class Writer:
    """Numbers the blocks of a file, each durable before the next, until it cannot."""

    def __init__(self, file: Path, flags: int) -> None:
        self.acknowledged = 0
        self._file = file
        self._flags = flags
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with (
            suppress(OSError),
            opened(self._file, os.O_RDWR | self._flags) as fd,
            page_aligned(bytes(BLOCK)) as buffer,
        ):
            for number in range(1, 1 << 20):
                buffer[:] = block_of(number)
                os.pwritev(fd, [buffer], place_of(number) * BLOCK)
                if not self._flags & os.O_DSYNC:
                    os.fsync(fd)
                self.acknowledged = number

    def join(self) -> int:
        """The last number that was told to be durable, once nothing is to come."""
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.acknowledged


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    with folder_on_disk(tmp_path) as folder:
        yield folder / "d0.img"


def test_what_was_told_to_be_durable_is_in_the_store_of_a_killed_daemon(
    store: Path, tmp_path: Path
) -> None:
    for round_ in range(ROUNDS):
        store.unlink(missing_ok=True)
        flags = [0, os.O_DSYNC, os.O_DIRECT, os.O_DIRECT | os.O_DSYNC]
        flags = flags[round_ % 4 :] + flags[: round_ % 4]
        with mounted_stack(STACK.replace("STORE", str(store)), tmp_path) as stack:
            writers = [
                Writer(stack.mount_point / front.file, how)
                for front, how in zip(FRONTS, flags, strict=True)
            ]
            wait_until(partial(all_have, writers, LEAST + random.randrange(LEAST)))
            kill(stack)
            last = [writer.join() for writer in writers]
            check_store(store.read_bytes(), last)


def all_have(writers: list[Writer], least: int) -> bool:
    return all(writer.acknowledged >= least for writer in writers)


def kill(stack: Mounted) -> None:
    stack.process.kill()
    stack.process.wait()
    assert fusedm("down", str(stack.mount_point)).returncode == 0


def check_store(data: bytes, last: list[int]) -> None:
    """Each place holds what was last told to be durable there, or the write that was cut off."""
    for index, (front, number) in enumerate(zip(FRONTS, last, strict=True)):
        part = data[index * SIZE : (index + 1) * SIZE]
        if front.key is not None:
            part = reference_xts.decrypt(front.key, front.unit, 0, part)
        last_at = {place_of(one): one for one in range(1, number + 1)}
        for place, one in last_at.items():
            found = part[place * BLOCK : (place + 1) * BLOCK]
            cut_off = [number + 1] if place == place_of(number + 1) else []
            assert found in [block_of(n) for n in (one, *cut_off)], (front.file, one, number)

"""Whatever comes over an NBD connection: the server lives, answers once what was asked, no more.

FUSEDM_FUZZ_N says how many messages (make fuzz-nbd), FUSEDM_FUZZ_SEED which.
"""

import os
import random
import resource
import struct
from contextlib import suppress

import pytest
import trio

from fusedm.nbd import words
from fusedm.nbd.words import Command, Option
from tests.helpers.nbd import MIB, NbdClient, Served, served

MESSAGES = int(os.environ.get("FUSEDM_FUZZ_N") or 4000)
SEED = int(os.environ.get("FUSEDM_FUZZ_SEED") or random.randrange(1 << 32))

#: Messages sent at once.
IN_A_ROW = 12
SIZE = 8 * MIB
NAMES = ["d0", "d1", "m", "v", "bad", "fixed"]
#: What a server in this process may grow by, whatever it is sent.
MAX_GROWTH_KIB = 192 << 10


class Told:
    """Answers as they come: each for something that was asked, and for that once."""

    def __init__(self) -> None:
        self.asked: dict[int, int] = {}

    async def hear(self, client: NbdClient) -> None:
        """Take answers until none is missing."""
        while self.asked:
            magic = struct.unpack(">I", await client.exactly(4))[0]
            if magic == words.SIMPLE_REPLY_MAGIC:
                error, cookie = struct.unpack(">IQ", await client.exactly(12))
                assert not (client.structured and self.asked[cookie]) or error == 0
                await client.exactly(0 if error else self.asked[cookie])
                del self.asked[cookie]
                continue
            assert (magic, client.structured) == (words.STRUCTURED_REPLY_MAGIC, True)
            flags, _, cookie, size = struct.unpack(">HHQI", await client.exactly(16))
            assert cookie in self.asked
            assert size <= 32 * MIB + 8
            await client.exactly(size)
            if flags & 1:
                del self.asked[cookie]


def request(chance: random.Random, cookie: int) -> tuple[bytes, int]:
    """A request with its data, and how many bytes a simple answer to it carries."""
    command = chance.choice([*Command] * 3 + [9, 77, 0xFFFF])
    if command == Command.DISCONNECT:
        command = Command.READ
    flags = chance.choice([0, 0, 0, 1, 2, 4, 8, 5, 16, 0xFFFF, 1 << chance.randrange(16)])
    near = chance.choice([0, 0, SIZE, 4 * MIB, 1 << 31, 1 << 62, 1 << 63])
    offset = max(near + chance.choice([0, 512, 4096, -4096, 1, -1, chance.randrange(SIZE)]), 0)
    length = chance.choice(
        [0, 1, 511, 512, 4096, 8192, 70000, MIB, MIB + 1, chance.randrange(9000)]
    )
    if command != Command.WRITE and chance.random() < 0.1:
        length = chance.choice([1 << 31, (1 << 32) - 1, 33 * MIB, 8 * MIB])
    if command == Command.READ and length > MIB:
        length = chance.choice([8 * MIB, (1 << 32) - 1]) if chance.random() < 0.2 else MIB
    header = words.REQUEST.pack(words.REQUEST_MAGIC, flags, command, cookie, offset, length)
    data = chance.randbytes(length) if command == Command.WRITE else b""
    return header + data, length if command == Command.READ else 0


async def transmission(nbd: Served, chance: random.Random) -> int:
    """Requests of every kind, at random; sometimes something that is none at the end.

    Returns how many.
    """
    count = 0
    client = await nbd.client(chance.choice(NAMES), structured=chance.random() < 0.7)
    told = Told()
    async with trio.open_nursery() as nursery:
        for _ in range(chance.randrange(1, 8)):
            batch = b""
            for _ in range(IN_A_ROW):
                cookie = chance.getrandbits(64)
                data, told.asked[cookie] = request(chance, cookie)
                batch += data
                count += 1
            nursery.start_soon(client.send, batch)
            await told.hear(client)
    if chance.random() < 0.5:
        with suppress(trio.BrokenResourceError):  # It may have hung up at the first bytes.
            await client.send(chance.randbytes(chance.randrange(1, 200)))
            if chance.random() < 0.5:
                await client.send(b"\0" * 28)
                assert await client.is_hung_up_on()
    await client.close()
    return count


async def negotiation(nbd: Served, chance: random.Random) -> None:
    """Options of every kind, at random, or nothing like them."""
    client = await nbd.connect()
    await client.exactly(words.GREETING.size)
    try:
        flags = chance.choice([3, 3, 3, 1, 7, 0xFFFFFFFF])
        await client.send(words.CLIENT_FLAGS.pack(flags))
        for _ in range(chance.randrange(1, 20)):
            data = chance.choice(
                [
                    b"",
                    chance.randbytes(chance.randrange(100)),
                    struct.pack(">I", chance.choice([2, 3, 1 << 31])) + b"d0" + chance.randbytes(6),
                    b"\0\0\0\2d0\0\0\0\1\0\0\0\x0fbase:allocation",
                ]
            )
            option = chance.choice([*Option, 0, 4, 99, 1 << 31])
            if option in (Option.GO, Option.EXPORT_NAME, Option.ABORT):
                option = Option.INFO
            size = len(data) if chance.random() < 0.95 else chance.getrandbits(32)
            magic = words.OPTION_MAGIC if chance.random() < 0.97 else chance.getrandbits(64)
            await client.send(words.OPTION.pack(magic, option, size) + data)
        with trio.move_on_after(0.01):
            await client.is_hung_up_on()
    except trio.BrokenResourceError:
        pass
    await client.close()


@pytest.mark.parametrize("way", ["threads", "tasks"])
async def test_whatever_comes_the_server_lives(tmp_path, monkeypatch, way: str):
    if way == "tasks":
        monkeypatch.setattr("fusedm.export.reading.MAX_READERS", 0)
    monkeypatch.setattr("tests.helpers.nbd.FAIL_AFTER_SECONDS", 60 + MESSAGES / 100)
    print(f"FUSEDM_FUZZ_SEED={SEED}")
    chance = random.Random(SEED)
    async with served(tmp_path) as nbd:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        count = 0
        while count < MESSAGES:
            count += await transmission(nbd, chance)
            await negotiation(nbd, chance)
            nbd.clients.clear()
        assert await (await nbd.client("d2")).read(0, 4096) == bytes(4096)
        for name in NAMES:
            await nbd.until_closed(name)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < MAX_GROWTH_KIB

"""Requests that a client's thread does by itself: what it may do when, and what the books say."""

import random

import pytest
import trio

from fusedm.export.carrying_out import CarryingOut
from fusedm.export.reader import MAX_READERS
from fusedm.nbd.words import Command, CommandFlag
from tests.helpers.builders import pattern
from tests.helpers.nbd import MIB, served

PAGE = 4096
CALLS = 50


@pytest.fixture
def by_tasks(monkeypatch) -> list[int]:
    """The commands of requests that tasks carry out, from now on."""
    seen: list[int] = []
    on_the_spot, waiting = CarryingOut.on_the_spot, CarryingOut.waiting

    def note(self, asked, payload):
        seen.append(asked.command)
        return on_the_spot(self, asked, payload)

    async def note_waiting(self, asked, payload, send):
        seen.append(asked.command)
        await waiting(self, asked, payload, send)

    monkeypatch.setattr(CarryingOut, "on_the_spot", note)
    monkeypatch.setattr(CarryingOut, "waiting", note_waiting)
    return seen


@pytest.mark.parametrize("structured", [True, False])
@pytest.mark.parametrize("name", ["d0", "m", "v"])
async def test_after_the_first_of_a_kind_tasks_see_nothing_of_plain_io(
    tmp_path, by_tasks, name: str, structured: bool
):
    async with served(tmp_path) as nbd:
        client = await nbd.client(name, structured=structured)
        await client.write(0, pattern(PAGE))
        await client.do(Command.FLUSH)
        await trio.sleep(0.01)
        before = len(by_tasks)
        for number in range(CALLS):
            await client.write(number * PAGE, pattern(PAGE))
            assert await client.read(number * PAGE, PAGE) == pattern(PAGE)
            await client.do(Command.FLUSH)
        assert await client.read(0, MIB, CommandFlag.DF * structured)
        assert len(by_tasks) - before < CALLS


async def test_what_a_thread_has_done_is_counted(tmp_path, by_tasks):
    async with served(tmp_path) as nbd:
        client = await nbd.client("m")
        disk, mapped = nbd.stack.system.disk("d0"), nbd.stack.system.mapped_device("m")
        for _ in range(CALLS):
            await client.write(0, pattern(PAGE))
            await client.read(0, 2 * PAGE)
        await trio.sleep(0.01)
        for stats in (disk.stats, mapped.stats):
            read, _, sectors, _, written, *_ = map(int, stats.stat_line().split())
            assert (read, sectors, written) == (CALLS, CALLS * 16, CALLS)
            assert stats.in_flight == 0


async def test_a_suspended_device_holds_what_a_thread_would_have_done(tmp_path):
    async with served(tmp_path) as nbd:
        client = await nbd.client("m")
        for _ in range(CALLS):
            await client.write(0, pattern(PAGE))
        await nbd.stack.dm.suspend("m")
        cookie = await client.ask(Command.WRITE, 0, data=bytes(PAGE))
        disk = await nbd.client("d0")
        await trio.sleep(0.05)
        assert await disk.read(0, PAGE) == pattern(PAGE)
        await nbd.stack.dm.resume("m")
        assert (await client.reply()).cookie == cookie
        assert await disk.read(0, PAGE) == bytes(PAGE)


async def test_a_new_table_is_seen_at_once(tmp_path):
    async with served(tmp_path) as nbd:
        client, other = await nbd.client("m"), await nbd.client("d1")
        await other.write(0, pattern(PAGE))
        for _ in range(CALLS):
            assert await client.read(0, PAGE) == bytes(PAGE)
        await nbd.stack.dm.load("m", "0 8192 linear d1 0")
        await nbd.stack.dm.resume("m")
        assert await client.read(0, PAGE) == pattern(PAGE)


async def test_a_key_is_in_use_no_more_when_its_view_is_closed(tmp_path):
    async with served(tmp_path) as nbd:
        client = await nbd.client("v")
        for _ in range(CALLS):
            await client.write(0, pattern(PAGE))
        await client.close()
        await nbd.until_closed("v")
        nbd.stack.system.remove_view("v")
        nbd.stack.system.remove_key("k")


async def test_threads_and_tasks_leave_the_same(tmp_path):
    chance = random.Random(7)
    async with served(tmp_path) as nbd:
        client = await nbd.client("v")
        model = bytearray(client.size)
        for _ in range(400):
            length = chance.choice([PAGE, 2 * PAGE, 100, 70000, MIB, MIB + PAGE, 3 * MIB])
            offset = chance.randrange((client.size - length) // PAGE) * PAGE
            offset += chance.choice([0, 0, 0, 17])
            if chance.random() < 0.5:
                data = chance.randbytes(length)
                await client.write(offset, data, fua=chance.random() < 0.1)
                model[offset : offset + length] = data
            else:
                assert await client.read(offset, length) == model[offset : offset + length]
        assert await client.read(0, client.size) == model


async def test_answers_to_a_hundred_requests_at_once_are_whole(tmp_path):
    async with served(tmp_path) as nbd:
        client = await nbd.client("d0")
        content = pattern(8 * MIB)
        await client.write(0, content)
        sizes = [PAGE, 100, 64 << 10, MIB, 2 * MIB]
        asked = {}
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                for number in range(100):
                    where = number * PAGE, sizes[number % len(sizes)]
                    # Pieces of a long answer could come between others.
                    asked[await client.ask(Command.READ, *where, CommandFlag.DF)] = where

            nursery.start_soon(ask)
            for _ in range(100):
                reply = await client.reply()
                offset, length = asked.pop(reply.cookie)
                assert reply.data == content[offset : offset + length]


async def test_more_clients_than_threads_are_served_as_well(tmp_path):
    async with served(tmp_path) as nbd:
        clients = [await nbd.client("d0") for _ in range(MAX_READERS + 3)]
        for number, client in enumerate(clients):
            await client.write(number * PAGE, pattern(PAGE))
        for number, client in enumerate(reversed(clients)):
            assert await client.read(number * PAGE, PAGE) == pattern(PAGE)


async def test_where_the_system_gives_no_more_threads_tasks_take_requests(tmp_path, monkeypatch):
    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", refuse)
    async with served(
        tmp_path, 'version = 1\n[disks.d0]\nsize = "8MiB"\nstore = "memory:"\n'
    ) as nbd:
        client = await nbd.client("d0")
        await client.write(0, pattern(PAGE))
        assert await client.read(0, PAGE) == pattern(PAGE)

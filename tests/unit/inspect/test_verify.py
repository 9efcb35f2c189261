"""What verify finds, and that it finds nothing on a sound stack."""

import json
from functools import partial

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from fusedm.block import CryptoConfig, CryptoKey, KeyType
from fusedm.block.errors import StackError
from fusedm.cli.verify_text import view_text
from fusedm.crypto import CompiledCipher, KeyManager, KeyslotProfile
from fusedm.crypto.ciphers import make_cipher
from fusedm.crypto.fallback import FALLBACK_KEYSLOTS
from fusedm.files.device_file import write as write_file
from fusedm.inspect.media import read_media
from fusedm.inspect.verify import MAX_TOLD, PART_SIZE, verify_part
from fusedm.stores import CorruptRead, FaultyStore, MemoryStore
from fusedm.system import System
from tests.helpers.builders import MODE, make_disk, make_key, medium, pattern
from tests.helpers.random_stacks import build, stacks, system_of

KEY = make_key("k", 4096)


class OwnCipher:
    """A cipher whose work is done by functions that are given the right one."""

    def __init__(self, key, encrypt, decrypt):
        right = make_cipher(key)
        self.encrypt, self.decrypt = partial(encrypt, right), partial(decrypt, right)


async def view_of(store=None, table="0 2048 linear d0 0", slots=2, fallback=None):
    """A view of 1 MiB, DUN base 50, with data in its first 8 units.

    fallback are functions in place of the disk's fallback's encrypt and decrypt.
    """
    built = System()
    built.add_disk(make_disk("d0", 2048, slots=slots, store=store))
    if fallback is not None:
        profile = KeyslotProfile(FALLBACK_KEYSLOTS, make=lambda key: OwnCipher(key, *fallback))
        built.disks["d0"].fallback._profile = profile
    built.add_mapped("dm0")
    built.load("dm0", table)
    await built.resume("dm0")
    built.add_key(KEY)
    view = built.add_view("v", "dm0", "k", 50)
    await write_file(view, 0, memoryview(pattern(8 * 4096)))
    return built, view


def told(found):
    """The facts that are told of a part, with their text."""
    unreadable = [found["unreadable"]] if found["unreadable"] else []
    return found | {"name": "v", "mode": "m", "data_unit_size": 4096, "unreadable": unreadable}


async def test_a_sound_view_has_nothing_wrong_and_its_holes_are_counted():
    _, view = await view_of()
    found = await verify_part(view, 0, 8 * 4096)
    assert (found["units"], found["holes"], found["mismatch_count"]) == (8, 0, 0)
    found = await verify_part(view, 4 * 4096, 16 * 4096)
    assert (found["units"], found["holes"], found["mismatch_count"]) == (12, 8, 0)


async def test_a_hole_is_passed_over_without_being_read():
    built, view = await view_of()
    before = built.disks["d0"].stats.ios[0]
    found = await verify_part(view, 64 * 4096, view.size)
    assert (found["end"], found["units"], found["holes"]) == (view.size, 192, 192)
    assert built.disks["d0"].stats.ios[0] == before


async def test_a_part_is_no_longer_than_it_may_be():
    built, view = await view_of()
    await write_file(view, 0, memoryview(pattern(1 << 20)))
    assert (await verify_part(view, 0, view.size))["end"] == PART_SIZE


@pytest.mark.parametrize("wrong", ["dun", "unit", "byte"])
async def test_a_data_path_that_encrypts_wrongly_is_found(wrong):
    def encrypt(cipher, dun, src, dst):
        cipher.encrypt(dun + (wrong == "dun"), src, dst)
        if wrong == "unit" and len(dst) == 8 * 4096:
            dst[:4096], dst[4096:8192] = bytes(dst[4096:8192]), bytes(dst[:4096])
        if wrong == "byte":
            dst[5 * 4096 + 7] ^= 1

    def decrypt(cipher, dun, src, dst):
        dst[:] = pattern(8 * 4096)[(dun - 50) * 4096 :][: len(dst)]

    built, view = await view_of(slots=None, fallback=(encrypt, decrypt))
    found = await verify_part(view, 0, 8 * 4096)
    units = {"dun": list(range(8)), "unit": [0, 1], "byte": [5]}[wrong]
    assert [one["dun"] - 50 for one in found["mismatches"]] == units
    assert found["mismatch_count"] == found["rechecked"] == len(units)
    one, raw = found["mismatches"][0], medium(built.disks["d0"])
    assert one["offset"] == units[0] * 4096
    assert (one["sector"], one["disk"], one["disk_sector"]) == (units[0] * 8, "d0", units[0] * 8)
    assert one["holds"] == raw[one["offset"] :][:8].hex()
    assert bytes(KEY.raw)[:8].hex() not in json.dumps(found)
    text = view_text(told(found))
    assert f"WRONG at byte {units[0] * 4096}, sector {units[0] * 8}, DUN {units[0] + 50}" in text[2]


async def test_sectors_that_are_read_swapped_are_found(monkeypatch):
    built, view = await view_of()
    store = built.disks["d0"].store
    real = store.pread_into

    def misdirected(offset, buffer):
        """The first two data units in each other's place, for the view's reads of all eight."""
        real(offset, buffer)
        if len(buffer) == 8 * 4096 and next(turn):
            buffer[:4096], buffer[4096:8192] = bytes(buffer[4096:8192]), bytes(buffer[:4096])

    turn = iter([True, False])
    monkeypatch.setattr(store, "pread_into", misdirected)
    found = await verify_part(view, 0, 8 * 4096)
    # It was not so when they were looked at again: nothing is wrong that can be told.
    assert (found["rechecked"], found["settled"], found["mismatch_count"]) == (2, 2, 0)
    assert "2 of them are right: writes were in flight" in view_text(told(found))[1]


async def test_a_medium_that_reads_differently_each_time_is_found():
    store = FaultyStore(MemoryStore(1 << 20), 3, [CorruptRead(begin=4096, end=8192)])
    _, view = await view_of(store)
    found = await verify_part(view, 0, 8 * 4096)
    assert [one["offset"] for one in found["mismatches"]] == [4096]
    assert found["mismatches"][0]["is_changing"]
    assert "(it is being written)" in view_text(told(found))[2]


async def test_ciphertext_changed_on_the_medium_is_other_data_and_not_wrong():
    built, view = await view_of()
    built.disks["d0"].store.pwrite(4096, b"changed")
    assert (await verify_part(view, 0, 8 * 4096))["mismatch_count"] == 0


async def test_what_cannot_be_read_is_told():
    _, view = await view_of(table="0 1024 linear d0 0\n1024 1024 error")
    found = await verify_part(view, 1 << 19, 1 << 20)
    assert (found["units"], found["mismatch_count"]) == (0, 0)
    assert "unreadable: dm0: read of sectors" in view_text(told(found))[1]


async def test_of_many_mismatches_some_are_told_and_all_counted():
    own = (CompiledCipher.encrypt, lambda cipher, dun, src, dst: None)
    built, view = await view_of(slots=None, fallback=own)
    await write_file(view, 0, memoryview(pattern(64 * 4096)))
    found = await verify_part(view, 0, 64 * 4096)
    assert (len(found["mismatches"]), found["mismatch_count"]) == (MAX_TOLD, 64)


@pytest.mark.parametrize(
    ("begin", "end"), [(-4096, 4096), (0, 0), (1, 4096), (0, 4097), (0, (1 << 20) + 4096)]
)
async def test_what_is_no_range_of_blocks_is_refused(begin, end):
    _, view = await view_of()
    with pytest.raises(StackError, match=f"bytes {begin}..{end} are no range of blocks of 4096"):
        await verify_part(view, begin, end)


async def test_a_device_without_key_is_refused():
    built, _ = await view_of()
    with pytest.raises(StackError, match="'d0' is not a view: nothing on it is encrypted"):
        await verify_part(built.view("d0"), 0, 4096)


async def test_a_write_in_flight_is_no_mismatch():
    _, view = await view_of()
    async with trio.open_nursery() as nursery:

        async def write_on():
            for seed in range(200):
                await write_file(view, 0, memoryview(pattern(8 * 4096, seed)))
                await trio.lowlevel.checkpoint()

        nursery.start_soon(write_on)
        for _ in range(10):
            found = await verify_part(view, 0, 8 * 4096)
            assert found["mismatch_count"] == 0


@settings(max_examples=25)
@given(stacks(), st.sampled_from([512, 1024, 4096]), st.data())
def test_a_sound_random_stack_has_nothing_wrong(stack, unit, data):
    async def main():
        mapped, disks = await build(stack)
        view = system_of(mapped, disks, v=(make_key("k", unit), 9)).view("v")
        for seed in range(3):
            offset = data.draw(st.integers(0, view.size - 1))
            length = data.draw(st.integers(1, view.size - offset))
            await write_file(view, offset, memoryview(pattern(length, seed)))
        at = 0
        while at < view.size:
            found = await verify_part(view, at, view.size)
            assert (found["mismatch_count"], found["unreadable"]) == (0, None)
            at = found["end"]

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def test_a_suspended_view_is_verified_when_it_is_resumed():
    built, view = await view_of()
    found = []

    async def verify():
        found.append(await verify_part(view, 0, 8 * 4096))

    await built.mapped["dm0"].suspend()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(verify)
        await wait_all_tasks_blocked()
        assert not found
        await built.mapped["dm0"].resume()
    assert (found[0]["units"], found[0]["mismatch_count"]) == (8, 0)


async def test_media_of_a_suspended_device_are_read_when_it_is_resumed():
    built, view = await view_of()
    found = []

    async def look():
        found.append(await read_media(view.device, 0, 4096))

    await built.mapped["dm0"].suspend()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        await wait_all_tasks_blocked()
        await built.mapped["dm0"].resume()
    assert bytes(found[0][0]) == medium(built.disks["d0"], 0, 4096)


async def test_a_mode_without_second_implementation_is_refused(monkeypatch):
    _, view = await view_of()
    monkeypatch.setattr("fusedm.inspect.independent._TRANSFORMS", {})
    with pytest.raises(StackError, match="mode AES-256-XTS: there is no independent"):
        await verify_part(view, 0, 4096)


async def test_data_where_there_is_no_medium_are_told_so(monkeypatch):
    _, view = await view_of(table="0 1024 linear d0 0\n1024 1024 zero")

    async def read(view, offset, length):
        return memoryview(b"x" * length)

    monkeypatch.setattr("fusedm.inspect.verify.read", read)
    found = await verify_part(view, 1 << 19, (1 << 19) + 4096)
    assert found["mismatches"][0]["disk"] is None
    assert "no disk holds 0000" in view_text(told(found))[2]


async def test_data_under_a_wrapped_key_are_compared_too(monkeypatch):
    built, by = System(), KeyManager()
    built.add_disk(make_disk("ice", slots=1, key_types=KeyType, key_manager=by))
    built.add_mapped("dm0")
    built.load("dm0", "0 64 linear ice 8")
    await built.resume("dm0")
    config = CryptoConfig(MODE, 4096, 8, KeyType.HW_WRAPPED)
    built.add_key(CryptoKey("w", config, by.prepare_key(by.generate_key())))
    view = built.add_view("v", "dm0", "w")
    await write_file(view, 0, memoryview(pattern(8192)))
    found = await verify_part(view, 0, 8192)
    assert (found["units"], found["holes"], found["mismatch_count"]) == (2, 0, 0)
    monkeypatch.setattr("fusedm.inspect.data_keys.inline_key", lambda device, key: KEY)
    assert (await verify_part(view, 0, 8192))["mismatch_count"] == 2


@pytest.mark.parametrize("target", ["crypt", "inlinecrypt"])
async def test_what_a_target_encrypts_once_more_is_not_verified_and_says_so(target):
    line = f"{target} aes-xts-plain64 {bytes(range(1, 65)).hex()} 0 d0 0"
    _, view = await view_of(table=f"0 2048 {line}")
    found = await verify_part(view, 0, 4096)
    assert "goes through a target that encrypts it once more" in str(found["unreadable"])

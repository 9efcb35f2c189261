"""The way of a request, step by step, and what it would wait for."""

import pytest

from fusedm.block import CryptoConfig, CryptoKey
from fusedm.block.errors import StackError
from fusedm.cli.looking_text import explain_text
from fusedm.inspect import explain
from fusedm.inspect.explain import why_not_compiled
from fusedm.stores import FaultyStore, Latency, MemoryStore
from fusedm.system import System
from tests.helpers.builders import make_disk, make_key, prime

KEY = make_key("k", 4096)


async def system(table="0 1024 linear d0 0", slots=2, store=None):
    """A view v of dm0 over d0, which has an engine, and d1, which has none."""
    built = System()
    built.add_disk(make_disk("d0", slots=slots, store=store))
    built.add_disk(make_disk("d1"))
    built.add_mapped("dm0")
    built.load("dm0", table)
    await built.resume("dm0")
    built.add_key(KEY)
    built.add_view("v", "dm0", "k", 100)
    return built


async def primed(*args, **kwargs):
    built = await system(*args, **kwargs)
    await prime(built.disks["d0"].engine_slots, KEY)
    return built


def told(built, offset, length, write=False):
    return explain(built, "v", offset, length, write, {"d0": "memory:"})


async def test_a_whole_block_goes_straight_down_in_the_compiled_loop():
    assert explain_text(told(await primed(), 4096, 8192)).splitlines() == [
        "read of 8192 bytes at 4096 of v, key k",
        "answered: in the compiled loop of the lane",
        "blocks bytes 4096..12288 (4096 each): read",
        " `-dm0: read of sectors 8..24, DUN 101..102",
        "    `-linear at 0+1024: sectors 8..24",
        "       `-d0: read of sectors 8..24, DUN 101..102",
        "          `-engine, keyslot 0: bytes 4096..12288 of memory:",
    ]


async def test_a_key_in_no_keyslot_would_be_programmed():
    found = told(await system(), 0, 4096)
    assert found["waits_on"] == [
        "a keyslot of the engine of d0: none has key k, one would be programmed"
    ]
    assert "engine, key k would be programmed into a keyslot" in explain_text(found)


async def test_an_engine_without_keyslots_is_given_the_key_each_time():
    found = told(await system(slots=0), 0, 4096)
    assert found["answered"] == "compiled loop"
    assert "engine, key k goes along with the request" in explain_text(found)


async def test_a_key_being_programmed_is_waited_for():
    built = await system()
    built.disks["d0"].engine.slots.slots.choose(KEY)
    found = told(built, 0, 4096)
    assert found["waits_on"] == [
        "a keyslot of the engine of d0: key k is being programmed, or others wait before it"
    ]
    assert "keyslot 0 (being programmed)" in explain_text(found)


async def test_less_than_a_block_is_patched_on_the_spot():
    found = told(await primed(), 100, 5000, write=True)
    assert [request["kind"] for request in found["requests"]] == ["patch", "patch"]
    assert found["answered"] == "on the spot"
    assert found["not_compiled"] == ["it is not of whole blocks of 4096 bytes"]
    text = explain_text(found)
    assert "block bytes 0..4096, read, changed and written: 3996 bytes at 100 in it" in text
    assert "block bytes 4096..8192, read, changed and written: 1004 bytes at 0 in it" in text


async def test_a_data_unit_that_is_cut_goes_through_the_fallback_above_the_split():
    found = told(await system("0 4 linear d0 0\n4 1020 linear d1 4"), 0, 8192)
    assert explain_text(found).splitlines()[3:] == [
        " `-dm0: read of sectors 0..16, DUN 100..101",
        "    |-linear at 0+4: sectors 0..8",
        "    |  `-fallback of dm0, key k would be programmed into a keyslot: "
        "read of sectors 0..8, DUN 100..100 (above linear: a split cuts its data units)",
        "    |     |-linear at 0+4: sectors 0..4",
        "    |     |  `-d0: read of sectors 0..4",
        "    |     |     `-as it is: bytes 0..2048 of memory:",
        "    |     `-linear at 4+1020: sectors 4..8",
        "    |        `-d1: read of sectors 4..8",
        "    |           `-as it is: bytes 2048..4096 of its store",
        "    `-linear at 4+1020: sectors 8..16",
        "       `-d1: read of sectors 8..16, DUN 101..101",
        "          `-fallback of d1, key k would be programmed into a keyslot: "
        "read of sectors 8..16, DUN 101..101 (the disk cannot do it natively)",
        "             `-d1: read of sectors 8..16",
        "                `-as it is: bytes 4096..8192 of its store",
    ]


@pytest.mark.parametrize(
    ("table", "write", "line"),
    [
        ("0 1024 delay d0 0 7", False, "7 ms later"),
        ("0 1024 zero", False, "zeros, without a medium"),
        ("0 1024 zero", True, "dropped"),
        ("0 1024 error", False, "fails: dm0: read of sectors 0..8: Input/output error"),
        ("0 1024 striped 1 8 d0 0", False, "its target looks at the end"),
        ("0 1024 snapshot d0 d1 N 8", True, "its target reads and writes on its own, step by step"),
        ("0 1024 raid raid1 2 0 nosync 2 - d0 - d1", False, "d0: read of sectors 0..8, DUN 100"),
    ],
)
async def test_what_a_target_does_is_said(table, write, line):
    assert line in explain_text(told(await system(table), 0, 4096, write))


async def test_a_target_that_does_not_pass_contexts_is_named():
    assert "(above delay: it does not pass contexts)" in explain_text(
        told(await system("0 1024 delay d0 0 7"), 0, 4096)
    )


async def test_a_delay_is_waited_for():
    assert "a delay of 7 ms" in told(await system("0 1024 delay d0 0 7"), 0, 4096)["waits_on"]


async def test_a_store_that_may_block_is_waited_for():
    store = FaultyStore(MemoryStore(1 << 19), 0, [Latency(seconds=0.0)])
    found = told(await primed(store=store), 0, 4096)
    assert found["waits_on"] == ["a worker thread of d0: its store may block"]
    assert found["not_compiled"] == ["the store of d0 has no descriptor to be used instead"]


async def test_a_descriptor_that_may_block_is_waited_for_by_workers(monkeypatch):
    monkeypatch.setattr(MemoryStore, "may_block", lambda *_: True)
    found = told(await primed(store=MemoryStore(1 << 19)), 0, 4096)
    assert found["waits_on"] == ["a worker thread of d0: its store may block"]
    assert (found["answered"], found["not_compiled"]) == ("compiled loop", [])


async def test_a_lock_that_somebody_holds_is_waited_for():
    built = await primed()
    built.disks["d0"].range_locks.take(((8, 9),), lambda: None)
    assert told(built, 4096, 4096, write=True)["waits_on"] == [
        "a lock on sectors 8..16 of the disk below, which a write holds"
    ]
    in_flight = ["another write there is in flight"]
    assert told(built, 4096, 4096, write=True)["not_compiled"] == in_flight
    assert told(built, 8192, 4096, write=True)["answered"] == "compiled loop"
    assert told(built, 4096, 4096)["answered"] == "compiled loop"


async def test_many_data_units_in_software_are_left_to_a_worker_thread():
    built = await system("0 1024 linear d1 0")
    built.add_key(CryptoKey("sm4", CryptoConfig("SM4-XTS", 4096, 8), bytes(range(32))))
    built.add_view("w", "dm0", "sm4")
    found = explain(built, "w", 0, 64 * 4096, False, {})
    assert "a worker thread for 64 data units in the fallback of d1" in found["waits_on"]


async def test_a_suspended_device_is_named():
    built = await system()
    await built.mapped["dm0"].suspend()
    found = told(built, 0, 4096)
    assert (found["answered"], found["waits_on"]) == (
        "waits",
        ["the resume of dm0, which is suspended"],
    )


async def test_a_border_is_named():
    built = await primed("0 16 linear d0 0\n16 512 linear d0 32")
    assert told(built, 4096, 8192)["not_compiled"] == [
        "it reaches over a border: bytes 0..8192 lie together"
    ]
    built = await primed("0 4 linear d0 0\n4 4 linear d0 8\n8 512 linear d0 16")
    assert told(built, 0, 4096)["not_compiled"] == ["a border cuts its block"]


async def test_a_target_that_looks_at_each_bio_keeps_the_loop_out():
    found = told(await primed("0 1024 flakey d0 0 0 1 5 corrupt_bio_byte 1 r 0 0"), 0, 4096)
    assert found["not_compiled"] == ["a target on the way looks at each bio"]
    assert found["answered"] == "on the spot"


async def test_a_leaf_that_is_not_native_keeps_the_loop_out_until_its_fallback_has_the_key():
    built = await system("0 1024 linear d1 0")
    assert told(built, 0, 4096)["not_compiled"] == ["key k is in no keyslot for d1 yet"]
    await prime(built.disks["d1"].fallback, KEY)
    assert told(built, 0, 4096)["answered"] == "compiled loop"


async def test_writes_that_a_target_looks_at_are_kept_out_and_reads_are_not():
    built = await primed("0 1024 delay d0 0 0 d0 0 7")
    await prime(built.mapped["dm0"].fallback, KEY)
    found = told(built, 0, 4096, write=True)["not_compiled"]
    assert found == ["a target on the way looks at each write"]
    assert told(built, 0, 4096)["answered"] == "compiled loop"


async def test_of_several_devices_each_needs_the_key():
    built = await primed("0 1024 striped 2 8 d0 0 d1 0")
    assert told(built, 0, 4096)["not_compiled"] == ["key k is in no keyslot for d1 yet"]
    await prime(built.disks["d1"].fallback, KEY)
    assert told(built, 0, 65536)["answered"] == "compiled loop"
    built.disks["d1"].range_locks.take(((8, 9),), lambda: None)
    in_flight = ["another write there is in flight"]
    assert told(built, 8192, 4096, write=True)["not_compiled"] == in_flight
    assert told(built, 0, 4096, write=True)["answered"] == "compiled loop"


async def test_more_devices_than_a_path_leads_to_keep_the_loop_out():
    places = " ".join(f"d0 {8 * index}" for index in range(17))
    built = await primed(f"0 {17 * 8} striped 17 8 {places}")
    assert told(built, 0, 4096)["not_compiled"] == ["it lies on 17 devices, more than 16"]


async def test_writes_that_are_lent_their_sectors_keep_nobody_out():
    built = await primed()
    built.disks["d0"].range_locks.lend(((100, 101),))
    assert told(built, 0, 4096, write=True)["answered"] == "compiled loop"


async def test_what_would_be_encrypted_twice_keeps_the_loop_out():
    built = await primed(f"0 1024 crypt aes-xts-plain64 {bytes(range(64)).hex()} 0 d0 0")
    assert why_not_compiled(built.views["v"], 0, 4096, write=False) == ["it is encrypted twice"]
    assert explain(built, "dm0", 0, 4096)["answered"] == "compiled loop"


async def test_past_the_end_there_is_nothing_to_read_and_no_room_to_write():
    built = await system()
    assert "there is nothing to do: the file ends at 524288" in explain_text(told(built, 524288, 1))
    found = told(built, 524288, 1, write=True)
    assert found["answered"] == "fails"
    assert "ends past the end at 524288" in explain_text(found)


@pytest.mark.parametrize(
    ("offset", "length", "text"),
    [
        (-1, 1, "offset -1 is negative"),
        (0, 0, "length 0 is not in 1..1048576, one request of the kernel"),
        (0, (1 << 20) + 1, "length 1048577 is not in 1..1048576, one request of the kernel"),
    ],
)
async def test_what_is_no_range_of_a_request_is_refused(offset, length, text):
    with pytest.raises(StackError) as caught:
        told(await system(), offset, length)
    assert str(caught.value) == text


async def test_looking_takes_no_keyslot_and_counts_nothing():
    built = await primed()
    told(built, 0, 4096)
    told(built, 0, 4096, write=True)
    assert built.disks["d0"].counts.native == 0
    assert not any(slot.users for slot in built.disks["d0"].engine.slots.slots.slots)


async def test_a_read_only_disk_keeps_the_loop_from_writing(monkeypatch):
    built = await primed()
    monkeypatch.setattr(built.disks["d0"], "read_only", True)
    for device in built.mapped.values():
        device.refresh()
    assert why_not_compiled(built.views["v"], 0, 4096, write=True) == [
        "a device on the way is read-only"
    ]


async def test_a_mode_that_the_engine_lacks_goes_through_the_fallback_of_the_disk():
    built = await system()
    key = CryptoKey("sm4", CryptoConfig("SM4-XTS", 4096, 8), bytes(range(32)))
    built.add_key(key)
    built.add_view("w", "d0", "sm4")
    assert why_not_compiled(built.views["w"], 0, 4096, write=False) == [
        "key sm4 is in no keyslot for d0 yet"
    ]
    await prime(built.disks["d0"].fallback, key)
    assert why_not_compiled(built.views["w"], 0, 4096, write=False) == []


async def test_over_a_target_that_does_not_pass_contexts_the_fallback_above_needs_the_key(
    monkeypatch,
):
    built = await primed()
    monkeypatch.setattr(type(built.mapped["dm0"].live.entries[0].target), "passes_crypto", False)
    built.mapped["dm0"].refresh()
    assert why_not_compiled(built.views["v"], 0, 4096, write=False) == [
        "key k is in no keyslot for d0 yet"
    ]
    await prime(built.mapped["dm0"].fallback, KEY)
    assert why_not_compiled(built.views["v"], 0, 4096, write=False) == []


async def test_in_strict_mode_what_no_engine_does_keeps_the_loop_out():
    built = System(strict=True)
    built.add_disk(make_disk("d1"))
    built.add_key(KEY)
    built.add_view("v", "d1", "k")
    await prime(built.disks["d1"].fallback, KEY)
    assert why_not_compiled(built.views["v"], 0, 4096, write=False) == [
        "in strict mode the kernel's rules say who does without an engine"
    ]


async def test_without_a_lane_libfuse_answers():
    built = await system("0 1024 linear d0 0")
    told = explain(built, "dm0", 0, 4096, has_lane=False)
    assert told["answered"] == "on the spot"
    assert told["not_compiled"] == ["the stack is up with --no-lane, so libfuse answers"]


async def test_what_a_target_encrypts_itself_is_shown():
    key = bytes(range(1, 33)).hex()
    text = f"0 1024 crypt xchacha12,aes-adiantum-plain64 {key} 0 d0 0"
    built = await system(text, slots=None)
    said = explain_text(explain(built, "dm0", 0, 4096, False, {"d0": "memory:"})).splitlines()
    assert said[-5:] == [
        " `-dm0: read of sectors 0..8",
        "    `-crypt at 0+1024: sectors 0..8",
        "       `-decrypted by the target",
        "          `-d0: read of sectors 0..8",
        "             `-as it is: bytes 0..4096 of memory:",
    ]
    found = explain(built, "dm0", 0, (256 << 10) + 512, True, {"d0": "memory:"})
    assert "encrypted by the target" in explain_text(found)
    assert "a worker thread for 262656 bytes of a target's own" in found["waits_on"]

"""One key and one data unit number at two places: found where it is, and nowhere else."""

import errno

import pytest

from fusedm.block import CryptoConfig, CryptoKey, KeyType
from fusedm.block.errors import StackError
from fusedm.cli.verify_text import dun_text, reuse_text
from fusedm.crypto import KeyManager
from fusedm.files.device_file import write as write_file
from fusedm.inspect import compare_data, dun_ranges, find_overlaps
from fusedm.inspect.reuse import MAX_OVERLAPS
from fusedm.system import System
from tests.helpers.builders import MODE, make_disk, make_key, pattern


async def system(**views):
    """d0 and d1 of 128 sectors, dm0 over both, dm1 delaying d0; views: (device, key, DUN base)."""
    built = System()
    for name in ("d0", "d1"):
        built.add_disk(make_disk(name, 128))
    for name, table in (
        ("dm0", "0 64 linear d0 0\n64 64 linear d1 64"),
        ("dm1", "0 128 delay d0 0 7"),
        ("dm2", "0 64 zero\n64 64 error"),
    ):
        built.add_mapped(name)
        built.load(name, table)
        await built.resume(name)
    for name, key in (("k", make_key("k", 4096)), ("other", make_key("other", 4096))):
        built.add_key(key)
        assert key.name == name
    built.add_key(type(built.keys["k"])("copy", built.keys["k"].config, built.keys["k"].raw))
    built.add_key(make_key("small", 512))
    for name, (device, key, base) in views.items():
        built.add_view(name, device, key, base)
    return built


async def found(built, *names):
    return [
        (*one["views"], one["first"], one["last"], one["different"])
        for one in await find_overlaps(built, names)
    ]


async def test_two_names_of_one_place_are_no_reuse():
    built = await system(a=("d0", "k", 0), b=("d0", "k", 0), c=("dm1", "k", 0))
    assert await found(built) == [("a", "b", 0, 15, 0), ("a", "c", 0, 15, 0), ("b", "c", 0, 15, 0)]
    assert "always for the same place" in text(await find_overlaps(built, []))


async def test_two_disks_under_one_key_are_reuse():
    built = await system(a=("d0", "k", 0), b=("d1", "k", 8))
    assert await found(built) == [("a", "b", 8, 15, 8)]


async def test_a_part_of_a_device_may_be_the_same_place_and_another_not():
    built = await system(a=("d0", "k", 0), b=("dm0", "k", 0))
    (told,) = await find_overlaps(built, [])
    assert (told["different"], told["first_different"]) == (8, 8)


async def test_one_place_under_two_bases_is_reuse():
    built = await system(a=("d0", "k", 0), b=("d0", "k", 5))
    assert await found(built) == [("a", "b", 5, 15, 11)]


async def test_keys_with_equal_bytes_are_one_key():
    built = await system(a=("d0", "k", 0), b=("d1", "copy", 0))
    assert await found(built) == [("a", "b", 0, 15, 16)]


async def test_ranges_that_do_not_meet_and_other_keys_are_fine():
    built = await system(a=("d0", "k", 0), b=("d1", "k", 16), c=("d1", "other", 0))
    assert await found(built) == []


async def test_other_data_unit_sizes_share_numbers_too():
    key = make_key("k", 4096)
    built = await system(a=("d0", "k", 0))
    built.add_key(type(key)("k512", type(key.config)(key.config.mode, 512, 8), key.raw))
    built.add_view("b", "d0", "k512")
    assert await found(built) == [("a", "b", 0, 15, 16)]


async def test_where_there_is_no_medium_nothing_is_used_twice():
    built = await system(a=("d0", "k", 0), b=("dm2", "k", 0))
    assert await found(built) == [("a", "b", 0, 15, 0)]


async def test_only_the_named_views_are_looked_at():
    built = await system(a=("d0", "k", 0), b=("d1", "k", 0), c=("d1", "k", 0))
    assert await found(built, "a", "b") == [("a", "b", 0, 15, 16)]


async def test_overlaps_that_are_told_are_limited(monkeypatch):
    monkeypatch.setattr("fusedm.inspect.reuse.MAX_OVERLAPS", 2)
    views = {name: ("d0", "k", 0) for name in "abcd"}
    assert len(await found(await system(**views))) == 2 < MAX_OVERLAPS


async def test_what_was_not_looked_at_is_told(monkeypatch):
    monkeypatch.setattr("fusedm.inspect.reuse.MAX_STRETCHES", 3)
    (told,) = await find_overlaps(await system(a=("d0", "k", 0), b=("dm1", "k", 4)), [])
    assert (told["different"], told["not_looked_at"]) == (3, 9)
    assert "9 of them were not looked at" in text([told])


async def test_a_name_that_is_no_view_is_refused():
    with pytest.raises(StackError, match="'d0' is not a view") as caught:
        await find_overlaps(await system(), ["d0"])
    assert caught.value.errno == errno.ENXIO


async def test_a_suspended_device_is_refused():
    built = await system(a=("dm0", "k", 0), b=("d0", "k", 0))
    await built.mapped["dm0"].suspend()
    with pytest.raises(StackError, match="'a': a device below is suspended: resume it first"):
        await find_overlaps(built, [])


async def test_data_are_different_equal_or_not_there():
    built = await system(a=("d0", "k", 0), b=("d1", "k", 0))
    one, other = built.views["a"], built.views["b"]
    await write_file(one, 0, memoryview(pattern(5 * 4096)))
    await write_file(other, 0, memoryview(pattern(2 * 4096)))
    await write_file(other, 2 * 4096, memoryview(pattern(4096, 9)))
    told = await compare_data(one, other, range(8))
    assert told == {
        "looked_at": 8, "same_place": 0, "holes": 5, "equal": 2, "different": [2]
    }  # fmt: skip


async def test_data_at_one_place_are_not_compared():
    built = await system(a=("d0", "k", 0), b=("dm0", "k", 0))
    await write_file(built.views["a"], 0, memoryview(pattern(16 * 4096)))
    told = await compare_data(built.views["a"], built.views["b"], range(16))
    assert (told["same_place"], told["holes"]) == (8, 8)


async def test_a_number_that_is_not_in_both_is_refused():
    built = await system(a=("d0", "k", 0), b=("d1", "k", 8))
    with pytest.raises(StackError, match="DUN 7 is not one of view 'b'"):
        await compare_data(built.views["a"], built.views["b"], [8, 7])


async def test_numbers_that_have_outgrown_their_bytes_are_found():
    built = await system()
    key = built.keys["k"]
    built.add_key(type(key)("short", type(key.config)(key.config.mode, 4096, 1), bytes(range(64))))
    built.add_view("v", "dm0", "short", 240)
    (told,) = dun_ranges(built, [])
    assert (told["first"], told["last"], told["limit"]) == (240, 255, 256)
    assert dun_text({**told, "found": False}) == "v: DUN 240..255 fit 1 bytes, with room for 0"
    built.load("dm0", "0 128 linear d0 0\n128 128 linear d1 0")
    await built.resume("dm0")
    (told,) = dun_ranges(built, ["v"])
    assert told["last"] == 271
    assert dun_text({**told, "found": True}) == "v: DUN 240..271 DO NOT FIT 1 bytes (below 256)"


def text(told):
    data = dict.fromkeys(("looked_at", "same_place", "holes", "equal", "different_count"), 0)
    return "\n".join(
        line for one in told for line in reuse_text({**one, "data": {**data, "different": []}})
    )


async def test_two_prepared_forms_of_one_wrapped_key_are_one_key():
    built, by = System(), KeyManager()
    for name in ("i0", "i1"):
        built.add_disk(make_disk(name, 128, slots=1, key_types=KeyType, key_manager=by))
    config, blob = CryptoConfig(MODE, 4096, 8, KeyType.HW_WRAPPED), by.generate_key()
    for name in ("one", "two"):
        built.add_key(CryptoKey(name, config, by.prepare_key(blob)))
    built.add_view("a", "i0", "one")
    built.add_view("b", "i1", "two")
    assert await found(built) == [("a", "b", 0, 15, 16)]

"""Every reason has its sentence, and a table that is asked about changes nothing."""

import errno

import pytest

from fusedm.block import CryptoConfig
from fusedm.block.errors import CryptoError, StackError, TableError
from fusedm.inspect import loses, parse_config, swap, why
from fusedm.inspect.sight import Sight
from fusedm.system import System
from tests.helpers.builders import MODE, make_disk, make_key, read, write

XTS = "AES-256-XTS/4096"


async def system(*tables, units=(512, 4096), keys=()):
    """A system of d0 with an engine, d1 without, and dm0, dm1, ... of the tables."""
    built = System()
    built.add_disk(make_disk("d0", 4096, slots=2, units=units))
    built.add_disk(make_disk("d1", 4096))
    for index, table in enumerate(tables):
        built.add_mapped(f"dm{index}")
        if table:
            built.load(f"dm{index}", table)
            await built.resume(f"dm{index}")
    for key in keys:
        built.add_key(key)
    return built


def sentences(told):
    return [one["text"] for group in told["missing"] for one in group["obstacles"]]


def rows(told):
    (config,) = told["configs"]
    return [
        (one["start"], one["length"], one["how"], one["where"], one["part"])
        for one in config["extents"]
    ]


def reasons(told):
    return [one["why"] for config in told["configs"] for one in config["extents"]]


async def test_a_device_that_can_has_no_obstacle():
    told = why(await system("0 1024 linear d0 0"), "dm0", parse_config(XTS))
    assert told["native"] == {MODE: [512, 4096]}
    assert told["max_dun_bytes"] == 8
    assert told["missing"] == []
    assert rows(told) == [(0, 1024, "native", "d0", "")]
    assert told["configs"][0]["native"]


async def test_a_disk_without_engine_is_named():
    told = why(await system("0 8 linear d0 0\n8 8 linear d1 0"), "dm0", parse_config(XTS))
    assert sentences(told) == ["d1 has no inline engine"]
    assert rows(told) == [(0, 8, "native", "d0", ""), (8, 8, "leaf fallback", "d1", "")]
    assert reasons(told) == ["the engine of d0 does AES-256-XTS/4096", "d1 has no inline engine"]
    assert not told["configs"][0]["native"]


async def test_a_target_that_does_not_pass_contexts_is_named_with_its_place():
    told = why(await system("0 8 linear d0 0\n8 8 delay d0 8 0\n16 8 zero"), "dm0")
    assert "target delay at 8+8 (and 1 more) of dm0 does not pass contexts" in sentences(told)
    told = why(
        await system("0 8 linear d0 0\n8 8 delay d0 8 0\n16 8 zero"), "dm0", parse_config(XTS)
    )
    assert rows(told)[1:] == [
        (8, 8, "fallback above", "dm0", ""),
        (16, 8, "fallback above", "dm0", ""),
    ]
    assert reasons(told)[1:] == ["delay does not pass contexts", "zero does not pass contexts"]


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (
            "AES-256-XTS/1024",
            "the engine of d0 does AES-256-XTS with data units of 512, 4096 bytes only",
        ),
        ("AES-256-XTS/512/9", "the engine of d0 takes 8 DUN bytes, not 9"),
    ],
)
async def test_what_an_engine_lacks_is_named(config, sentence):
    told = why(await system("0 8 linear d0 0"), "dm0", parse_config(config))
    assert sentences(told) == [sentence]


async def test_an_engine_that_lacks_the_mode_says_so():
    disk = make_disk("d0", slots=1)
    object.__setattr__(disk.engine.capabilities, "modes", {"other": 512})
    (obstacle,) = Sight().obstacles(disk, CryptoConfig(MODE, 512, 8))
    assert obstacle.text == "the engine of d0 does not do AES-256-XTS"


async def test_a_border_that_cuts_data_units_is_named():
    told = why(await system("0 12 linear d0 0\n12 20 linear d0 12"), "dm0", parse_config(XTS))
    assert sentences(told) == [
        "the border at sector 12 in the table of dm0 would cut data units of this size"
    ]
    assert rows(told) == [
        (0, 8, "native", "d0", ""),
        (8, 8, "fallback above", "dm0", ""),
        (16, 16, "native", "d0", ""),
    ]
    assert reasons(told)[1] == "a target ends within data units of 4096 bytes"


async def test_chunks_that_cut_data_units_are_named():
    built = await system("0 48 striped 2 12 d0 0 d1 0")
    told = why(built, "dm0", parse_config(XTS))
    assert sentences(told)[1] == (
        "chunks of 12 sectors in striped at 0+48 in the table of dm0 "
        "would cut data units of this size"
    )
    assert rows(told) == [
        (0, 48, "native", "d0", "chunks on d0"),
        (0, 48, "leaf fallback", "d1", "chunks on d1"),
        (0, 48, "fallback above", "dm0", "where chunks end"),
    ]


async def test_an_offset_into_a_device_that_splits_is_named():
    told = why(await system("0 64 linear d0 0", "0 32 linear dm0 4"), "dm1", parse_config(XTS))
    assert sentences(told) == [
        "the offset of 4 sectors into dm0, which splits bios itself, in the table of dm1 "
        "would cut data units of this size"
    ]
    assert rows(told) == [(0, 32, "native", "d0", "")]


async def test_a_device_without_table_fails_everything():
    told = why(await system(""), "dm0", parse_config(XTS))
    assert (sentences(told), rows(told)) == (["dm0 has no live table"], [])


async def test_below_a_table_that_ends_early_bios_fail():
    built = await system("0 64 linear d0 0", "0 64 linear dm0 0")
    built.load("dm0", "0 32 linear d0 0")
    await built.resume("dm0")
    told = why(built, "dm1", parse_config(XTS))
    assert rows(told) == [(0, 32, "native", "d0", ""), (32, 32, "nowhere", "dm0", "")]


async def test_stacked_targets_are_named_from_above():
    built = await system("0 64 delay d0 0 1", "0 64 linear dm0 0")
    told = why(built, "dm1", parse_config(XTS))
    (extent,) = told["configs"][0]["extents"]
    assert (extent["target"], extent["where"]) == ("linear > delay", "dm0")


async def test_a_view_is_asked_about_under_its_key():
    built = await system("0 64 linear d0 0", keys=[make_key("k", 4096)])
    built.add_view("v", "dm0", "k")
    told = why(built, "v")
    assert (told["device"], told["key"], told["start"], told["sectors"]) == ("dm0", "k", 0, 64)
    assert [one["data_unit_size"] for one in told["configs"]] == [4096]
    assert [one["data_unit_size"] for one in why(built, "d0")["configs"]] == [4096]


async def test_a_device_nobody_uses_is_asked_about_all_that_can_be_done_below():
    built = await system("0 64 linear d0 0", "0 64 linear d1 0")
    assert [one["data_unit_size"] for one in why(built, "dm0")["configs"]] == [512, 4096]
    assert why(built, "dm1")["configs"] == []


async def test_looking_starts_no_key_and_counts_nothing():
    built = await system("0 64 linear d0 0", keys=[make_key("k", 4096)])
    users = list(built.mapped["dm0"].key_users(built.keys["k"]))
    why(built, "dm0")
    assert list(built.mapped["dm0"].key_users(built.keys["k"])) == users
    assert built.disks["d0"].stats.in_flight == 0


async def test_a_name_that_is_not_there_is_refused():
    with pytest.raises(StackError, match="'no' is not a device") as caught:
        why(await system(), "no")
    assert caught.value.errno == errno.ENXIO


@pytest.mark.parametrize("text", ["", "AES-256-XTS", "AES-256-XTS/x", "AES-256-XTS/1/2/3", "A/512"])
def test_what_is_no_config_is_refused(text):
    with pytest.raises(CryptoError):
        parse_config(text)


# A table that is only asked about.


async def with_view(*tables):
    built = await system(*tables, keys=[make_key("k", 4096)])
    built.add_view("v", f"dm{len(tables) - 1}", "k")
    return built


async def test_a_weaker_table_loses_what_every_device_above_it_had():
    built = await with_view("0 64 linear d0 0", "0 64 linear dm0 0")
    told = swap(built, "dm0", "0 32 linear d0 0\n32 32 linear d1 0", lambda: 0.0)
    assert [device["name"] for device in told["devices"]] == ["dm0", "dm1"]
    for device in told["devices"]:
        (group,) = device["lost"]
        assert (group["mode"], group["sizes"]) == (MODE, [512, 4096])
        assert group["obstacles"][0]["text"] == "d1 has no inline engine"
    assert told["views"][0]["native_sectors"] == [64, 32]
    assert loses(told)


async def test_a_stronger_table_gains_and_loses_nothing():
    built = await with_view("0 64 linear d1 0")
    told = swap(built, "dm0", "0 128 striped 2 8 d0 0 d0 64", lambda: 0.0)
    (group,) = told["devices"][0]["gained"]
    assert (group["sizes"], group["obstacles"][0]["rule"]) == ([512, 4096], "no engine")
    assert told["sectors"] == [64, 128]
    assert told["views"][0]["native_sectors"] == [0, 128]
    assert not loses(told)


async def test_a_table_with_other_borders_loses_sectors_only():
    built = await with_view("0 64 linear d0 0")
    told = swap(built, "dm0", "0 4 linear d0 0\n4 60 linear d0 4", lambda: 0.0)
    assert told["views"][0]["native_sectors"] == [64, 56]
    assert loses(told)


async def test_a_table_asked_about_is_neither_loaded_nor_read():
    built = await with_view("0 64 linear d0 0")
    key = built.keys["k"]
    await write(built.mapped["dm0"], 0, b"x" * 4096, key)
    swap(built, "dm0", "0 64 linear d1 0", lambda: 0.0)
    assert built.mapped["dm0"].inactive is None
    assert built.disks["d1"].holders == {}
    assert await read(built.mapped["dm0"], 0, 4096, key) == b"x" * 4096


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("0 8 linear nobody 0", "'nobody' is not a device of this stack"),
        ("0 9999 linear d0 0", "ends past d0 (4096 sectors)"),
        ("0 8 linear dm1 0", "dm0 would lie below itself (a cycle)"),
    ],
)
async def test_a_table_that_could_not_be_loaded_is_refused(table, sentence):
    built = await with_view("0 64 linear d0 0", "0 64 linear dm0 0")
    with pytest.raises(TableError) as caught:
        swap(built, "dm0", table, lambda: 0.0)
    assert sentence in str(caught.value)

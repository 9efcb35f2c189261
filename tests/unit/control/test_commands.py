"""Every verb: what it does, what it answers, and that a refused one changes nothing."""

import base64
import errno

import pytest

from fusedm.disk import Disk
from fusedm.stack import parse_spec
from tests.helpers.builders import pattern, read, write
from tests.helpers.commands import CALLS, ENGINE, RAW, refusal, verbs
from tests.helpers.waiting import WaitingMemory

NAMED = [verb for verb, args in CALLS.items() if "name" in args and not verb.endswith("add")]


# All of them.


async def test_every_verb_is_called_here(tmp_path):
    async with verbs(tmp_path) as stack:
        assert set(CALLS) == set(stack.commands.verbs)


@pytest.mark.parametrize("verb", CALLS)
async def test_an_argument_of_the_wrong_type_is_refused(tmp_path, verb):
    async with verbs(tmp_path) as stack:
        for name in CALLS[verb]:
            error = await refusal(stack, verb, **{**CALLS[verb], name: [[1]]})
            assert str(error) == f"{verb}: argument {name} is of the wrong type"


@pytest.mark.parametrize("verb", CALLS)
async def test_an_unknown_argument_is_refused(tmp_path, verb):
    async with verbs(tmp_path) as stack:
        error = await refusal(stack, verb, **CALLS[verb], colour="red")
        assert str(error) == f"{verb}: argument 'colour' is unknown"


@pytest.mark.parametrize("verb", [verb for verb in CALLS if "name" in CALLS[verb]])
async def test_a_missing_argument_is_refused(tmp_path, verb):
    async with verbs(tmp_path) as stack:
        args = {name: value for name, value in CALLS[verb].items() if name != "name"}
        assert str(await refusal(stack, verb, **args)) == f"{verb}: argument 'name' is missing"


@pytest.mark.parametrize("verb", NAMED)
async def test_a_name_that_is_not_there_is_enxio(tmp_path, verb):
    async with verbs(tmp_path) as stack:
        error = await refusal(stack, verb, **{**CALLS[verb], "name": "nobody"})
        assert error.errno == errno.ENXIO
        assert "'nobody' is not a" in str(error)


@pytest.mark.parametrize("verb", ["", "lsx", "disk_add", "disk.add_", "__init__", "_file", "disk."])
async def test_what_is_no_verb_is_refused(tmp_path, verb):
    async with verbs(tmp_path) as stack:
        assert str(await refusal(stack, verb)) == f"verb {verb!r} is unknown"


@pytest.mark.parametrize("verb", ["disk.add", "dm.add", "key.add", "view.add"])
@pytest.mark.parametrize("name", ["", "a/b", "..", "x" * 128, "a\0b", "a b", "\ud800"])
async def test_an_illegal_name_is_refused(tmp_path, verb, name):
    async with verbs(tmp_path) as stack:
        assert (await refusal(stack, verb, **{**CALLS[verb], "name": name})).errno == errno.EINVAL


@pytest.mark.parametrize("verb", ["disk.add", "dm.add", "view.add"])
@pytest.mark.parametrize("name", ["d0", "dm0", "v"])
async def test_a_name_is_taken_once_whatever_has_it(tmp_path, verb, name):
    async with verbs(tmp_path) as stack:
        error = await refusal(stack, verb, **{**CALLS[verb], "name": name})
        assert (str(error), error.errno) == (f"name {name!r} is taken", errno.EEXIST)


# The stack.


async def test_status_counts_what_there_is(tmp_path):
    async with verbs(tmp_path) as stack:
        await stack.call("dm.suspend", name="dm0")
        told = await stack.call("status")
        assert told["mount_point"] == "/m"
        assert [told[kind] for kind in ("disks", "mapped", "keys", "views")] == [2, 1, 1, 1]
        assert told["suspended"] == ["dm0"]
        assert told["in_flight"] == 0
        assert "stores" not in told


async def test_status_and_show_tell_how_a_store_is_that_waits(tmp_path):
    async with verbs(tmp_path) as stack:
        store = WaitingMemory(4096)
        store.state = "reconnecting for 3 s: Connection refused"
        stack.stack.system.add_disk(Disk("far", store))
        assert (await stack.call("status"))["stores"] == [f"far: {store.state}"]
        assert (await stack.call("disk.show", name="far"))["store"] == store.state
        assert "store" not in await stack.call("disk.show", name="d0")


async def test_ls_tells_of_each_file(tmp_path):
    async with verbs(tmp_path) as stack:
        told = {file["name"]: file for file in await stack.call("ls")}
        assert {name: file["kind"] for name, file in told.items()} == {
            "d0": "disk", "d1": "disk", "dm0": "mapped", "v": "view"
        }  # fmt: skip
        assert told["d1"]["path"] == "/m/disks/d1"
        assert told["dm0"]["path"] == "/m/mapper/dm0"
        assert (
            told["v"]
            == await stack.call("file", name="v")
            == await stack.call("view.show", name="v")
        )
        assert told["v"] == {
            "name": "v", "kind": "view", "path": "/m/views/v", "size": 1024 * 512, "ro": False,
            "log_sec": 4096, "open": 0, "below": ["dm0"], "suspended": False, "key": "k",
            "dun_base": 3,
            "start": 0,
        }  # fmt: skip


async def test_what_is_saved_builds_the_same_stack(tmp_path):
    async with verbs(tmp_path) as stack:
        await stack.call("disk.add", name="d2", store="memory:", size=8192, engine=ENGINE)
        text = await stack.call("save")
    assert parse_spec(text, "saved.toml").disks["d2"].size == 8192
    async with verbs(tmp_path, text) as again:
        assert await again.call("save") == text


async def test_stop_tells_the_daemon_to_end(tmp_path):
    async with verbs(tmp_path) as stack:
        await stack.call("stop")
        assert stack.stops == [True]


async def test_stop_is_refused_while_a_file_is_open_unless_forced(tmp_path):
    async with verbs(tmp_path) as stack:
        stack.stack.system.open("v")
        error = await refusal(stack, "stop")
        assert (str(error), error.errno, stack.stops) == ("v: open", errno.EBUSY, [])
        await stack.call("stop", force=True)
        assert stack.stops == [True]


# Disks.


async def test_a_disk_is_added_shown_and_removed(tmp_path):
    async with verbs(tmp_path) as stack:
        await stack.call(
            "disk.add", name="n", store="memory:", size=8192, read_only=True, engine=ENGINE
        )
        told = await stack.call("disk.show", name="n")
        assert (told["sectors"], told["ro"], told["keyslots"]) == (16, True, 0)
        assert told["native_modes"] == {"AES-256-XTS": [4096]}
        assert told["max_dun_bytes"] == 4
        await stack.call("disk.remove", name="n")
        assert "n" not in [file["name"] for file in await stack.call("ls")]


async def test_removing_a_disk_keeps_the_file_of_its_store(tmp_path):
    async with verbs(tmp_path) as stack:
        await stack.call("disk.add", name="n", store="file:n.img", size=8192)
        await stack.call("disk.remove", name="n")
        assert (tmp_path / "n.img").stat().st_size == 8192


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"size": None}, "needs a size"),
        ({"size": 0}, "size"),
        ({"size": -512}, "size"),
        ({"size": 513}, "513"),
        ({"size": 1 << 80}, "size"),
        ({"store": "tape:"}, "store 'tape:' is unknown"),
        ({"store": "file:no/such/x"}, "does not exist"),
        ({"store": "file:."}, "is a directory"),
        ({"store": "file:a\0b"}, "null"),
        ({"store": "file:\ud800"}, "surrogates"),
        ({"engine": {}}, "disk.add: engine: key 'keyslots' is missing"),
        ({"engine": {**ENGINE, "modes": []}}, "engine.modes: expected a table, found an array"),
        ({"engine": {**ENGINE, "keyslots": -1}}, "engine.keyslots: -1 is not in 0..1024"),
        ({"engine": {**ENGINE, "keyslots": True}}, "keyslots: expected an integer, found true"),
        ({"engine": {**ENGINE, "keyslots": "4"}}, "keyslots: expected an integer, found a string"),
        ({"engine": {**ENGINE, "keyslots": 1 << 40}}, "keyslots: 1099511627776"),
        ({"engine": {**ENGINE, "secret": "fd:0"}}, "engine.secret is not file:/PATH or random"),
        ({"engine": "usf"}, "profile 'usf' is no engine, did you mean 'ufs'?"),
        ({"engine": {"profile": "emmc", "max_dun_bytes": 0}}, "max_dun_bytes 0 is not in 1..32"),
        ({"engine": {**ENGINE, "max_dun_bytes": 0}}, "max_dun_bytes"),
        ({"engine": {**ENGINE, "modes": {"ROT-13": [512]}}}, "ROT-13"),
        ({"engine": {**ENGINE, "modes": {"AES-256-XTS": [513]}}}, "513"),
        ({"engine": {**ENGINE, "more": 1}}, "engine.more: unknown key, did you mean"),
    ],
)
async def test_a_disk_that_cannot_be_is_refused(tmp_path, args, words):
    async with verbs(tmp_path) as stack:
        assert words in str(await refusal(stack, "disk.add", **{**CALLS["disk.add"], **args}))
    assert list(tmp_path.iterdir()) == []


async def test_a_disk_in_use_says_by_whom(tmp_path):
    async with verbs(tmp_path) as stack:
        error = await refusal(stack, "disk.remove", name="d0")
        assert (str(error), error.errno) == ("'d0' is in use by dm0", errno.EBUSY)


async def test_lost_power_loses_what_was_not_flushed(tmp_path):
    async with verbs(tmp_path) as stack:
        disk = stack.stack.system.disk("d1")
        await write(disk, 0, pattern(512))
        await stack.call("disk.losepower", name="d1", keep="nothing")
        assert await read(disk, 0, 512) == bytes(512)


async def test_power_is_lost_only_where_there_is_a_volatile_cache(tmp_path):
    async with verbs(tmp_path) as stack:
        error = await refusal(stack, "disk.losepower", name="d0")
        assert error.errno == errno.EOPNOTSUPP


async def test_power_keeps_one_of_three_things(tmp_path):
    async with verbs(tmp_path) as stack:
        error = await refusal(stack, "disk.losepower", name="d1", keep="half")
        assert "argument keep is of the wrong type" in str(error)


# Mapped devices.


async def test_a_table_is_loaded_shown_and_made_live(tmp_path):
    async with verbs(tmp_path) as stack:
        await stack.call("dm.load", name="dm0", table="0 8 zero")
        assert await stack.lines("dm.table", name="dm0") == ["0 1024 linear d0 0"]
        assert await stack.lines("dm.table", name="dm0", inactive=True) == ["0 8 zero "]
        assert (await stack.call("dm.show", name="dm0"))["tables"] == ["live", "inactive"]
        await stack.call("dm.suspend", name="dm0")
        await stack.call("dm.resume", name="dm0")
        assert await stack.lines("dm.table", name="dm0") == ["0 8 zero "]
        assert await stack.lines("dm.table", name="dm0", inactive=True) == []


async def test_clear_drops_the_inactive_table(tmp_path):
    async with verbs(tmp_path) as stack:
        await stack.call("dm.load", name="dm0", table="0 8 zero")
        await stack.call("dm.clear", name="dm0")
        assert (await stack.call("dm.show", name="dm0"))["tables"] == ["live"]


async def test_a_device_without_a_table_has_none_to_show(tmp_path):
    async with verbs(tmp_path) as stack:
        await stack.call("dm.add", name="n")
        assert await stack.lines("dm.table", name="n") == []
        assert await stack.lines("dm.status", name="n") == []
        assert (await stack.call("dm.show", name="n"))["tables"] == []


async def test_a_mapped_device_is_shown_whole(tmp_path):
    async with verbs(tmp_path) as stack:
        told = await stack.call("dm.show", name="dm0")
        assert told["uuid"] == "uuid-0"
        assert told["holders"] == ["v"]
        assert told["native_modes"] == {"AES-256-XTS": [512, 4096]}
        assert told["crypto_extents"] == ["0 1024 linear native 0 fallback 0"]
        assert await stack.lines("dm.status", name="dm0") == ["0 1024 linear "]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("0 8 linear nobody 0", "nobody"),
        ("0 8 linear d0", "linear"),
        ("0 8 linear d0 9999999", "d0"),
        ("0 8 linear v 0", "'v' is a view"),
        ("0 8 linear n 0", "n"),
        ("0 8 none", "none"),
        ("8 8 zero", "8"),
        ("0 8 zero\n4 8 zero", "4"),
        ("words", "words"),
    ],
)
async def test_a_table_that_cannot_be_leaves_no_device(tmp_path, table, words):
    async with verbs(tmp_path) as stack:
        assert words in str(await refusal(stack, "dm.add", name="n", table=table))
        assert words in str(await refusal(stack, "dm.load", name="dm0", table=table))


async def test_a_device_cannot_be_loaded_onto_itself(tmp_path):
    async with verbs(tmp_path) as stack:
        await stack.call("dm.add", name="n", table="0 8 linear dm0 0")
        error = await refusal(stack, "dm.load", name="dm0", table="0 8 linear n 0")
        assert str(error) == "table: dm0 would lie below itself (a cycle)"


async def test_a_uuid_is_taken_once(tmp_path):
    async with verbs(tmp_path) as stack:
        error = await refusal(stack, "dm.add", name="n", uuid="uuid-0")
        assert error.errno == errno.EEXIST


async def test_a_mapped_device_in_use_says_by_whom(tmp_path):
    async with verbs(tmp_path) as stack:
        error = await refusal(stack, "dm.remove", name="dm0")
        assert (str(error), error.errno) == ("'dm0' is in use by v", errno.EBUSY)


# Keys and views.


async def test_a_key_is_added_with_the_bytes_it_was_given(tmp_path):
    async with verbs(tmp_path) as stack:
        await stack.call("key.add", **CALLS["key.add"])
        assert bytes(stack.stack.system.keys["n"].raw) == RAW
        told = (await stack.call("key.list"))[-1]
        assert told == {
            "name": "n", "type": "raw", "mode": "AES-256-XTS", "data_unit_size": 512,
            "dun_bytes": 4, "views": [],
        }  # fmt: skip
        await stack.call("key.remove", name="n")
        assert [key["name"] for key in await stack.call("key.list")] == ["k"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"raw": "!"}, "raw is not base64"),
        ({"raw": "é"}, "raw is not base64"),
        ({"raw": base64.b64encode(RAW[1:]).decode()}, "63 bytes given, AES-256-XTS needs 64"),
        ({"raw": ""}, "0 bytes given"),
        ({"mode": "ROT-13"}, "ROT-13"),
        ({"data_unit_size": 513}, "data_unit_size 513"),
        ({"data_unit_size": -512}, "data_unit_size -512"),
        ({"dun_bytes": 17}, "dun_bytes"),
        ({"dun_bytes": True}, "argument dun_bytes is of the wrong type"),
        ({"source": "hex:" + RAW.hex()}, "a key is not written out here"),
        ({"source": "telepathy"}, "not a source of a key"),
        ({"name": "k"}, "'k' is there already"),
    ],
)
async def test_a_key_that_cannot_be_is_refused_without_its_bytes(tmp_path, args, words):
    async with verbs(tmp_path) as stack:
        text = str(await refusal(stack, "key.add", **{**CALLS["key.add"], **args}))
        assert words in text
        assert RAW.hex() not in text
        assert base64.b64encode(RAW).decode() not in text


async def test_a_key_in_use_says_by_which_views(tmp_path):
    async with verbs(tmp_path) as stack:
        error = await refusal(stack, "key.remove", name="k")
        assert (str(error), error.errno) == ("'k' is in use by v", errno.EBUSY)


async def test_a_view_is_added_and_removed(tmp_path):
    async with verbs(tmp_path) as stack:
        await stack.call("view.add", name="n", device="d0", key="k", dun_base=9)
        assert (await stack.call("view.show", name="n"))["dun_base"] == 9
        assert (await stack.call("key.list"))[0]["views"] == ["v", "n"]
        await stack.call("view.remove", name="n")
        assert (await stack.call("key.list"))[0]["views"] == ["v"]


async def test_a_view_of_a_part_is_added_and_saved(tmp_path):
    async with verbs(tmp_path) as stack:
        await stack.call("view.add", name="n", device="d0", key="k", start=8192, size=4096)
        told = await stack.call("view.show", name="n")
        assert (told["start"], told["size"]) == (8192, 4096)
        assert 'start = "8KiB"\nsize = "4KiB"' in await stack.call("save")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"device": "nobody"}, "'nobody' is not a device"),
        ({"device": "v"}, "'v' is a view, not a device"),
        ({"key": "nobody"}, "'nobody' is not a key"),
        ({"dun_base": -1}, "-1"),
        ({"dun_base": 1 << 64}, "do not fit"),
        ({"start": 512}, "start 512 is not a multiple of"),
        ({"start": 1 << 40}, "ends past d0"),
    ],
)
async def test_a_view_that_cannot_be_is_refused(tmp_path, args, words):
    async with verbs(tmp_path) as stack:
        assert words in str(await refusal(stack, "view.add", **{**CALLS["view.add"], **args}))


async def test_an_open_view_is_not_removed(tmp_path):
    async with verbs(tmp_path) as stack:
        stack.stack.system.open("v")
        error = await refusal(stack, "view.remove", name="v")
        assert error.errno == errno.EBUSY
        assert "open" in str(error)

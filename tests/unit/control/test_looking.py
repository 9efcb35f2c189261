"""The verbs that look into a stack, as the daemon answers them."""

import errno
import json

import pytest

from fusedm.block.errors import ControlError, CryptoError
from fusedm.files.device_file import write as write_file
from tests.helpers.builders import pattern
from tests.helpers.commands import refusal, verbs

LATER = {"name": "later", "device": "dm0", "key": "k", "dun_base": 5}


async def test_why_asks_about_a_view_and_about_a_config(tmp_path):
    async with verbs(tmp_path) as stack:
        assert (await stack.call("why", name="v"))["configs"][0]["native"]
        (group,) = (await stack.call("why", name="d1", config="AES-256-XTS/512"))["missing"]
        assert group["obstacles"][0]["text"] == "d1 has no inline engine"
        error = await refusal(stack, "why", name="v", config="AES-256-XTS/1000")
        assert isinstance(error, CryptoError)
        assert "data_unit_size 1000 is not a power of two" in str(error)


async def test_a_table_is_asked_about_and_not_loaded(tmp_path):
    async with verbs(tmp_path) as stack:
        told = await stack.call("why.table", name="dm0", table="0 1024 linear d1 0")
        assert told["views"][0]["native_sectors"] == [1024, 0]
        assert await stack.lines("dm.table", name="dm0", inactive=True) == []
        error = await refusal(stack, "why.table", name="dm0", table="0 8 linear d0 -1")
        assert "argument 2: offset: '-1' is not a number" in str(error)


async def test_explain_names_the_store(tmp_path):
    async with verbs(tmp_path) as stack:
        told = await stack.call("explain", name="v", offset=0, length=4096)
        assert told["stores"] == {"d0": "memory:", "d1": "volatile:memory:"}
        error = await refusal(stack, "explain", name="v", offset=0, length=0)
        assert str(error) == "length 0 is not in 1..1048576, one request of the kernel"


async def test_no_answer_has_key_bytes_in_it(tmp_path):
    async with verbs(tmp_path) as stack:
        view = stack.stack.system.view("v")
        await write_file(view, 0, memoryview(pattern(8192)))
        await stack.call("view.add", **LATER)
        raw = bytes(view.key.raw)
        for verb, args in (
            ("why", {"name": "v"}),
            ("explain", {"name": "v", "offset": 0, "length": 4096}),
            ("verify.view", {"name": "v"}),
            ("verify.part", {"name": "v", "begin": 0, "end": 8192}),
            ("verify.reuse", {"names": []}),
            ("verify.duns", {"names": ["v", "later"], "duns": [5]}),
            ("verify.dun", {"names": []}),
        ):
            told = json.dumps(await stack.call(verb, **args))
            assert raw[:4].hex() not in told
            assert raw[32:36].hex() not in told


async def test_a_view_is_verified_and_is_not_open_afterwards(tmp_path):
    async with verbs(tmp_path) as stack:
        view = stack.stack.system.view("v")
        await write_file(view, 0, memoryview(pattern(8192)))
        plan = await stack.call("verify.view", name="v")
        assert plan == {
            "name": "v", "size": 524288, "block_size": 4096, "data_unit_size": 4096,
            "mode": "AES-256-XTS", "is_known": True,
        }  # fmt: skip
        told = await stack.call("verify.part", name="v", begin=0, end=8192)
        assert (told["units"], told["mismatch_count"]) == (2, 0)
        error = await refusal(stack, "verify.part", name="v", begin=0, end=1)
        assert "bytes 0..1 are no range of blocks of 4096 in 0..524288" in str(error)
        assert stack.stack.system.names.open_count("v") == 0
        assert (await stack.call("verify.view", name="d0"))["mode"] is None


async def test_data_of_two_views_are_compared(tmp_path):
    async with verbs(tmp_path) as stack:
        await stack.call("view.add", **LATER)
        await write_file(stack.stack.system.view("v"), 0, memoryview(pattern(8 * 4096)))
        (overlap,) = await stack.call("verify.reuse", names=["v", "later"])
        assert (overlap["views"], overlap["first"]) == (["v", "later"], 5)
        told = await stack.call("verify.duns", names=["v", "later"], duns=[5, 6, 100])
        assert (told["different"], told["holes"]) == ([5, 6], 1)


@pytest.mark.parametrize("names", [["v"], ["v", "v"], []])
async def test_data_of_other_than_two_views_are_not_compared(tmp_path, names):
    async with verbs(tmp_path) as stack:
        error = await refusal(stack, "verify.duns", names=names, duns=[3])
        assert isinstance(error, ControlError)
        assert str(error) == f"verify.duns: names is {len(set(names))} views, not 2"


async def test_a_name_among_names_that_is_not_there_is_enxio(tmp_path):
    async with verbs(tmp_path) as stack:
        for verb in ("verify.reuse", "verify.dun"):
            error = await refusal(stack, verb, names=["nobody"])
            assert (str(error), error.errno) == (
                "'nobody' is not a view of this stack",
                errno.ENXIO,
            )

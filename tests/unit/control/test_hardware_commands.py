"""Verbs on engines: reset, keyslots as they are shown, and wrapped keys."""

import base64
import errno

import pytest

from fusedm.control.wire import encode
from fusedm.crypto import ENGINE_PROFILES
from tests.helpers.builders import pattern, write
from tests.helpers.commands import refusal, verbs


async def test_a_reset_engine_has_its_keys_again(tmp_path):
    async with verbs(tmp_path) as stack:
        view = stack.stack.system.view("v")
        await write(view.device, 0, pattern(4096), view.key)
        assert encode(await stack.call("disk.resetengine", name="d0")) == {
            "reprogrammed": ("k",), "failed": ()
        }  # fmt: skip
        (first, second) = (await stack.call("disk.show", name="d0"))["slots"]
        assert (first["slot"], first["key"], first["programs"]) == (0, "k", 2)
        assert (second["slot"], second["key"]) == (1, None)


async def test_a_disk_without_an_engine_has_none_to_reset(tmp_path):
    async with verbs(tmp_path) as stack:
        error = await refusal(stack, "disk.resetengine", name="d1")
        assert str(error) == "'d1' has no inline engine to reset"
        assert error.errno == errno.EOPNOTSUPP
        assert (await stack.call("disk.show", name="d1"))["slots"] == []


RAW = base64.b64encode(bytes(range(32))).decode()


@pytest.mark.parametrize("how", ["imported", "generated", "random"])
async def test_a_wrapped_key_comes_from_its_verbs_into_a_view(tmp_path, how):
    async with verbs(tmp_path) as stack:
        await stack.call("disk.add", name="ice", store="memory:", size=1 << 16, engine="qti-ice")
        told = {"name": "w", "mode": "AES-256-XTS", "data_unit_size": 4096, "dun_bytes": 8}
        if how == "random":
            await stack.call("key.add", **told, source="random", type="hw-wrapped")
        else:
            if how == "imported":
                key = await stack.call("key.importwrapped", name="ice", raw=RAW)
            else:
                key = await stack.call("key.generatewrapped", name="ice")
            ready = await stack.call("key.prepare", name="ice", key=key)
            secret = await stack.call("key.softwaresecret", name="ice", key=ready)
            assert len(base64.b64decode(secret)) == 32
            await stack.call("key.add", **told, source="file:/b", type="hw-wrapped", raw=ready)
        assert (await stack.call("key.list"))[-1]["type"] == "hw-wrapped"
        await stack.call("view.add", name="wv", device="ice", key="w")
        view = stack.stack.system.view("wv")
        await write(view.device, 0, pattern(4096), view.key)
        assert (await stack.call("disk.show", name="ice"))["slots"][0]["key"] == "w"


async def test_what_is_no_key_is_refused_by_the_name_of_its_argument(tmp_path):
    async with verbs(tmp_path) as stack:
        await stack.call("disk.add", name="ice", store="memory:", size=1 << 16, engine="qti-ice")
        for verb, argument in (
            ("key.importwrapped", "raw"), ("key.prepare", "key"), ("key.softwaresecret", "key")
        ):  # fmt: skip
            error = await refusal(stack, verb, name="ice", **{argument: "!"})
            assert str(error) == f"{verb}: {argument} is not base64"
        error = await refusal(stack, "key.importwrapped", name="ice", raw="AAAA")
        assert str(error) == "a raw key to be wrapped has 16..64 bytes, 3 given"
        corrupt = base64.b64encode(bytes(60)).decode()
        for verb in ("key.prepare", "key.softwaresecret"):
            error = await refusal(stack, verb, name="ice", key=corrupt)
            assert error.errno == errno.EBADMSG


@pytest.mark.parametrize("name", ENGINE_PROFILES)
async def test_every_ready_made_engine_can_be_added_by_name(tmp_path, name):
    async with verbs(tmp_path) as stack:
        await stack.call("disk.add", name="n", store="memory:", size=1 << 16, engine=name)
        told = await stack.call("disk.show", name="n")
        assert told["keyslots"] == ENGINE_PROFILES[name].keyslots == len(told["slots"])
        assert f'engine = "{name}"' in await stack.call("save")

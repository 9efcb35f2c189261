"""Verbs on engines: reset, and keyslots as they are shown."""

import errno

from tests.helpers.builders import pattern, write
from tests.helpers.commands import refusal, verbs


async def test_a_reset_engine_has_its_keys_again(tmp_path):
    async with verbs(tmp_path) as stack:
        view = stack.stack.system.view("v")
        await write(view.device, 0, pattern(4096), view.key)
        assert await stack.call("disk.resetengine", name="d0") == {
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

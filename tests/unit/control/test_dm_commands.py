"""The verbs behind dmsetup refuse with the errnos of the kernel's ioctls."""

import errno
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from fusedm.block.errors import FusedmError
from tests.helpers.commands import Verbs, verbs

DM0 = {"name": "dm0"}


async def number_of(stack: Verbs, verb: str, **args: Any) -> int:
    with pytest.raises(FusedmError) as caught:
        await stack.call(f"dmsetup.{verb}", **args)
    return caught.value.errno


async def test_creating_what_is_there_is_ebusy_and_a_taken_minor_enxio(tmp_path: Path) -> None:
    async with verbs(tmp_path) as stack:
        assert await number_of(stack, "create", name="dm0") == errno.EBUSY
        assert await number_of(stack, "create", name="n", uuid="uuid-0") == errno.EBUSY
        assert await number_of(stack, "create", name="n", minor=0) == errno.ENXIO
        assert await number_of(stack, "create", name="a/b") == errno.EINVAL
        told = await stack.call("dmsetup.create", name="n", minor=7)
        assert (told["number"], told["minor"], told["live"]) == ("253:7", 7, False)


async def test_a_device_that_is_not_there_is_enxio(tmp_path: Path) -> None:
    async with verbs(tmp_path) as stack:
        for which in ({"name": "d0"}, {"uuid": ""}, {"number": "253:9"}, {}):
            assert await number_of(stack, "info", device=which) == errno.ENXIO


async def test_a_device_is_found_by_each_of_its_names(tmp_path: Path) -> None:
    async with verbs(tmp_path) as stack:
        await stack.call("dmsetup.show", device=DM0, number="7:99")
        for which in (DM0, {"uuid": "uuid-0"}, {"number": "253:0"}, {"number": "7:99"}):
            told = await stack.call("dmsetup.info", device=which)
            assert (told["name"], told["number"], told["minor"]) == ("dm0", "7:99", 0)
        await stack.call("dmsetup.show", device=DM0)
        assert (await stack.call("dmsetup.info", device=DM0))["number"] == "253:0"


async def test_renaming_is_refused_as_the_kernel_refuses_it(tmp_path: Path) -> None:
    async with verbs(tmp_path) as stack:
        assert await number_of(stack, "rename", device=DM0, new="dm0") == errno.EBUSY
        assert await number_of(stack, "setuuid", device=DM0, uuid="other") == errno.EINVAL
        assert await number_of(stack, "setuuid", device=DM0, uuid="") == errno.EINVAL
        await stack.call("dmsetup.create", name="n")
        await stack.call("dmsetup.setuuid", device={"name": "n"}, uuid="new")
        assert (await stack.call("dmsetup.info", device={"uuid": "new"}))["name"] == "n"


async def test_what_is_in_use_is_not_removed_but_may_be_later(tmp_path: Path) -> None:
    async with verbs(tmp_path) as stack:
        assert await number_of(stack, "remove", device=DM0) == errno.EBUSY
        assert await stack.call("dmsetup.remove", device=DM0, deferred=True) is False
        assert (await stack.call("dmsetup.info", device=DM0))["deferred"]
        words = ["@cancel_deferred_remove"]
        assert await stack.call("dmsetup.message", device=DM0, sector=0, words=words) == ""
        assert not (await stack.call("dmsetup.info", device=DM0))["deferred"]
        await stack.call("view.remove", name="v")
        assert await stack.call("dmsetup.remove", device=DM0) is True


async def test_messages_that_nobody_takes_are_einval(tmp_path: Path) -> None:
    async with verbs(tmp_path) as stack:
        for words in ([], ["@stats_list"], ["hello"]):
            number = await number_of(stack, "message", device=DM0, sector=0, words=words)
            assert number == errno.EINVAL


async def test_tables_are_told_with_numbers(tmp_path: Path) -> None:
    async with verbs(tmp_path) as stack:
        disk = "253:524288"
        assert await stack.call("dmsetup.table", device=DM0) == f"0 1024 linear {disk} 0"
        assert await stack.call("dmsetup.table", device=DM0, inactive=True) == ""
        assert await stack.call("dmsetup.status", device=DM0) == "0 1024 linear "
        assert await stack.call("dmsetup.deps", device=DM0) == [disk]
        text = "0 8 striped 2 4 d0 0 d1 0"
        await stack.call("dmsetup.load", device=DM0, table=text)
        below = await stack.call("dmsetup.deps", device=DM0, inactive=True)
        assert below == ["253:524289", disk]
        await stack.call("dmsetup.clear", device=DM0)
        assert not (await stack.call("dmsetup.info", device=DM0))["inactive"]


async def test_resume_without_a_table_is_refused_to_a_suspended_device_only(
    tmp_path: Path,
) -> None:
    async with verbs(tmp_path) as stack:
        new = {"name": "n"}
        await stack.call("dmsetup.create", name="n")
        await stack.call("dmsetup.resume", device=new)
        await stack.call("dmsetup.suspend", device=new)
        assert await number_of(stack, "resume", device=new) == errno.EINVAL


async def test_waiting_for_a_device_that_is_removed_is_enxio(tmp_path: Path) -> None:
    async with verbs(tmp_path) as stack:
        await stack.call("dmsetup.create", name="n")
        found: list[int] = []

        async def wait() -> None:
            found.append(await number_of(stack, "wait", device={"name": "n"}, event=0))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            await stack.call("dmsetup.remove", device={"name": "n"})
        assert found == [errno.ENXIO]

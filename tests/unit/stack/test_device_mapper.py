"""Device mapper as a strict stack has it: it refuses with the errnos of the kernel's ioctls."""

import errno
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from fusedm.block.device_mapper import Which
from fusedm.block.errors import FusedmError, SpecError
from fusedm.stack import Stack, format_spec, parse_spec
from fusedm.stack.device_mapper import DeviceMapper
from tests.helpers.commands import TOML

STRICT = TOML.replace("version = 1\n", 'version = 1\nstrict = "linux"\n')


@asynccontextmanager
async def mapper(base_dir: Path, toml: str = STRICT) -> AsyncIterator[DeviceMapper]:
    async with Stack(parse_spec(toml, "stack.toml"), base_dir) as stack:
        yield stack.dm


async def number_of(asked: Awaitable[object]) -> int:
    with pytest.raises(FusedmError) as caught:
        await asked
    return caught.value.errno


def refused(dm: DeviceMapper, verb: str, *args: object) -> int:
    with pytest.raises(FusedmError) as caught:
        getattr(dm, verb)(*args)
    return caught.value.errno


async def test_creating_what_is_there_is_ebusy_and_a_taken_minor_enxio(tmp_path: Path) -> None:
    async with mapper(tmp_path) as dm:
        assert await number_of(dm.add("dm0")) == errno.EBUSY
        assert await number_of(dm.add("n", uuid="uuid-0")) == errno.EBUSY
        assert await number_of(dm.add("n", minor=0)) == errno.ENXIO
        assert await number_of(dm.add("a/b")) == errno.EINVAL
        told = await dm.add("n", minor=7)
        assert (told.number, told.minor, told.is_live) == ((253, 7), 7, False)


async def test_a_device_that_is_not_there_is_enxio(tmp_path: Path) -> None:
    async with mapper(tmp_path) as dm:
        for which in ("d0", "", Which(uuid="d0"), Which(number=(253, 9)), Which()):
            assert refused(dm, "info", which) == errno.ENXIO


async def test_a_device_is_found_by_each_of_its_names(tmp_path: Path) -> None:
    async with mapper(tmp_path) as dm:
        dm.setnumber("dm0", (7, 99))
        known = (Which("dm0"), Which(uuid="uuid-0"), Which(number=(253, 0)), Which(number=(7, 99)))
        for which in ("dm0", *known):
            told = dm.info(which)
            assert (told.name, told.number, told.minor) == ("dm0", (7, 99), 0)
        dm.setnumber("dm0", None)
        assert dm.info("dm0").number == (253, 0)


async def test_renaming_is_refused_as_the_kernel_refuses_it(tmp_path: Path) -> None:
    async with mapper(tmp_path) as dm:
        assert await number_of(dm.rename("dm0", "dm0")) == errno.EBUSY
        assert refused(dm, "setuuid", "dm0", "other") == errno.EINVAL
        assert refused(dm, "setuuid", "dm0", "") == errno.EINVAL
        await dm.add("n")
        dm.setuuid("n", "new")
        assert dm.info(Which(uuid="new")).name == "n"
        assert (await dm.rename(Which(uuid="new"), "m")).name == "m"


async def test_what_is_in_use_is_not_removed_but_may_be_later(tmp_path: Path) -> None:
    async with mapper(tmp_path) as dm:
        await dm.add("n", "0 8 linear dm0 0")
        assert dm.info("dm0").holders == ("n", "v")
        assert await number_of(dm.remove("dm0")) == errno.EBUSY
        assert await dm.remove("n", deferred=True)
        assert not await dm.remove("dm0", deferred=True)
        assert dm.info("dm0").is_deferred
        assert await dm.message("dm0", 0, ["@cancel_deferred_remove"]) == ""
        assert not dm.info("dm0").is_deferred


async def test_messages_that_nobody_takes_are_einval(tmp_path: Path) -> None:
    async with mapper(tmp_path) as dm:
        for words in ([], ["@stats_list"], ["hello"]):
            assert await number_of(dm.message("dm0", 0, words)) == errno.EINVAL


async def test_tables_are_told_with_numbers_or_names(tmp_path: Path) -> None:
    async with mapper(tmp_path) as dm:
        disk = (253, 1 << 19)
        (line,) = dm.table("dm0", numbers=True)
        assert (line.start_sector, line.sector_count, line.target) == (0, 1024, "linear")
        assert line.words == "253:524288 0"
        assert [str(line) for line in dm.table("dm0")] == ["0 1024 linear d0 0"]
        assert [str(line) for line in dm.status("dm0")] == ["0 1024 linear "]
        assert dm.table("dm0", inactive=True) == dm.status("dm0", inactive=True) == []
        assert dm.deps("dm0") == dm.info("dm0").below == (disk,)
        await dm.add("n")
        await dm.load("n", "0 8 striped 2 4 d0 0 d1 0")
        assert dm.deps("n", inactive=True) == ((253, 524289), disk)
        status = dm.status("n", inactive=True, numbers=True)
        assert [line.words for line in status] == ["2 253:524288 253:524289 1 AA"]
        assert not (await dm.clear("n")).is_inactive


async def test_resume_without_a_table_is_refused_to_a_suspended_device_only(tmp_path: Path) -> None:
    async with mapper(tmp_path) as dm:
        await dm.add("n")
        await dm.resume("n")
        await dm.suspend("n")
        assert await number_of(dm.resume("n")) == errno.EINVAL


async def test_waiting_for_a_device_that_is_removed_is_enxio(tmp_path: Path) -> None:
    async with mapper(tmp_path) as dm:
        await dm.add("n")
        found: list[int] = []

        async def wait() -> None:
            found.append(await number_of(dm.wait("n", 0)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            await dm.remove("n")
        assert found == [errno.ENXIO]


async def test_a_table_may_lie_over_a_file_which_is_closed_with_the_last_table(
    tmp_path: Path,
) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(1 << 20))
    async with mapper(tmp_path, TOML) as dm:
        await dm.add("n", f"0 8 linear {image} 0")
        (disk,) = dm.info("n").below
        assert dm.deps("n") == (disk,)
        await dm.load("dm0", f"0 8 linear {image} 8")
        await dm.remove("n")
        assert dm.deps("dm0", inactive=True) == (disk,)
        await dm.clear("dm0")
        # Nobody has it locked any more.
        async with mapper(tmp_path) as other:
            await other.add("n", f"0 8 linear {image} 0")


async def test_what_lies_outside_is_saved_as_a_disk(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(1 << 20))
    spec = parse_spec("version = 1\n", "stack.toml")
    async with Stack(spec, tmp_path) as stack:
        await stack.dm.add("n", "0 8 linear disk.img 0", folder=str(tmp_path))
        saved = format_spec(stack.spec())
    async with Stack(parse_spec(saved, "saved.toml"), tmp_path) as again:
        assert format_spec(again.spec()) == saved
        (disk,) = again.system.disks.values()
        assert again.dm.table("n")[0].words == f"{disk.name} 0"


async def test_the_table_of_a_stack_file_names_devices_of_the_stack_only(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(4096))
    text = f'version = 1\nmapper.n.table = "0 8 linear {image} 0"\n'
    with pytest.raises(SpecError, match="is not a device of this stack"):
        async with mapper(tmp_path, text):
            pass


async def test_a_device_whose_table_cannot_be_is_not_there_and_nothing_is_open(
    tmp_path: Path,
) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(4096))
    async with mapper(tmp_path, TOML) as dm:
        assert await number_of(dm.add("n", f"0 9 linear {image} 0")) == errno.EINVAL
        assert [told.name for told in dm.ls()] == ["dm0"]
        assert dm.info("dm0").below == ((253, 1 << 19),)
        async with mapper(tmp_path) as other:
            await other.add("n", f"0 8 linear {image} 0")

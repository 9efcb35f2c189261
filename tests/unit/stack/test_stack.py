"""A stack through the Python API: built whole or not at all, changed by verbs, saved and closed."""

import contextlib
import errno
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio

from fusedm.block import Op
from fusedm.block.errors import (
    FusedmError,
    SpecError,
    StackError,
    StoreError,
    TableError,
)
from fusedm.crypto import submit_bio
from fusedm.stack import (
    DiskSpec,
    EngineSpec,
    KeySpec,
    MapperSpec,
    Stack,
    ViewSpec,
    format_spec,
    parse_spec,
    read_spec,
)
from fusedm.stores import MemoryStore
from tests.helpers.builders import contents, pattern

KEY = bytes(pattern(64, seed=7))
TOML = """\
version = 1

[disks.d0]
size = "1MiB"
store = "file:d0.img"
engine = { keyslots = 2, max_dun_bytes = 8, modes = { "AES-256-XTS" = [4096] } }

[disks.d1]
size = "1MiB"
store = "memory:"

[mapper.upper]
table = "0 2048 linear lower 0"

[mapper.lower]
table = \"\"\"
0 1024 linear d0 0
1024 1024 linear d1 0
\"\"\"
uuid = "uuid-lower"

[keys.k]
mode = "AES-256-XTS"
data_unit_size = 4096
dun_bytes = 8
source = "file:k.key"

[views.v]
device = "upper"
key = "k"
dun_base = 5
"""
DATA = bytes(pattern(8192, seed=3))


@pytest.fixture
def toml(tmp_path) -> Path:
    """The stack file, with its key beside it."""
    path = tmp_path / "stack.toml"
    path.write_text(TOML)
    (tmp_path / "k.key").write_bytes(KEY)
    (tmp_path / "k.key").chmod(0o600)
    return path


async def write_at(stack, name, offset, data):
    view = stack.system.view(name)
    await submit_bio(view.device, view.bio(Op.WRITE, offset, memoryview(data)))


async def read_at(stack, name, offset, length):
    view, data = stack.system.view(name), bytearray(length)
    await submit_bio(view.device, view.bio(Op.READ, offset, memoryview(data)))
    return bytes(data)


def open_files():
    """What this process has open, by what it is."""
    links = [Path("/proc/self/fd", fd) for fd in os.listdir("/proc/self/fd")]
    # The descriptor that listed them is gone.
    return sorted(os.readlink(link) for link in links if link.is_symlink())


async def build_error(path) -> SpecError:
    """Why a stack cannot be built; it must leave nothing behind."""
    before = open_files(), sorted(path.parent.iterdir())
    with pytest.raises(SpecError) as caught:
        async with Stack.from_toml(path):
            raise AssertionError("it was built")
    assert (open_files(), sorted(path.parent.iterdir())) == before
    return caught.value


# Building.


async def test_what_is_written_to_a_view_is_read_from_it(toml):
    async with Stack.from_toml(toml) as stack:
        await write_at(stack, "v", 1024 * 512 - 4096, DATA)
        assert await read_at(stack, "v", 1024 * 512 - 4096, 8192) == DATA
        assert DATA[:4096] not in contents(stack.system.disks["d0"].store)
        assert DATA[4096:] not in contents(stack.system.disks["d1"].store)


async def test_bytes_in_a_file_are_there_again_the_next_time(toml):
    async with Stack.from_toml(toml) as stack:
        await write_at(stack, "v", 0, DATA)
    async with Stack.from_toml(toml) as stack:
        assert await read_at(stack, "v", 0, 8192) == DATA


async def test_paths_in_a_stack_file_are_relative_to_it(toml, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    async with Stack.from_toml("../stack.toml") as stack:
        assert bytes(stack.system.keys["k"].raw) == KEY
    assert (tmp_path / "d0.img").exists()
    assert list(elsewhere.iterdir()) == []


async def test_an_error_shows_file_line_and_caret(toml):
    toml.write_text(TOML.replace("file:d0.img", "file:no/d0.img"))
    error = await build_error(toml)
    first, source, caret = str(error).split("\n")
    assert first.startswith(f"{toml}:5: ")
    assert "no/d0.img" in first
    assert source.strip() == 'store = "file:no/d0.img"'
    assert caret.index("^") == source.index('"file')
    assert error.errno == errno.ENOENT


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("lower 0", "nobody 0", 13, "nobody"),
        ("lower 0", "lower", 13, "linear"),
        ("linear d1 0", "linear d1 2048", 18, "d1"),
        ("1024 1024", "1025 1024", 18, "1025"),
        ("file:k.key", "file:no.key", 26, "No such file"),
        ("dun_base = 5", f"dun_base = {(1 << 64) - 1}", 28, "do not fit"),
        ("linear d0 0", "linear upper 0", 13, "upper -> lower -> upper"),
        ('size = "1MiB"\nstore = "memory:"', 'store = "memory:"', 9, "needs a size"),
        ('uuid = "uuid-lower"', 'colour = "red"', 20, "colour"),
    ],
)
async def test_whatever_cannot_be_built_leaves_nothing(toml, old, new, line, words):
    assert old in TOML
    toml.write_text(TOML.replace(old, new))
    error = await build_error(toml)
    assert str(error).startswith(f"{toml}:{line}: ")
    assert words in str(error)


async def test_a_key_that_fails_late_leaves_no_file_created_and_none_open(toml):
    (toml.parent / "k.key").write_bytes(KEY[:-1])
    error = await build_error(toml)
    assert "holds 63 bytes" in str(error)
    assert not (toml.parent / "d0.img").exists()


async def test_a_failed_build_keeps_a_file_that_was_there(toml):
    image = toml.parent / "d0.img"
    image.write_bytes(bytes(pattern(1 << 20)))
    (toml.parent / "k.key").unlink()
    await build_error(toml)
    assert image.read_bytes() == pattern(1 << 20)


async def test_a_file_in_use_by_another_stack_is_refused(toml):
    async with Stack.from_toml(toml):
        error = await build_error(toml)
        assert (error.errno, "in use" in str(error)) == (errno.EBUSY, True)


async def test_a_store_under_the_mount_point_is_refused(toml):
    with pytest.raises(SpecError, match="inside the mount point"):
        async with Stack.from_toml(toml, mount_point=toml.parent):
            pass
    assert not (toml.parent / "d0.img").exists()


async def test_a_path_the_host_cannot_take_is_refused_at_its_line(toml):
    toml.write_text(TOML.replace("file:d0.img", "file:d\\u0000.img"))
    assert (await build_error(toml)).line == 5


@pytest.mark.parametrize(
    ("data", "words"),
    [(None, "No such file"), (b"version = 1 # \xff", "not UTF-8"), (b"version =", ":1: ")],
)
def test_a_stack_file_that_cannot_be_read_is_refused(tmp_path, data, words):
    path = tmp_path / "stack.toml"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(SpecError, match=words):
        Stack.from_toml(path)


# Checking.


async def test_check_touches_neither_store_nor_key(toml):
    (toml.parent / "k.key").unlink()
    await Stack.from_toml(toml).check()
    assert list(toml.parent.iterdir()) == [toml]


async def test_check_finds_what_a_table_means(toml):
    toml.write_text(TOML.replace("linear d1 0", "linear d2 0"))
    with pytest.raises(SpecError, match=":18: .*d2"):
        await Stack.from_toml(toml).check()


async def test_a_stack_can_be_checked_while_it_is_up(toml):
    async with Stack.from_toml(toml):
        await Stack.from_toml(toml).check()


# Verbs.


async def unchanged(stack, number, call, *words) -> str:
    """The text of a refusal that changes nothing."""
    before = stack.spec(), open_files(), dict(stack.system.names.created)
    with pytest.raises(FusedmError) as caught:
        await call(*words)
    assert (stack.spec(), open_files(), dict(stack.system.names.created)) == before
    assert caught.value.errno == number
    return str(caught.value)


async def test_each_verb_refuses_whole(toml):
    async with Stack.from_toml(toml) as stack:
        disk = DiskSpec("n", 4096, "memory:")
        key = KeySpec("n", "AES-256-XTS", 4096, 8, "random")
        for number, call, spec in [
            (errno.EEXIST, stack.add_disk, replace(disk, name="v")),
            (errno.EINVAL, stack.add_disk, replace(disk, name="a/b")),
            (errno.EINVAL, stack.add_disk, replace(disk, size=None)),
            (errno.EINVAL, stack.add_disk, replace(disk, engine=EngineSpec(1025, 8, {}))),
            (errno.EINVAL, stack.add_disk, replace(disk, store="file:\0")),
            (errno.ENOENT, stack.add_disk, replace(disk, store="file:no/such")),
            (errno.EBUSY, stack.add_disk, replace(disk, store="file:d0.img")),
            (errno.EBUSY, stack.remove_disk, "d0"),
            (errno.ENXIO, stack.remove_disk, "upper"),
            (errno.EOPNOTSUPP, stack.lose_power, "d0"),
            (errno.EEXIST, stack.add_mapped, MapperSpec("d0", "0 8 zero")),
            (errno.EEXIST, stack.add_mapped, MapperSpec("n", "0 8 zero", "uuid-lower")),
            (errno.EINVAL, stack.add_mapped, MapperSpec("n", "0 8 none")),
            (errno.EEXIST, stack.add_key, replace(key, name="k")),
            (errno.EINVAL, stack.add_key, replace(key, mode="ROT-13")),
            (errno.ENOENT, stack.add_key, replace(key, source="file:no.key")),
            (errno.EBUSY, stack.remove_key, "k"),
            (errno.ENXIO, stack.remove_key, "n"),
            (errno.EEXIST, stack.add_view, ViewSpec("d0", "upper", "k")),
            (errno.ENXIO, stack.add_view, ViewSpec("n", "nobody", "k")),
            (errno.EINVAL, stack.add_view, ViewSpec("n", "upper", "k", 1 << 64)),
        ]:
            assert "\n" not in await unchanged(stack, number, call, spec)


async def test_what_is_added_can_be_removed(toml):
    async with Stack.from_toml(toml) as stack:
        before = stack.spec()
        await stack.add_disk(DiskSpec("n", 4096, "file:n.img"))
        await stack.add_mapped(MapperSpec("m", "0 8 linear n 0"))
        await stack.add_key(KeySpec("q", "AES-256-XTS", 512, 8, "random"))
        stack.add_view(ViewSpec("w", "m", "q"))
        await write_at(stack, "w", 0, DATA[:4096])
        stack.system.remove_view("w")
        stack.remove_key("q")
        stack.system.remove_mapped("m")
        await stack.remove_disk("n")
        assert stack.spec() == before
        assert not [path for path in open_files() if path.endswith("n.img")]


async def give(store, _):
    await trio.lowlevel.checkpoint()
    return store


async def test_of_two_disks_added_at_once_under_one_name_one_is_there_and_one_closed(toml):
    class Closing(MemoryStore):
        """Notes that it was closed."""

        closed = False

        def close(self):
            self.closed = True

    stores = [Closing(4096), Closing(4096)]
    waiting = iter(stores)
    refused = []
    async with Stack.from_toml(toml) as stack:

        async def add():
            try:
                await stack.add_disk(DiskSpec("n", 4096, "memory:"), partial(give, next(waiting)))
            except StackError as error:
                refused.append(error.errno)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(add)
            nursery.start_soon(add)
        assert refused == [errno.EEXIST]
        assert sorted(store.closed for store in stores) == [False, True]
        assert not stack.system.disks["n"].store.closed


async def test_a_disk_over_a_store_of_ones_own(toml):
    async with Stack.from_toml(toml) as stack:
        store = MemoryStore(8192)
        disk = await stack.add_disk(DiskSpec("n", 8192, "memory:"), partial(give, store))
        await write_at(stack, "n", 0, DATA)
        assert disk.store is store
        assert contents(store) == DATA


async def test_power_is_lost_on_a_volatile_disk(toml):
    async with Stack.from_toml(toml) as stack:
        await stack.add_disk(DiskSpec("n", 8192, "volatile:memory:"))
        await write_at(stack, "n", 0, DATA)
        await stack.lose_power("n", "nothing")
        assert await read_at(stack, "n", 0, 8192) == bytes(8192)


# Saving.


async def test_a_saved_stack_is_the_same_stack(toml, tmp_path):
    async with Stack.from_toml(toml) as stack:
        await write_at(stack, "v", 0, DATA)
        text = format_spec(stack.spec())
    saved = tmp_path / "elsewhere.toml"
    saved.write_text(text)
    async with Stack.from_toml(saved) as again:
        assert again.spec() == read_spec(saved)
        assert format_spec(again.spec()) == text
        assert await read_at(again, "v", 0, 8192) == DATA


async def test_a_spec_has_absolute_paths_and_the_live_tables(toml, tmp_path):
    async with Stack.from_toml(toml) as stack:
        stack.system.load("upper", "0 8 zero")
        spec = stack.spec()
        assert spec.disks["d0"].store == f"file:{tmp_path}/d0.img"
        assert spec.keys["k"].source == f"file:{tmp_path}/k.key"
        assert spec.mapper["upper"].table.split() == ["0", "2048", "linear", "lower", "0"]
        assert spec.mapper["lower"].uuid == "uuid-lower"
        await stack.system.mapped_device("upper").resume()
        assert stack.spec().mapper["upper"].table.split() == ["0", "8", "zero"]


async def test_a_read_only_table_and_one_that_is_not_there_are_saved(toml):
    async with Stack.from_toml(toml) as stack:
        await stack.add_mapped(MapperSpec("r", "0 8 zero", read_only=True))
        await stack.add_mapped(MapperSpec("e", ""))
        spec = parse_spec(format_spec(stack.spec()), "saved.toml")
        assert spec.mapper["r"].read_only
        assert spec.mapper["e"].table == ""


# Closing.


async def test_everything_is_closed_at_the_end_of_the_block(toml):
    before = open_files()
    with contextlib.suppress(ZeroDivisionError):
        async with Stack.from_toml(toml):
            assert len(open_files()) > len(before)
            raise ZeroDivisionError
    assert open_files() == before


async def test_errors_of_the_verbs_are_of_their_kind(toml):
    async with Stack.from_toml(toml) as stack:
        with pytest.raises(TableError):
            await stack.add_mapped(MapperSpec("n", "0 8"))
        with pytest.raises(StoreError):
            await stack.add_disk(DiskSpec("n", 511, "memory:"))

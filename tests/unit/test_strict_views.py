"""Strict mode, continued: errnos, zeros and the compiled loop, the switch, and the same bytes."""

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trio import run

from fusedm.block import (
    Bio,
    Op,
)
from fusedm.block.errors import BlockIOError, SpecError
from fusedm.control.commands import Commands
from fusedm.control.protocol import Request
from fusedm.crypto import start_using_key
from fusedm.files import device_file
from fusedm.files.handles import OpenDevice
from fusedm.files.holes import seek
from fusedm.stack import Stack, format_spec, parse_spec
from fusedm.system import System
from tests.helpers import reference_xts
from tests.helpers.builders import make_disk, make_key, medium, pattern, write
from tests.helpers.commands import TOML
from tests.helpers.lane_kernel import Kernel, done, running, written
from tests.helpers.strict import MIXED, both, failed, make_system

KEY = make_key("k", 4096)
TEXT = bytes(pattern(8 * 4096))


# Errnos and zeros.


@both
@pytest.mark.parametrize("op", [Op.WRITE, Op.DISCARD, Op.WRITE_ZEROES])
async def test_a_change_of_a_read_only_device_is_eio(strict, op):
    system = await make_system(strict)
    bio = Bio(op, 0, 8, memoryview(bytes(4096)) if op.has_data else memoryview(b""))
    number = errno.EIO if strict else errno.EROFS
    assert "on a read-only device" in await failed(number, system.disks["fixed"], bio)


async def view_of(strict):
    system = await make_system(strict)
    system.add_key(KEY)
    return system.add_view("v", "rich", "k")


@both
async def test_zeros_on_the_medium_read_as_noise_through_a_view(strict):
    view = await view_of(strict)
    noise = reference_xts.decrypt(bytes(KEY.raw), 4096, 0, bytes(4096))
    assert await device_file.read(view, 0, 4096) == (noise if strict else bytes(4096))


@both
async def test_a_hole_cannot_be_punched_through_a_view(strict):
    view = await view_of(strict)
    await device_file.write(view, 0, memoryview(TEXT))
    if not strict:
        await device_file.zero(view, 0, 8192, punch=True)
        return
    with pytest.raises(BlockIOError, match="a hole would read as noise") as caught:
        await device_file.zero(view, 0, 8192, punch=True)
    assert caught.value.errno == errno.EOPNOTSUPP
    assert await device_file.read(view, 0, len(TEXT)) == TEXT


@both
async def test_zeroing_through_a_view_writes_encrypted_zeros(strict):
    view = await view_of(strict)
    await device_file.write(view, 0, memoryview(TEXT))
    await device_file.zero(view, 100, 8192, punch=False)
    assert await device_file.read(view, 0, len(TEXT)) == TEXT[:100] + bytes(8192) + TEXT[8292:]
    encrypted = reference_xts.encrypt(bytes(KEY.raw), 4096, 1, bytes(4096))
    assert medium(view.device, 8, 4096) == (encrypted if strict else bytes(4096))


async def test_nothing_is_a_hole_to_a_view_and_all_else_is_as_ever():
    view = await view_of(strict=True)
    assert await seek(view, 5000, for_data=True) == 5000
    assert await seek(view, 0, for_data=False) == view.size
    with pytest.raises(BlockIOError, match="past the end"):
        await seek(view, view.size, for_data=True)


# The compiled loop.


async def test_the_compiled_loop_decrypts_zeros_and_keeps_to_what_is_native():
    kernel = Kernel()
    key = kernel.system.keys["k"]
    system = System(strict=True)
    system.add_disk(make_disk("rich", slots=2))
    system.add_disk(make_disk("poor"))
    for name, table in (("all", "0 64 linear rich 0"), ("some", MIXED)):
        system.add_mapped(name)
        system.load(name, table)
        await system.resume(name)
    system.add_key(key)
    try:
        for handle, name in ((20, "all"), (21, "some")):
            kernel.handles[handle] = OpenDevice(system.add_view(f"v{name}", name, "k"), False)
        async with running(kernel):
            for unique in (1, 2):
                kernel.write(20, unique, 0, TEXT[:4096])
                assert await kernel.reply() == written(unique, 4096)
            noise = reference_xts.decrypt(bytes(key.raw), 4096, 1, bytes(4096))
            kernel.read(20, 3, 0, 8192)
            assert await kernel.reply() == done(3, TEXT[:4096] + noise)
            assert kernel.handles[20].spans[0].path is not None
            for unique in (4, 5):
                kernel.write(21, unique, 0, TEXT[:4096])
                assert await kernel.reply() == written(unique, 4096)
            assert all(stretch.path is None for stretch in kernel.handles[21].spans)
            assert system.device("some").fallback.is_ready(key)
    finally:
        kernel.close()


# The switch.


async def test_a_stack_file_says_strict_and_so_do_status_and_save(tmp_path):
    text = TOML.replace("version = 1", 'version = 1\nstrict = "linux"')
    async with Stack(parse_spec(text, "s.toml"), tmp_path) as stack:
        assert stack.system.strict
        assert stack.system.disks["d0"].strict
        assert stack.system.device("dm0").strict
        assert 'version = 1\nstrict = "linux"\n' in format_spec(stack.spec())
        commands = Commands(stack, tmp_path, lambda: None)
        assert (await commands.dispatch(Request("status", {})))["strict"] == "linux"
    async with Stack(parse_spec(TOML, "s.toml"), tmp_path) as stack:
        assert not stack.system.strict
        commands = Commands(stack, tmp_path, lambda: None)
        assert (await commands.dispatch(Request("status", {})))["strict"] is None


def test_another_model_is_refused_with_its_line():
    with pytest.raises(SpecError, match="s.toml:2: strict: 'bsd' is not 'linux'"):
        parse_spec('version = 1\nstrict = "bsd"\n', "s.toml")


# The bytes.


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from(["rich", "less", "poor"]), min_size=1, max_size=3),
    st.lists(
        st.tuples(st.sampled_from([512, 4096]), st.floats(0, 1), st.integers(1, 24)), max_size=8
    ),
)
def test_the_medium_is_the_same_with_and_without_strict(legs, writes):
    async def media(strict):
        lines = [f"{at * 40} 40 linear {leg} {at * 40}" for at, leg in enumerate(legs)]
        system = await make_system(strict, dm0="\n".join(lines))
        device = system.device("dm0")
        for number, (unit, where, count) in enumerate(writes):
            key = make_key(f"k{unit}", unit)
            start_using_key(device, key)
            sectors = min(count * unit // 512, len(legs) * 40 // (unit // 512) * (unit // 512))
            sector = int(where * (len(legs) * 40 - sectors))
            await write(device, sector, bytes(pattern(sectors * 512, number)), key, number)
        return [medium(disk) for disk in system.disks.values()]

    async def main():
        assert await media(True) == await media(False)

    run(main)

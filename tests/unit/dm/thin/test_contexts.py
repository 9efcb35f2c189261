"""Contexts through thin devices: as on a medium, wherever the data lie."""

import pytest

from fusedm.block import Bio, Capabilities, CryptContext, CryptoConfig, CryptoKey, KeyType
from fusedm.block.errors import BlockIOError
from fusedm.crypto import InlineEngine, start_using_key, submit_bio
from fusedm.crypto.ciphers import make_cipher
from tests.helpers.builders import MODE, make_disk, make_key, medium, pattern, read, write
from tests.helpers.thin_stack import BLOCK, BLOCK_BYTES, Stack

NEW = bytes(pattern(2 * BLOCK_BYTES, 7))
KEY = make_key(unit=4096)


def ciphertext(data: bytes, dun: int = 0) -> bytes:
    out = memoryview(bytearray(data))
    make_cipher(KEY).encrypt(dun, out, out)
    return bytes(out)


async def stack_of(slots: int | None, strict: bool = False) -> tuple[Stack, object]:
    stack = Stack(data=make_disk("data", 16 * BLOCK, slots=slots), strict=strict)
    if strict:
        stack.data.become_strict()
    thin = await (await stack.make()).thin(0)
    start_using_key(thin, KEY)
    return stack, thin


@pytest.mark.parametrize("slots", [None, 2])
async def test_a_block_that_is_written_under_a_key_is_ciphertext_and_the_rest_zeros(slots):
    stack, thin = await stack_of(slots)
    await write(thin, 8, NEW[:8192], KEY, 5)
    assert medium(stack.data, 8, 8192) == ciphertext(NEW[:8192], 5)
    assert medium(stack.data, 24, BLOCK_BYTES - 24 * 512) == bytes(BLOCK_BYTES - 24 * 512)
    assert await read(thin, 8, 8192, KEY, 5) == NEW[:8192]
    await stack.end()


async def test_the_metadata_device_is_not_asked_what_it_can_encrypt():
    stack, thin = await stack_of(2)
    assert stack.meta.capabilities != stack.data.capabilities
    assert thin.capabilities == stack.pool.capabilities == stack.data.capabilities
    await stack.end()


@pytest.mark.parametrize("slots", [None, 2])
async def test_what_was_never_written_is_zeros_decrypted(slots):
    stack, thin = await stack_of(slots)
    found = await read(thin, 0, 8192, KEY, 9)
    assert ciphertext(found, 9) == bytes(8192)
    data = bytearray(8192)
    crypt = CryptContext(KEY, 9, zeros_are_holes=True)
    await submit_bio(thin, Bio.read(0, memoryview(data), crypt))
    assert data == bytes(8192)
    # It is the same once there is a block of zeros.
    await write(thin, 64, NEW[:512])
    assert await read(thin, 0, 8192, KEY, 9) == found
    await stack.end()


async def test_in_strict_mode_it_is_zeros_as_in_the_kernel():
    stack, thin = await stack_of(2, strict=True)
    assert await read(thin, 0, 8192, KEY, 9) == bytes(8192)
    await stack.end()


async def test_what_is_shared_is_copied_as_it_is_without_a_key():
    stack, thin = await stack_of(2)
    await write(thin, 0, NEW[:BLOCK_BYTES], KEY, 0)
    await stack.say("create_snap 1 0")
    snap = await stack.thin(1, new=False)
    programs = stack.data.engine_stats.ios[1]
    await write(snap, 16, NEW[-4096:], KEY, 2)
    # One bio was encrypted; what it does not cover went as it was.
    assert stack.data.engine_stats.ios[1] == programs + 1
    start_using_key(snap, KEY)
    want = NEW[:8192] + NEW[-4096:] + NEW[12288:BLOCK_BYTES]
    assert await read(snap, 0, BLOCK_BYTES, KEY, 0) == want
    assert await read(thin, 0, BLOCK_BYTES, KEY, 0) == NEW[:BLOCK_BYTES]
    await stack.end()


async def test_a_data_unit_that_a_block_cuts_is_transformed_above():
    stack, thin = await stack_of(2)
    await write(thin, BLOCK - 4, NEW[:4096], KEY, 3)
    assert await read(thin, BLOCK - 4, 4096, KEY, 3) == NEW[:4096]
    assert await read(thin, BLOCK - 4, 4096) == ciphertext(NEW[:4096], 3)
    await stack.end()


async def test_an_external_origin_is_read_under_the_same_contexts():
    stack = Stack(data=make_disk("data", 16 * BLOCK, slots=2))
    stack.devices["base"] = base = make_disk("base", 2 * BLOCK - 8)
    start_using_key(base, KEY)
    await write(base, 0, NEW[:-4096], KEY, 0)
    thin = await (await stack.make()).thin(0, 4 * BLOCK, "base")
    start_using_key(thin, KEY)
    assert await read(thin, 0, len(NEW) - 4096, KEY, 0) == NEW[:-4096]
    whole = await read(thin, 0, len(NEW), KEY, 0)
    assert whole[:-4096] == NEW[:-4096]
    assert ciphertext(whole)[-4096:] == bytes(4096)
    await write(thin, 8, NEW[:4096], KEY, 1)
    assert (await read(thin, 0, len(NEW) - 4096, KEY, 0))[4096:] == NEW[:4096] + NEW[8192:-4096]
    await stack.end()


async def test_a_wrapped_key_is_for_the_engine_of_the_data_and_no_other():
    stack = Stack()
    data = stack.data
    stack.devices["base"] = make_disk("base", 4 * BLOCK)
    data.engine = InlineEngine(Capabilities.of({MODE: [4096]}, 8, [KeyType.HW_WRAPPED]), 1)
    manager = data.engine.key_manager
    thin = await (await stack.make()).thin(0)
    config = CryptoConfig(MODE, 4096, 8, KeyType.HW_WRAPPED)
    key = CryptoKey("w", config, manager.prepare_key(manager.generate_key()))
    start_using_key(thin, key)
    await write(thin, 0, NEW[:4096], key)
    assert await read(thin, 0, 4096, key) == NEW[:4096]
    assert await read(thin, 2 * BLOCK, 4096, key) == bytes(4096)
    # With an origin, too: it is read where nothing was written, if it can.
    await stack.say("create_thin 1")
    await stack.load(thin, f"0 {4 * BLOCK} thin pool 1 base")
    with pytest.raises(BlockIOError):
        await read(thin, 0, 4096, key)
    await stack.end()

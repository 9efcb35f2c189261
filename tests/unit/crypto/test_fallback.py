"""The software path of one device."""

import errno
from dataclasses import replace

import pytest

from fusedm.block import Bio
from fusedm.block.errors import BlockIOError, KeyBusy
from fusedm.block.plan import Completed, SoftwareCrypt
from fusedm.crypto import Fallback
from fusedm.crypto.fallback import FALLBACK_KEYSLOTS
from tests.helpers.builders import MODE, make_key, prime, read_bio, write_bio

KEY = make_key()


def started():
    fallback = Fallback("d0")
    fallback.start(MODE)
    return fallback


def test_a_write_goes_on_without_context_from_a_buffer_of_its_own():
    below = []
    bio = write_bio(4, bytes(1024), KEY, 9)
    node = started().plan(bio, (), lambda clear: below.append(clear) or Completed(clear))
    assert below == [replace(Bio.write(4, node.bounce), is_encrypted=True)]
    assert isinstance(node, SoftwareCrypt)
    assert node.bounce is not bio.data
    assert node.bio is bio


def test_a_read_is_filled_and_decrypted_in_place():
    bio, _ = read_bio(4, 1024, KEY, 9)
    node = started().plan(bio, (), Completed)
    assert node.bounce is bio.data
    assert node.child.bio.crypt is None


def test_a_mode_that_was_never_started_fails_the_bio():
    with pytest.raises(BlockIOError, match="d0: AES-256-XTS used before start_using_key") as caught:
        Fallback("d0").plan(write_bio(0, bytes(512), KEY), (), Completed)
    assert caught.value.errno == errno.EIO


async def test_a_key_is_ready_once_programmed_until_evicted():
    fallback = started()
    assert not fallback.is_ready(KEY)
    await prime(fallback, KEY)
    assert fallback.is_ready(KEY)
    fallback.take_now(KEY).release()
    fallback.evict(KEY)
    assert not fallback.is_ready(KEY)


async def test_a_key_in_use_is_busy():
    fallback = started()
    hold = await fallback.take(KEY)
    with pytest.raises(KeyBusy):
        fallback.check_evictable(KEY)
    hold.release()
    fallback.check_evictable(KEY)


async def test_it_has_as_many_keyslots_as_the_kernels():
    fallback, keys = started(), [make_key(str(index)) for index in range(FALLBACK_KEYSLOTS + 1)]
    for key in keys:
        await prime(fallback, key)
    assert [fallback.is_ready(key) for key in keys] == [False] + [True] * FALLBACK_KEYSLOTS

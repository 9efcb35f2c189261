"""Configs, keys, contexts and the arithmetic of data unit numbers."""

import errno

import pytest

from fusedm.block.crypt_ctx import (
    MODES,
    CryptContext,
    CryptoConfig,
    CryptoKey,
    check_data_unit_size,
    check_dun_range,
    dun_limit,
)
from fusedm.block.errors import CryptoError
from tests.helpers.builders import MODE, make_key


def test_the_modes_have_the_kernels_names_and_sizes():
    assert {mode.name: (mode.key_size, mode.iv_size) for mode in MODES.values()} == {
        "AES-256-XTS": (64, 16),
        "AES-128-CBC-ESSIV": (16, 16),
        "Adiantum": (32, 32),
        "SM4-XTS": (32, 16),
    }
    assert all(name == mode.name for name, mode in MODES.items())


def test_the_modes_have_the_kernels_security_strengths():
    assert {mode.name: mode.security_strength for mode in MODES.values()} == {
        "AES-256-XTS": 32,
        "AES-128-CBC-ESSIV": 16,
        "Adiantum": 32,
        "SM4-XTS": 16,
    }


def test_an_unknown_mode_is_refused_with_the_known_ones():
    with pytest.raises(CryptoError) as caught:
        CryptoConfig("AES-0", 512, 8)
    assert str(caught.value) == (
        "mode 'AES-0' is unknown: the modes are AES-256-XTS, AES-128-CBC-ESSIV, Adiantum, SM4-XTS"
    )


@pytest.mark.parametrize("dun_bytes", [-1, 0, 17])
def test_dun_bytes_outside_the_iv_are_refused(dun_bytes):
    with pytest.raises(CryptoError, match=rf"dun_bytes {dun_bytes} is not in 1..16") as caught:
        CryptoConfig(MODE, 512, dun_bytes)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_may_have_as_many_dun_bytes_as_its_iv(mode):
    size = MODES[mode].iv_size
    assert dun_limit(CryptoConfig(mode, 512, size)) == 1 << 8 * size
    text = rf"dun_bytes {size + 1} is not in 1..{size} \(IV size of {mode}\)"
    with pytest.raises(CryptoError, match=text):
        CryptoConfig(mode, 512, size + 1)


@pytest.mark.parametrize("size", [-512, 0, 1, 256, 513, 768, 131072])
def test_a_data_unit_size_out_of_line_is_refused(size):
    with pytest.raises(CryptoError, match=f"data_unit_size {size} is not a power of two in 512.."):
        CryptoConfig(MODE, size, 8)


@pytest.mark.parametrize("size", [512, 1024, 4096, 65536])
def test_kernel_data_unit_sizes_are_accepted(size):
    check_data_unit_size(size)
    assert CryptoConfig(MODE, size, 16).data_unit_size == size


def test_a_config_prints_as_mode_and_unit():
    assert str(CryptoConfig(MODE, 4096, 8)) == "AES-256-XTS/4096"


@pytest.mark.parametrize("length", [0, 32, 63, 65])
def test_a_key_of_the_wrong_size_names_both_sizes(length):
    config = CryptoConfig(MODE, 512, 8)
    with pytest.raises(CryptoError, match=f"key 'k': {length} bytes given, .* needs 64"):
        CryptoKey("k", config, bytes(length))


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_has_keys_of_its_size_only(mode):
    config, size = CryptoConfig(mode, 512, 8), MODES[mode].key_size
    assert len(CryptoKey("k", config, bytes(size)).raw) == size
    with pytest.raises(CryptoError, match=f"{size - 1} bytes given, {mode} needs {size}"):
        CryptoKey("k", config, bytes(size - 1))


@pytest.mark.parametrize("mode", ["AES-256-XTS", "SM4-XTS"])
def test_the_strength_of_a_key_is_not_checked_when_it_is_made(mode):
    size = MODES[mode].key_size
    assert bytes(CryptoKey("k", CryptoConfig(mode, 512, 8), bytes(size)).raw) == bytes(size)


def test_a_key_owns_a_copy_of_its_bytes():
    raw = bytearray(range(64))
    key = CryptoKey("k", CryptoConfig(MODE, 512, 8), raw)
    raw[0] = 99
    assert key.raw[0] == 0


def test_key_bytes_cannot_be_written():
    with pytest.raises(TypeError):
        make_key().raw[0] = 1


def test_a_wiped_key_is_zeros_also_for_those_who_look_at_it_already():
    key = make_key()
    looking = key.raw
    key.wipe()
    assert bytes(looking) == bytes(64)


def test_keys_with_equal_bytes_are_different_keys():
    assert make_key("a") != make_key("a")


def test_a_key_never_prints_its_bytes():
    key = make_key("alice")
    assert repr(key) == "CryptoKey('alice', AES-256-XTS/512)"
    assert bytes(key.raw).hex()[:8] not in repr(key) + str(key)


def test_advancing_counts_whole_data_units():
    key = make_key(unit=4096)
    assert CryptContext(key, 5).advance(3 * 4096) == CryptContext(key, 8)


def test_advancing_by_part_of_a_data_unit_is_a_bug():
    with pytest.raises(AssertionError, match="512 is not a multiple of 4096"):
        CryptContext(make_key(unit=4096), 5).advance(512)


def test_advancing_carries_out_of_64_bits():
    context = CryptContext(make_key(dun_bytes=16), (1 << 64) - 1)
    assert context.advance(512).dun == 1 << 64


def test_the_next_dun_under_the_same_key_follows():
    key = make_key()
    assert CryptContext(key, 5).is_followed_by(1024, CryptContext(key, 7))


def test_what_does_not_follow():
    key, twin = make_key(), make_key()
    context = CryptContext(key, 5)
    assert not context.is_followed_by(1024, None)
    assert not context.is_followed_by(1024, CryptContext(twin, 7))
    assert not context.is_followed_by(1024, CryptContext(key, 6))
    assert not context.is_followed_by(1000, CryptContext(key, 6))


@pytest.mark.parametrize("bits", [64, 128, 192])
def test_a_dun_that_carries_into_the_next_limb_follows(bits):
    key = make_key(dun_bytes=32, mode="Adiantum")
    context = CryptContext(key, (1 << bits) - 1)
    assert context.is_followed_by(512, CryptContext(key, 1 << bits))
    assert not context.is_followed_by(512, CryptContext(key, 0))


def test_a_run_that_wraps_through_zero_does_not_follow():
    key = make_key(dun_bytes=32, mode="Adiantum")
    assert not CryptContext(key, (1 << 256) - 1).is_followed_by(512, CryptContext(key, 0))


@pytest.mark.parametrize("bits", [64, 128, 192])
def test_advancing_carries_through_32_bytes(bits):
    key = make_key(dun_bytes=32, mode="Adiantum")
    assert CryptContext(key, (1 << bits) - 1).advance(1024).dun == (1 << bits) + 1


def test_32_bytes_of_dun_have_an_end():
    last = (1 << 256) - 1
    context = CryptContext(make_key(dun_bytes=32, mode="Adiantum"), last)
    assert check_dun_range(context, 512) is None
    assert check_dun_range(context, 1024) == (
        f"data unit numbers {last}..{last + 1} do not fit 32 DUN bytes"
    )


@pytest.mark.parametrize("zeros_are_holes", [False, True])
def test_what_zeros_mean_is_carried_on(zeros_are_holes):
    context = CryptContext(make_key(), 5, zeros_are_holes)
    assert context.advance(1024).zeros_are_holes is zeros_are_holes
    assert context.is_followed_by(1024, context.advance(1024))


@pytest.mark.parametrize("zeros_are_holes", [False, True])
def test_a_context_to_which_zeros_mean_something_else_does_not_follow(zeros_are_holes):
    key = make_key()
    other = CryptContext(key, 7, not zeros_are_holes)
    assert not CryptContext(key, 5, zeros_are_holes).is_followed_by(1024, other)


def test_zeros_are_data_unless_a_context_says_otherwise():
    assert not CryptContext(make_key(), 5).zeros_are_holes


@pytest.mark.parametrize(("dun_bytes", "limit"), [(1, 256), (4, 1 << 32), (16, 1 << 128)])
def test_the_dun_limit_is_where_the_bytes_end(dun_bytes, limit):
    assert dun_limit(make_key(dun_bytes=dun_bytes).config) == limit


@pytest.mark.parametrize(("dun", "units"), [(0, 256), (255, 1), (254, 2), (255, 0)])
def test_duns_that_fit_are_fine(dun, units):
    assert check_dun_range(CryptContext(make_key(dun_bytes=1), dun), units * 512) is None


@pytest.mark.parametrize(("dun", "units", "last"), [(-1, 1, -1), (0, 257, 256), (255, 2, 256)])
def test_duns_that_do_not_fit_are_named(dun, units, last):
    problem = check_dun_range(CryptContext(make_key(dun_bytes=1), dun), units * 512)
    assert problem == f"data unit numbers {dun}..{last} do not fit 1 DUN bytes"

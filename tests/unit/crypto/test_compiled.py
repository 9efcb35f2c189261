"""What compiled ciphers take and refuse, many threads on one, and what becomes of their keys."""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from threading import Barrier

import pytest

from fusedm.block import MODES
from fusedm.block.errors import CryptoError
from fusedm.crypto import CompiledCipher, EvpCipher, libcrypto_version
from fusedm.crypto.adiantum import Adiantum, AdiantumSectors
from fusedm.crypto.compiled import has_zero_unit, is_zero_unit
from fusedm.crypto.evp import EVP_MODES, EvpSectors
from tests.helpers.builders import pattern

XTS = "AES-256-XTS"

every_mode = pytest.mark.parametrize("mode", MODES)


def make(mode: str, unit: int = 512, seed: int = 0) -> CompiledCipher:
    """A cipher for data units, of a key that is made of a seed."""
    key = bytes(pattern(MODES[mode].key_size, seed))
    return Adiantum(key, unit) if mode == "Adiantum" else EvpCipher(mode, key, unit)


def through(
    transform: Callable[[int, memoryview, memoryview], None], dun: int, data: bytes
) -> bytes:
    """What becomes of data."""
    result = memoryview(bytearray(len(data)))
    transform(dun, memoryview(data), result)
    return bytes(result)


def test_the_modes_are_those_of_libcrypto_and_adiantum() -> None:
    assert set(MODES) == {*EVP_MODES, "Adiantum"}


def test_the_library_tells_its_version() -> None:
    assert libcrypto_version().startswith("OpenSSL ")


def test_zeros_decrypt_to_the_derived_noise() -> None:
    """Not to zeros: that a data unit of zeros is a hole is a view's word, not the cipher's."""
    noise = through(EvpCipher(XTS, bytes(range(64)), 512).decrypt, 1000, bytes(512))
    wanted = "aa4b41a9b07a96d9da4d2baa69b349d1fbfcd923fd59ffd272f33b69e4fc0458"
    assert hashlib.sha256(noise).hexdigest() == wanted


@every_mode
def test_a_dun_that_is_no_iv_is_a_bug(mode: str) -> None:
    for dun in (-1, 1 << 8 * MODES[mode].iv_size):
        with pytest.raises(OverflowError):
            through(make(mode).encrypt, dun, bytes(512))


@every_mode
def test_no_data_is_fine(mode: str) -> None:
    assert through(make(mode).encrypt, 5, b"") == b""


@every_mode
def test_read_only_keys_and_data_are_taken_and_the_unit_is_told(mode: str) -> None:
    key = memoryview(bytes(pattern(MODES[mode].key_size)))
    kind = type(make(mode))
    cipher = kind(key, 1024) if kind is Adiantum else EvpCipher(mode, key, 1024)
    assert through(cipher.encrypt, 1, bytes(1024)) == through(
        make(mode, 1024).encrypt, 1, bytes(1024)
    )
    assert (cipher.data_unit_size, cipher.keeps_zeros) == (1024, False)


# Refusals.


@pytest.mark.parametrize("mode", EVP_MODES)
@pytest.mark.parametrize("off", [-1, 1, None])
def test_a_key_of_the_wrong_size_names_both_sizes(mode: str, off: int | None) -> None:
    wanted = MODES[mode].key_size
    size = 0 if off is None else wanted + off
    with pytest.raises(CryptoError, match=f"^{size} bytes of key, {mode} needs {wanted}$"):
        EvpCipher(mode, bytes(size), 512)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_of_the_wrong_size_for_adiantum_names_both_sizes(size: int) -> None:
    with pytest.raises(CryptoError, match=f"^{size} bytes of key, Adiantum needs 32$"):
        Adiantum(bytes(size), 512)


@pytest.mark.parametrize("size", [0, 15, 33])
def test_a_key_that_is_none_of_the_block_cipher_is_refused(size: int) -> None:
    with pytest.raises(CryptoError, match=f"^{size} bytes are no key of AES$"):
        EvpSectors("cbc", [memoryview(bytes(size))], "plain", [], 512, False, False)


def test_a_mode_it_does_not_know_is_refused_with_those_it_knows() -> None:
    with pytest.raises(CryptoError, match="^AES-0 is none of AES-128-CBC-ESSIV, AES-256-XTS, SM4-"):
        EvpCipher("AES-0", bytes(64), 512)


@every_mode
@pytest.mark.parametrize("unit", [0, 1, 8, 511, 520])
def test_a_unit_that_is_no_whole_number_of_blocks_is_refused(mode: str, unit: int) -> None:
    with pytest.raises(CryptoError, match=f"^data_unit_size {unit} is not a multiple of 16$"):
        make(mode, unit)


@every_mode
@pytest.mark.parametrize(("source", "target"), [(511, 511), (1024, 512), (512, 1024), (1, 0)])
def test_lengths_that_do_not_fit_are_refused_with_numbers_and_change_nothing(
    mode: str, source: int, target: int
) -> None:
    cipher, into = make(mode), bytearray(b"\xee" * target)
    for transform in (cipher.encrypt, cipher.decrypt):
        with pytest.raises(CryptoError, match=f"^{source} bytes into {target}, data units of 512$"):
            transform(0, memoryview(bytes(source)), memoryview(into))
    assert into == b"\xee" * target


def test_a_target_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(BufferError):
        make(XTS).encrypt(0, memoryview(bytes(512)), memoryview(bytes(512)))


@every_mode
def test_a_cipher_is_given_its_key_once(mode: str) -> None:
    cipher = make(mode)
    words = [] if isinstance(cipher, Adiantum) else [mode]
    with pytest.raises(TypeError, match="once"):
        type(cipher).__init__(cipher, *words, bytes(MODES[mode].key_size), 512)


@pytest.mark.parametrize("kind", [CompiledCipher, EvpCipher, EvpSectors, Adiantum, AdiantumSectors])
def test_a_cipher_without_a_key_transforms_nothing(kind: type[CompiledCipher]) -> None:
    cipher = kind.__new__(kind)
    with pytest.raises(TypeError, match="no key"):
        cipher.encrypt(0, memoryview(bytes(512)), memoryview(bytearray(512)))


# Many at once.


@every_mode
def test_more_threads_than_a_pool_keeps_contexts_for_get_right_results(mode: str) -> None:
    """All begin at once, in both directions: contexts are copied, given back, taken and freed."""
    unit, size, threads = 4096, 1 << 16, 24
    plain = [bytes(pattern(size, seed)) for seed in range(threads)]
    wanted = [through(make(mode, unit).encrypt, dun, data) for dun, data in enumerate(plain)]
    begin = Barrier(threads)

    def work(cipher: CompiledCipher, thread: int) -> bool:
        begin.wait()
        return all(
            through(cipher.encrypt, thread, plain[thread]) == wanted[thread]
            and through(cipher.decrypt, thread, wanted[thread]) == plain[thread]
            for _ in range(3)
        )

    with ThreadPoolExecutor(threads) as pool:
        for _ in range(4):
            cipher = make(mode, unit)
            assert all(pool.map(work, [cipher] * threads, range(threads)))


# Zeros.


@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 512, 4096])
def test_zeros_are_known_and_any_bit_is_seen(length: int) -> None:
    data = bytearray(length)
    assert is_zero_unit(memoryview(data))
    for at in {0, 1, length // 2, length - 1} & set(range(length)):
        data[at] = 0x80
        assert not is_zero_unit(memoryview(data)), f"byte {at}"
        data[at] = 0


def test_no_data_are_no_zeros() -> None:
    assert not is_zero_unit(memoryview(b""))
    assert not has_zero_unit(memoryview(b""), 512)


@pytest.mark.parametrize("holes", list(product([False, True], repeat=4)))
def test_a_unit_of_zeros_is_found_wherever_it_is(holes: tuple[bool, ...]) -> None:
    data = b"".join(bytes(512) if hole else b"\1" + bytes(511) for hole in holes)
    assert has_zero_unit(memoryview(data), 512) is any(holes)


def test_zeros_that_lie_across_two_units_are_no_unit() -> None:
    data = b"x" + bytes(1022) + b"x"
    assert not has_zero_unit(memoryview(data), 512)


def test_zeros_that_fill_less_than_a_unit_at_the_end_are_no_unit() -> None:
    assert not has_zero_unit(memoryview(b"x" * 512 + bytes(511)), 512)

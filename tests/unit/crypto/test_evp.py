"""The engine's compiled ciphers against published vectors, the references and the software."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from threading import Barrier
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusedm.block import CryptoConfig, CryptoKey
from fusedm.block.errors import CryptoError
from fusedm.crypto import EvpCipher, libcrypto_version
from fusedm.crypto.ciphers import ENGINE, SOFTWARE, UNITS_ON_THE_SPOT, make_cipher
from fusedm.crypto.compiled import has_zero_unit, is_zero_unit
from fusedm.crypto.evp import EVP_MODES
from tests.helpers import reference_essiv, reference_xts
from tests.helpers.builders import make_key, pattern

XTS, ESSIV = "AES-256-XTS", "AES-128-CBC-ESSIV"
KEY_SIZES = {XTS: 64, ESSIV: 16}
REFERENCES: dict[str, ModuleType] = {XTS: reference_xts, ESSIV: reference_essiv}
UNITS = [512 << shift for shift in range(8)]

VECTORS = Path(__file__).parents[2] / "vectors"
XTS_VECTORS = json.loads((VECTORS / "aes_256_xts.json").read_text())
ESSIV_VECTORS = json.loads((VECTORS / "aes_128_cbc_essiv.json").read_text())
OFFICIAL = [(XTS, v) for v in XTS_VECTORS["official"]] + [
    (ESSIV, v) for v in ESSIV_VECTORS["official"]
]
DERIVED = [(XTS, v) for v in XTS_VECTORS["derived"]] + [
    (ESSIV, v) for v in ESSIV_VECTORS["derived"]
]


def name_of(parameter: str | dict[str, str]) -> str:
    return parameter if isinstance(parameter, str) else parameter["name"]


every_mode = pytest.mark.parametrize("mode", [XTS, ESSIV])
every_unit = pytest.mark.parametrize("unit", UNITS)


def raw_key(mode: str, seed: int = 0) -> bytes:
    return bytes(pattern(KEY_SIZES[mode], seed))


def encrypt(cipher: EvpCipher, dun: int, data: bytes) -> bytes:
    result = memoryview(bytearray(len(data)))
    cipher.encrypt(dun, memoryview(data), result)
    return bytes(result)


def decrypt(cipher: EvpCipher, dun: int, data: bytes) -> bytes:
    result = memoryview(bytearray(len(data)))
    cipher.decrypt(dun, memoryview(data), result)
    return bytes(result)


def test_the_modes_are_those_tested_here() -> None:
    assert {XTS, ESSIV} == EVP_MODES


def test_the_library_tells_its_version() -> None:
    assert libcrypto_version().startswith("OpenSSL ")


# Against vectors and references.


@pytest.mark.parametrize(("mode", "vector"), OFFICIAL, ids=name_of)
def test_cipher_and_reference_give_published_ciphertexts(mode: str, vector: dict[str, str]) -> None:
    key, iv, plain, secret = (
        bytes.fromhex(vector[name]) for name in ("key", "iv", "plaintext", "ciphertext")
    )
    dun, unit = int.from_bytes(iv, "little"), len(plain)
    cipher = EvpCipher(mode, key, unit)
    assert REFERENCES[mode].encrypt(key, unit, dun, plain) == secret
    assert REFERENCES[mode].decrypt(key, unit, dun, secret) == plain
    assert encrypt(cipher, dun, plain) == secret
    assert decrypt(cipher, dun, secret) == plain


@pytest.mark.parametrize(("mode", "vector"), DERIVED, ids=name_of)
def test_the_cipher_gives_the_derived_ciphertexts(mode: str, vector: dict[str, int]) -> None:
    data = bytes((7 * index + 3) % 256 for index in range(vector["length"]))
    key, unit = bytes(range(KEY_SIZES[mode])), vector["data_unit_size"]
    secret = encrypt(EvpCipher(mode, key, unit), vector["dun"], data)
    assert hashlib.sha256(secret).hexdigest() == vector["sha256"]
    assert REFERENCES[mode].encrypt(key, unit, vector["dun"], data) == secret


def test_zeros_decrypt_to_the_derived_noise() -> None:
    """Not to zeros: that a data unit of zeros is a hole is a view's word, not the cipher's."""
    noise = decrypt(EvpCipher(XTS, bytes(range(64)), 512), 1000, bytes(512))
    wanted = "aa4b41a9b07a96d9da4d2baa69b349d1fbfcd923fd59ffd272f33b69e4fc0458"
    assert hashlib.sha256(noise).hexdigest() == wanted


@every_mode
@every_unit
@pytest.mark.parametrize("count", [1, 3])
def test_every_unit_size_agrees_with_the_reference_both_ways(
    mode: str, unit: int, count: int
) -> None:
    key, data, dun = raw_key(mode), bytes(pattern(unit * count, unit)), 1 << 40
    cipher = EvpCipher(mode, key, unit)
    secret = encrypt(cipher, dun, data)
    assert secret == REFERENCES[mode].encrypt(key, unit, dun, data)
    assert decrypt(cipher, dun, secret) == data
    assert cipher.data_unit_size == unit


@every_mode
@pytest.mark.parametrize("dun", [(1 << 64) - 1, (1 << 64) - 3, 1 << 64, (1 << 128) - 4])
def test_the_dun_carries_into_its_upper_half(mode: str, dun: int) -> None:
    key, data = raw_key(mode), bytes(pattern(4 * 512))
    secret = encrypt(EvpCipher(mode, key, 512), dun, data)
    assert secret == REFERENCES[mode].encrypt(key, 512, dun, data)
    assert decrypt(EvpCipher(mode, key, 512), dun, secret) == data


@every_mode
@pytest.mark.parametrize("dun", [-1, 1 << 128])
def test_a_dun_that_is_no_iv_is_a_bug(mode: str, dun: int) -> None:
    with pytest.raises(OverflowError):
        encrypt(EvpCipher(mode, raw_key(mode), 512), dun, bytes(512))


# Buffers.


@every_mode
def test_transforming_in_place_is_the_same(mode: str) -> None:
    cipher, data = EvpCipher(mode, raw_key(mode), 512), bytes(pattern(1536))
    buffer = memoryview(bytearray(data))
    cipher.encrypt(7, buffer, buffer)
    assert bytes(buffer) == encrypt(cipher, 7, data)
    cipher.decrypt(7, buffer, buffer)
    assert bytes(buffer) == data


@every_mode
def test_the_source_and_what_surrounds_the_target_are_left_alone(mode: str) -> None:
    cipher, source = EvpCipher(mode, raw_key(mode), 512), bytearray(pattern(1024))
    around = bytearray(b"\xee" * 1034)
    cipher.encrypt(0, memoryview(source), memoryview(around)[5:-5])
    assert source == pattern(1024)
    assert (around[:5], around[-5:]) == (b"\xee" * 5, b"\xee" * 5)
    secret = bytes(around[5:-5])
    cipher.decrypt(0, memoryview(around)[5:-5], memoryview(source))
    assert around[5:-5] == secret


@every_mode
def test_no_data_is_fine(mode: str) -> None:
    assert encrypt(EvpCipher(mode, raw_key(mode), 512), 5, b"") == b""


@every_mode
def test_read_only_keys_and_data_are_taken(mode: str) -> None:
    key, data = memoryview(raw_key(mode)), bytes(pattern(512))
    assert encrypt(EvpCipher(mode, key, 512), 1, data) == REFERENCES[mode].encrypt(
        bytes(key), 512, 1, data
    )


# Refusals.


@every_mode
@pytest.mark.parametrize("off", [-1, 1, None])
def test_a_key_of_the_wrong_size_names_both_sizes(mode: str, off: int | None) -> None:
    size = 0 if off is None else KEY_SIZES[mode] + off
    with pytest.raises(CryptoError, match=f"^{size} bytes of key, {mode} needs {KEY_SIZES[mode]}$"):
        EvpCipher(mode, bytes(size), 512)


def test_a_mode_it_does_not_know_is_refused_with_those_it_knows() -> None:
    with pytest.raises(CryptoError, match="^AES-0 is none of AES-128-CBC-ESSIV, AES-256-XTS$"):
        EvpCipher("AES-0", bytes(64), 512)


@every_mode
@pytest.mark.parametrize("unit", [0, 1, 8, 511, 520])
def test_a_unit_that_is_no_whole_number_of_blocks_is_refused(mode: str, unit: int) -> None:
    with pytest.raises(CryptoError, match=f"^data_unit_size {unit} is not a multiple of 16$"):
        EvpCipher(mode, raw_key(mode), unit)


@every_mode
@pytest.mark.parametrize(("source", "target"), [(511, 511), (1024, 512), (512, 1024), (1, 0)])
def test_lengths_that_do_not_fit_are_refused_with_numbers_and_change_nothing(
    mode: str, source: int, target: int
) -> None:
    cipher, into = EvpCipher(mode, raw_key(mode), 512), bytearray(b"\xee" * target)
    for transform in (cipher.encrypt, cipher.decrypt):
        with pytest.raises(CryptoError, match=f"^{source} bytes into {target}, data units of 512$"):
            transform(0, memoryview(bytes(source)), memoryview(into))
    assert into == b"\xee" * target


def test_a_key_with_equal_halves_is_refused_without_its_bytes() -> None:
    with pytest.raises(CryptoError, match="^libcrypto refuses this key for AES-256-XTS$"):
        EvpCipher(XTS, b"\xab" * 64, 512)
    key = CryptoKey("weak", CryptoConfig(XTS, 512, 8), b"\xab" * 64)
    with pytest.raises(CryptoError, match="^key 'weak': the two halves of an XTS key") as caught:
        ENGINE.make(key)
    assert "abab" not in str(caught.value)


def test_a_cipher_outlives_the_wiping_of_its_key() -> None:
    key, data = make_key(), bytes(pattern(512))
    cipher, wanted = ENGINE.make(key), encrypt(make_cipher(key), 3, data)
    key.wipe()
    assert encrypt(cipher, 3, data) == wanted


def test_the_engines_ciphers_are_compiled_and_the_softwares_are_not() -> None:
    key = make_key()
    assert isinstance(ENGINE.make(key), EvpCipher)
    assert not isinstance(SOFTWARE.make(key), EvpCipher)
    many = (UNITS_ON_THE_SPOT[XTS] + 1) * 512
    assert (ENGINE.is_slow(key, many), SOFTWARE.is_slow(key, many)) == (False, True)
    assert not SOFTWARE.is_slow(key, many - 512)


# Many at once.


@every_mode
def test_many_threads_on_one_cipher_get_right_results(mode: str) -> None:
    """All begin at once, in both directions: contexts are copied, given back and taken again."""
    key, unit, size, threads = raw_key(mode), 4096, 1 << 19, 8
    plain = [bytes(pattern(size, seed)) for seed in range(threads)]
    wanted = [encrypt(EvpCipher(mode, key, unit), dun, data) for dun, data in enumerate(plain)]
    begin = Barrier(threads)

    def work(cipher: EvpCipher, thread: int) -> bool:
        begin.wait()
        return all(
            encrypt(cipher, thread, plain[thread]) == wanted[thread]
            and decrypt(cipher, thread, wanted[thread]) == plain[thread]
            for _ in range(2)
        )

    with ThreadPoolExecutor(threads) as pool:
        for _ in range(5):
            cipher = EvpCipher(mode, key, unit)
            assert all(pool.map(work, [cipher] * threads, range(threads)))


@settings(max_examples=80)
@given(
    unit=st.sampled_from(UNITS[:5]),
    count=st.integers(1, 5),
    dun=st.integers(0, (1 << 64) + 5) | st.integers((1 << 64) - 5, (1 << 64) + 5),
    seed=st.integers(0, 1 << 32),
)
def test_engine_and_software_check_each_other(unit: int, count: int, dun: int, seed: int) -> None:
    config = CryptoConfig(XTS, unit, 16)
    key, data = CryptoKey("k", config, pattern(64, seed)), bytes(pattern(unit * count, seed + 1))
    engine, software = ENGINE.make(key), SOFTWARE.make(key)
    secret = encrypt(engine, dun, data)
    assert encrypt(software, dun, data) == secret
    assert decrypt(software, dun, secret) == decrypt(engine, dun, secret) == data


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

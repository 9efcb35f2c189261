"""The cipher of each mode against published vectors and its reference."""

import errno
import hashlib
import json
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusedm.block import MODES, CryptoConfig, CryptoKey
from fusedm.block.errors import CryptoError
from fusedm.crypto.adiantum import use_code_for_any_processor
from fusedm.crypto.ciphers import make_cipher, make_software
from fusedm.crypto.evp import EVP_MODES
from tests.helpers.builders import make_key, pattern
from tests.helpers.references import REFERENCES

UNIT_SIZES = [1 << shift for shift in range(9, 17)]
XTS_MODES = ["AES-256-XTS", "SM4-XTS"]
MANY = 40


def vectors(kind):
    """(mode, vector) for each vector of a kind in tests/vectors."""
    found = []
    for mode in MODES:
        name = mode.lower().replace("-", "_") + ".json"
        text = (Path(__file__).parents[2] / "vectors" / name).read_text()
        for vector in json.loads(text)[kind]:
            found.append(pytest.param(mode, vector, id=f"{mode}: {vector['name']}"))
    return found


def published(vector):
    """Key, DUN, plaintext and ciphertext of an official vector."""
    key, iv, plaintext, ciphertext = (
        bytes.fromhex(vector[name]) for name in ("key", "iv", "plaintext", "ciphertext")
    )
    return key, int.from_bytes(iv, "little"), plaintext, ciphertext


def is_in_scope(vector):
    """Not: less than two blocks, part of a block."""
    _, _, plaintext, _ = published(vector)
    return len(plaintext) >= 32 and len(plaintext) % 16 == 0


def short_units(mode, size):
    """A config whose data units may be shorter than any device's, as in most vectors."""
    config = CryptoConfig(mode, 512, MODES[mode].iv_size)
    object.__setattr__(config, "data_unit_size", size)
    return config


def encrypt(key, dun, data):
    result = memoryview(bytearray(len(data)))
    make_cipher(key).encrypt(dun, memoryview(data), result)
    return bytes(result)


def decrypt(key, dun, data):
    result = memoryview(bytearray(len(data)))
    make_cipher(key).decrypt(dun, memoryview(data), result)
    return bytes(result)


every_mode = pytest.mark.parametrize("mode", MODES)


@pytest.mark.parametrize(("mode", "vector"), vectors("official"))
def test_the_reference_gives_published_ciphertexts(mode, vector):
    key, dun, plaintext, ciphertext = published(vector)
    assert REFERENCES[mode].encrypt(key, len(plaintext), dun, plaintext) == ciphertext
    assert REFERENCES[mode].decrypt(key, len(plaintext), dun, ciphertext) == plaintext


@pytest.mark.parametrize(
    ("mode", "vector"), [case for case in vectors("official") if is_in_scope(case.values[1])]
)
def test_the_cipher_gives_published_ciphertexts(mode, vector):
    raw, dun, plaintext, ciphertext = published(vector)
    cipher = make_software(CryptoKey("published", short_units(mode, len(plaintext)), raw))
    result = memoryview(bytearray(plaintext))
    cipher.encrypt(dun, result, result)
    assert bytes(result) == ciphertext
    cipher.decrypt(dun, result, result)
    assert bytes(result) == plaintext


@pytest.mark.parametrize(("mode", "vector"), vectors("derived"))
def test_cipher_and_reference_give_the_derived_ciphertexts(mode, vector):
    data = bytes((7 * index + 3) % 256 for index in range(vector["length"]))
    raw, unit = bytes(range(MODES[mode].key_size)), vector["data_unit_size"]
    config = CryptoConfig(mode, unit, MODES[mode].iv_size)
    ours = encrypt(CryptoKey("k", config, raw), vector["dun"], data)
    assert hashlib.sha256(ours).hexdigest() == vector["sha256"]
    assert REFERENCES[mode].encrypt(raw, unit, vector["dun"], data) == ours


@every_mode
@given(data=st.data())
def test_cipher_and_reference_agree(mode, data):
    config = CryptoConfig(mode, data.draw(st.sampled_from([512, 1024])), MODES[mode].iv_size)
    raw = data.draw(st.binary(min_size=config.key_size, max_size=config.key_size))
    # Its reference takes a millisecond for a block.
    unit_count = data.draw(st.sampled_from([1, 2] if mode == "Adiantum" else [1, 2, 3, MANY]))
    limit = 1 << 8 * config.dun_bytes
    near = st.sampled_from([1 << 32, 1 << 64, 1 << 127, limit - MANY])
    dun = data.draw(st.integers(0, limit - MANY) | near.map(lambda dun: dun - 1))
    text = data.draw(st.randoms(use_true_random=False)).randbytes(
        unit_count * config.data_unit_size
    )
    key = CryptoKey("k", config, distinct_halves(raw))
    ours = encrypt(key, dun, text)
    reference = REFERENCES[mode]
    assert ours == reference.encrypt(bytes(key.raw), config.data_unit_size, dun, text)
    assert decrypt(key, dun, text) == reference.decrypt(
        bytes(key.raw), config.data_unit_size, dun, text
    )


def distinct_halves(raw):
    """Key bytes that no mode refuses."""
    half = len(raw) // 2
    return raw[:-1] + bytes([raw[-1] ^ 1]) if raw[:half] == raw[half:] else raw


@every_mode
@pytest.mark.parametrize("unit", UNIT_SIZES)
def test_every_unit_size_is_encrypted_as_the_reference_does(mode, unit):
    key, text = make_key(unit=unit, mode=mode), bytes(pattern(unit * (2 if unit <= 4096 else 1)))
    want = REFERENCES[mode].encrypt(bytes(key.raw), unit, 77, text)
    assert encrypt(key, 77, text) == want
    assert decrypt(key, 77, want) == text


@every_mode
@pytest.mark.parametrize(("unit", "count"), [(512, MANY), (4096, 67), (65536, 5)])
def test_many_units_in_a_call_are_the_same_as_a_call_for_each(mode, unit, count):
    key, text = make_key(unit=unit, mode=mode), bytes(pattern(unit * count))
    units = [text[at : at + unit] for at in range(0, len(text), unit)]
    one_by_one = b"".join(encrypt(key, 9 + index, part) for index, part in enumerate(units))
    assert encrypt(key, 9, text) == one_by_one
    assert decrypt(key, 9, one_by_one) == text


@every_mode
@pytest.mark.parametrize("bits", [64, 128, 192])
def test_duns_carry_into_the_next_limb(mode, bits):
    if bits >= 8 * MODES[mode].iv_size:
        bits = 8 * MODES[mode].iv_size - 8
    key = make_key(dun_bytes=MODES[mode].iv_size, mode=mode)
    text, first = bytes(pattern(512 * MANY)), (1 << bits) - 30
    ours = encrypt(key, first, text)
    at = 512 * 28
    want = REFERENCES[mode].encrypt(bytes(key.raw), 512, first + 28, text[at : at + 4 * 512])
    assert ours[at : at + 4 * 512] == want
    assert decrypt(key, first, ours) == text


@every_mode
def test_the_last_dun_is_used_whole(mode):
    key = make_key(dun_bytes=MODES[mode].iv_size, mode=mode)
    text, last = bytes(pattern(512)), (1 << 8 * MODES[mode].iv_size) - 1
    assert encrypt(key, last, text) == REFERENCES[mode].encrypt(bytes(key.raw), 512, last, text)


@every_mode
@pytest.mark.parametrize("count", [3, MANY])
def test_transforming_in_place_is_the_same(mode, count):
    key, data = make_key(mode=mode), pattern(512 * count)
    buffer = memoryview(bytearray(data))
    make_cipher(key).encrypt(7, buffer, buffer)
    assert bytes(buffer) == encrypt(key, 7, data)
    make_cipher(key).decrypt(7, buffer, buffer)
    assert bytes(buffer) == data


@every_mode
@pytest.mark.parametrize("count", [3, MANY])
def test_buffers_may_lie_anywhere_and_nothing_else_is_touched(mode, count):
    key, size = make_key(mode=mode), 512 * count
    data = bytes(pattern(size + 9))
    result = bytearray(b"\xee" * (size + 9))
    target = memoryview(result)[3 : size + 3]
    make_cipher(key).encrypt(7, memoryview(data)[5 : size + 5], target)
    assert target == encrypt(key, 7, data[5 : size + 5])
    make_cipher(key).decrypt(7, target, target)
    assert result == b"\xee" * 3 + data[5 : size + 5] + b"\xee" * 6


@every_mode
@pytest.mark.parametrize("count", [3, MANY])
def test_the_source_is_left_alone(mode, count):
    data = pattern(512 * count)
    before = bytes(data)
    encrypt(make_key(mode=mode), 0, data)
    decrypt(make_key(mode=mode), 0, data)
    assert data == before


@every_mode
def test_threads_may_use_one_cipher_at_once(mode):
    key, rounds = make_key(unit=4096, mode=mode), 12
    cipher = make_cipher(key)
    texts = [pattern(64 << 10, seed) for seed in range(4)]
    want = [encrypt(key, 16 * seed, text) for seed, text in enumerate(texts)]
    wrong = []

    def work(seed):
        result = memoryview(bytearray(64 << 10))
        for _ in range(rounds):
            cipher.encrypt(16 * seed, memoryview(texts[seed]), result)
            ciphertext = bytes(result)
            cipher.decrypt(16 * seed, result, result)
            if ciphertext != want[seed] or result != texts[seed]:
                wrong.append(seed)
        done.append(seed)

    done: list[int] = []
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (wrong, sorted(done)) == ([], [0, 1, 2, 3])


@pytest.mark.parametrize("mode", XTS_MODES)
def test_a_key_with_equal_halves_is_refused_without_its_bytes(mode):
    size = MODES[mode].key_size
    key = CryptoKey("weak", CryptoConfig(mode, 512, 8), b"\xab" * size)
    with pytest.raises(CryptoError) as caught:
        make_cipher(key)
    assert str(caught.value) == (
        "key 'weak': the two halves of an XTS key are equal, which gives its tweak away; "
        f"use {size} random bytes"
    )


@pytest.mark.parametrize("mode", XTS_MODES)
def test_a_wiped_key_makes_no_cipher(mode):
    key = make_key(mode=mode)
    key.wipe()
    with pytest.raises(CryptoError):
        make_cipher(key)


@every_mode
def test_a_cipher_outlives_the_wiping_of_its_key(mode):
    key, data = make_key(mode=mode), pattern(512 * MANY)
    cipher, want = make_cipher(key), encrypt(key, 3, data)
    key.wipe()
    result = memoryview(bytearray(len(data)))
    cipher.encrypt(3, memoryview(data), result)
    assert result == want


def test_a_block_cipher_that_the_library_lacks_is_named_by_its_mode(monkeypatch):
    monkeypatch.setitem(EVP_MODES, "SM4-XTS", ("SM5", "xts", 32))
    with pytest.raises(CryptoError) as caught:
        make_cipher(make_key("alice", mode="SM4-XTS"))
    assert str(caught.value) == (
        "key 'alice': SM4-XTS cannot be done here: OpenSSL was built without SM5-ECB"
    )
    assert caught.value.errno == errno.ENOPKG


def test_every_mode_has_a_reference():
    assert set(MODES) == set(REFERENCES)


@pytest.mark.parametrize("mode", XTS_MODES)
def test_hardware_takes_a_key_of_equal_halves(mode):
    key = CryptoKey("weak", CryptoConfig(mode, 512, 8), b"\xab" * MODES[mode].key_size)
    text = bytes(pattern(3 * 512))
    result = memoryview(bytearray(text))
    cipher = make_cipher(key, takes_weak_keys=True)
    cipher.encrypt(7, result, result)
    assert bytes(result) == REFERENCES[mode].encrypt(bytes(key.raw), 512, 7, text)
    cipher.decrypt(7, result, result)
    assert bytes(result) == text


@pytest.mark.parametrize("unit", [32, 48, 512, 528, 1024, 1040, 4096])
def test_adiantum_is_the_same_without_what_this_processor_has_beyond_others(unit):
    key = CryptoKey("k", short_units("Adiantum", unit), bytes(pattern(32)))
    text, made = bytes(pattern(3 * unit)), []
    for for_any in (True, False):
        use_code_for_any_processor(for_any)
        made.append(encrypt(key, 1 << 80, text))
        assert decrypt(key, 1 << 80, made[-1]) == text
    assert made[0] == made[1] == REFERENCES["Adiantum"].encrypt(bytes(key.raw), unit, 1 << 80, text)

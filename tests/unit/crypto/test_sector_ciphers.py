"""dm-crypt's ciphers against known answers and against their definitions."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusedm.block.errors import CryptoError
from fusedm.crypto import make_sector_cipher, parse_cipher_spec
from tests.helpers import reference_adiantum, reference_dm_crypt

IVS = ("plain", "plain64", "plain64be", "essiv:sha256", "essiv:md5", "benbi", "null", "eboiv")
CIPHERS = [f"aes-{chain}-{iv}" for chain in ("cbc", "xts") for iv in IVS] + ["aes-ecb"]
CIPHERS += [
    f"xchacha12,aes-adiantum-{iv}" for iv in ("plain", "plain64", "plain64be", "benbi", "null")
]
CIPHERS += ["xchacha20,aes-adiantum-plain64", "xchacha20,aes:2-adiantum-plain64be"]
WITH_KEYS = [*CIPHERS, "aes:4-cbc-essiv:sha256", "aes:2-xts-eboiv", "aes:64-ecb", "aes:8-cbc-null"]
WRAP = (1 << 64) - 9

#: The first 16 bytes of ciphertext: key 00..1f, sector 0x0102030405, 512 bytes of 7 * i + 3.
KNOWN_SECTOR = 0x0102030405
KNOWN = {
    "plain": "bd180336249bfd7841213e7a26f6e3fd",
    "plain64": "7ceb024c2bbf1f1d9f31dce17b06dc98",
    "plain64be": "32a34762577ff81e56e1b83f5fb3fb28",
    "essiv:sha256": "f392e189ed3207358926ae5afe4b9141",
    "benbi": "64d417ce677441ab08e582612ebef896",
    "null": "ae5bf9ddaad53f23deb4efae9db72462",
    "eboiv": "31bc12e5aa9560064547354545f3a9a6",
}


def pattern(length: int) -> bytes:
    return bytes((7 * index + 3) % 256 for index in range(length))


def key_for(cipher: str, which: int = -1) -> bytes:
    sizes = parse_cipher_spec(cipher).key_sizes
    size = sizes[min(which, len(sizes) - 1)]
    return bytes((index * 89 + 7) % 256 for index in range(size))


def encrypt(cipher: str, key: bytes, sector: int, data: bytes, size: int, large: bool) -> bytes:
    made = make_sector_cipher(parse_cipher_spec(cipher), memoryview(key), size, large)
    result = bytearray(len(data))
    made.encrypt(sector, memoryview(data), memoryview(result))
    return bytes(result)


def decrypt(cipher: str, key: bytes, sector: int, data: bytes, size: int, large: bool) -> bytes:
    made = make_sector_cipher(parse_cipher_spec(cipher), memoryview(key), size, large)
    result = bytearray(data)
    made.decrypt(sector, memoryview(result), memoryview(result))
    return bytes(result)


@pytest.mark.parametrize(("iv", "start"), KNOWN.items())
def test_known_answers_of_every_iv_mode(iv, start):
    key = bytes(range(32))
    data = encrypt(f"aes-cbc-{iv}", key, KNOWN_SECTOR, pattern(512), 512, False)
    assert data[:16].hex() == start
    assert data == reference_dm_crypt.encrypt(f"aes-cbc-{iv}", key, KNOWN_SECTOR, pattern(512))


#: Adiantum with XChaCha20 and no tweak, from github.com/google/adiantum, "Random ( 1)": key,
#: plaintext, ciphertext. The kernel's vectors of XChaCha12 are in tests/vectors.
XCHACHA20 = [
    (
        "7fc7152ae1f5fda4176769aec92bba82a314e7cfadfd8540da7b7d24bdf17d07",
        "9be382c65ac19fad4659b80bacc857a0",
        "8899bb928f2bf9264eafdee237d431aa",
    ),
    (
        "4260244fcf1dc13d3132cb3fb7a49c7b88e575bd726d052a6a5cd7264ad24a7a",
        "7912c8f77406549a2d23df49a163046a3f7990b3da30b94395043a8a8fba19",
        "ac39a4c2b4dec2399a825ff4d079c4386ab3d87a6979839a3332be807b2263",
    ),
]


@pytest.mark.parametrize(("key", "plain", "coded"), XCHACHA20)
def test_the_reference_of_adiantum_with_twenty_rounds_gives_known_answers(key, plain, coded):
    found = reference_adiantum.one_unit(
        bytes.fromhex(key), b"", bytes.fromhex(plain), True, rounds=20
    )
    assert found.hex() == coded


@pytest.mark.parametrize("cipher", WITH_KEYS)
@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("sector", [1000, WRAP], ids=["thousand", "wrap"])
@pytest.mark.parametrize(("size", "large"), [(512, False), (4096, False), (4096, True)])
def test_every_cipher_is_as_its_definition(cipher, which, sector, size, large):
    key, data = key_for(cipher, which), pattern(2 * size)
    if size > 512:
        sector = sector // 8 * 8
    wanted = reference_dm_crypt.encrypt(cipher, key, sector, data, size, large)
    assert encrypt(cipher, key, sector, data, size, large) == wanted
    assert decrypt(cipher, key, sector, wanted, size, large) == data


@pytest.mark.parametrize("cipher", ["aes-xts-plain64", "aes-cbc-essiv:sha256", "aes:4-xts-plain"])
def test_what_is_longer_than_a_batch_is_as_its_definition(cipher):
    key, data = key_for(cipher), pattern((128 << 10) + 1536)
    wanted = reference_dm_crypt.encrypt(cipher, key, 7, data)
    assert encrypt(cipher, key, 7, data, 512, False) == wanted
    assert decrypt(cipher, key, 7, wanted, 512, False) == data


@settings(max_examples=25)
@given(
    cipher=st.sampled_from(WITH_KEYS),
    sector=st.integers(0, (1 << 64) - 1),
    size=st.sampled_from([512, 1024, 2048, 4096]),
    large=st.booleans(),
    count=st.integers(1, 9),
)
def test_sectors_may_be_encrypted_together_or_one_by_one(cipher, sector, size, large, count):
    key, data = key_for(cipher), pattern(count * size)
    alone = b"".join(
        encrypt(cipher, key, sector + at // 512, data[at : at + size], size, large)
        for at in range(0, len(data), size)
    )
    assert encrypt(cipher, key, sector, data, size, large) == alone


@pytest.mark.parametrize("cipher", WITH_KEYS)
def test_encrypting_leaves_the_source_as_it_is_and_may_be_done_in_place(cipher):
    key, source = key_for(cipher), bytearray(pattern(2048))
    made = make_sector_cipher(parse_cipher_spec(cipher), memoryview(key), 512, False)
    target = bytearray(2048)
    made.encrypt(3, memoryview(source).toreadonly(), memoryview(target))
    assert source == pattern(2048)
    made.encrypt(3, memoryview(source), memoryview(source))
    assert source == target


def test_an_xts_key_of_equal_halves_is_taken_as_the_kernel_takes_it():
    key, data = bytes(range(32)) * 2, pattern(1024)
    wanted = reference_dm_crypt.encrypt("aes-xts-plain64", key, 5, data)
    assert encrypt("aes-xts-plain64", key, 5, data, 512, False) == wanted


@pytest.mark.parametrize("size", [0, 16, 63, 65, 128])
def test_a_key_of_another_size_is_refused_with_both_numbers(size):
    says = f"^{size} bytes of key given, the cipher needs 32, 48, 64$"
    with pytest.raises(CryptoError, match=says):
        make_sector_cipher(parse_cipher_spec("aes-xts-plain64"), memoryview(bytes(size)), 512, True)


def test_only_long_transforms_of_adiantum_are_slow():
    for cipher, is_slow in (("aes-cbc-plain", False), ("xchacha20,aes-adiantum-plain64", True)):
        made = make_sector_cipher(
            parse_cipher_spec(cipher), memoryview(key_for(cipher)), 4096, False
        )
        assert not made.is_slow(256 << 10)
        assert made.is_slow((256 << 10) + 4096) == is_slow


@pytest.mark.parametrize("cipher", ["aes-xts-plain64", "xchacha12,aes-adiantum-plain64"])
@pytest.mark.parametrize("size", [512, 4096])
def test_a_sector_of_zeros_is_kept_where_that_is_asked_for(cipher, size):
    """Not where it is not; and the sectors around it have the numbers they would have."""
    key, sector = key_for(cipher), 1 << 40
    data = pattern(size) + bytes(size) + pattern(2 * size)
    made = make_sector_cipher(parse_cipher_spec(cipher), memoryview(key), size, False, True)
    result = bytearray(data)
    made.decrypt(sector, memoryview(result), memoryview(result))
    wanted = decrypt(cipher, key, sector, data, size, False)
    assert wanted[size : 2 * size] != bytes(size)
    assert result == wanted[:size] + bytes(size) + wanted[2 * size :]

"""Keys of the lines of crypt and its relatives."""

import errno

import pytest

from fusedm.block.errors import CryptoError, TableError
from fusedm.dm import parse_table
from fusedm.dm.crypt_lines import TargetKey, make_key
from fusedm.dm.key_rings import announced_keys, read_keys, wipe_keys
from fusedm.dm.table import key_references
from fusedm.tables import CRYPT_KEY, read_key_word, read_lines
from tests.helpers.devices import RecordingDevice, lookup_in
from tests.helpers.keyring import Keyring

RAW = bytes(range(7, 71))


@pytest.fixture
def keyring():
    ring = Keyring()
    yield ring
    ring.revoke_all()


def read(word: str) -> TargetKey:
    """The key of a word, with what the keyrings hold."""
    read_key_word(CRYPT_KEY, word)
    return make_key(word, read_keys([word] if word.startswith(":") else []))


def refused(word: str) -> CryptoError:
    with pytest.raises(CryptoError) as caught:
        read(word)
    return caught.value


@pytest.mark.parametrize("word", [RAW.hex(), RAW.hex().upper()])
def test_a_key_is_written_in_hexadecimal(word):
    key = read(word)
    assert bytes(key.raw) == RAW
    assert (key.word(), key.masked_word()) == (RAW.hex(), "0" * 128)


def test_a_dash_is_no_key():
    key = read("-")
    assert (len(key.raw), key.word(), key.masked_word()) == (0, "-", "-")


def test_a_user_key_of_the_keyring_is_read_and_shown_by_its_name(keyring):
    keyring.add(b"user", b"fusedm-test:crypt:a", RAW)
    word = ":64:user:fusedm-test:crypt:a"
    key = read(word)
    assert bytes(key.raw) == RAW
    assert (key.word(), key.masked_word()) == (word, word)


@pytest.mark.parametrize(("size", "says"), [(63, "has more than 63 bytes"), (65, "has 64 bytes")])
def test_a_user_key_of_another_size_is_refused(keyring, size, says):
    keyring.add(b"user", b"fusedm-test:crypt:b", RAW)
    error = refused(f":{size}:user:fusedm-test:crypt:b")
    assert str(error) == f"key 'fusedm-test:crypt:b' {says}, the line says {size}"
    assert error.errno == errno.EINVAL


@pytest.mark.parametrize("kind", ["logon", "encrypted", "trusted"])
def test_a_key_that_only_the_kernel_can_read_is_enokey_and_says_so(kind):
    error = refused(f":64:{kind}:fusedm-test:crypt:c")
    assert str(error) == f"key: a {kind} key can be read by the kernel only"
    assert error.errno == errno.ENOKEY


def test_a_user_key_that_is_a_logon_key_is_enokey_and_says_so(keyring):
    keyring.add(b"logon", b"fusedm-test:crypt:d", RAW)
    error = refused(":64:user:fusedm-test:crypt:d")
    assert "it is a logon key, which user space cannot read" in str(error)
    assert error.errno == errno.ENOKEY


def test_a_user_key_that_is_not_there_is_enokey(keyring):
    keyring.add(b"user", b"fusedm-test:crypt:e", RAW)
    assert refused(":64:user:fusedm-test:crypt:none").errno == errno.ENOKEY


@pytest.mark.parametrize(
    ("word", "says"),
    [
        (":64:user", "is named :size:type:description"),
        (":x:user:a", "the size in :size:type:description is not a number of bytes"),
        (":64:user:", "is named :size:type:description"),
        (":64:user:a b", "the description in :size:type:description has a blank"),
        (":0:user:a", "the size in :size:type:description is not a number of bytes"),
        (":4097:user:a", "4097 bytes is more than 4096"),
        (":64:asymmetric:a", "the type in :size:type:description is not one of user, logon, "),
        ("00", "the key is all zeros"),
        ("", "0 digits: a byte is two of them"),
        ("a", "1 digits: a byte is two of them"),
        ("zz", "character 1 of 2 is not a hexadecimal digit"),
    ],
)
def test_a_word_that_is_no_key_is_refused(word, says):
    error = refused(word)
    assert says in str(error)
    assert error.errno == errno.EINVAL


@pytest.mark.parametrize(("word", "size"), [("-", 0), ("ab", 1), ("abc", 1), (":64:user:a", 64)])
def test_a_word_announces_how_many_bytes_it_has(word, size):
    assert read_key_word(CRYPT_KEY, word) == size


def test_a_key_is_equal_to_one_of_the_same_bytes_and_place_and_shows_none_of_them():
    assert read(RAW.hex()) == TargetKey(RAW)
    assert read(RAW.hex()) != TargetKey(RAW, ":64:user:a")
    assert TargetKey(RAW) != RAW.hex()
    assert repr(TargetKey(RAW)) == "TargetKey(64 bytes)"


def test_a_wiped_key_is_zeros():
    key = TargetKey(RAW, ":64:user:a")
    key.wipe()
    assert key.word() == "0" * 128


def test_a_parser_asks_no_keyring(keyring):
    keyring.add(b"user", b"fusedm-test:crypt:f", RAW)
    with pytest.raises(CryptoError, match="'fusedm-test:crypt:f' has not been read") as caught:
        make_key(":64:user:fusedm-test:crypt:f", {})
    assert caught.value.errno == errno.ENOKEY


def test_what_a_table_names_in_keyrings_is_known_before_it_is_parsed():
    table = """
    0 8 crypt aes-xts-plain64 :64:user:a 0 d0 0
    # 8 8 crypt aes-xts-plain64 :64:user:commented 0 d0 0
    8 8 crypt aes-cbc-plain64 :32:user:b 0 d0 0
    16 8 crypt aes-cbc-plain64 00112233445566778899aabbccddeeff 0 d0 0
    24 8 linear d0 0
    """
    assert key_references(read_lines(table)) == [":64:user:a", ":32:user:b"]


def test_a_key_that_was_not_there_is_refused_as_the_argument_it_is():
    line = "0 8 crypt aes-xts-plain64 :64:user:fusedm-test:crypt:h 0 d0 0"
    text = "^table line 1: crypt: argument 2: key: key 'fusedm-test:crypt:h' has not been read$"
    with pytest.raises(TableError, match=text) as caught:
        parse_table(line, lookup_in(RecordingDevice("d0", 64)), lambda: 0.0)
    assert caught.value.errno == errno.ENOKEY


def test_a_key_of_chance_stands_for_one_that_is_not_to_be_read():
    ring = announced_keys([":64:user:fusedm-test:crypt:none"])
    assert [(word, len(key)) for word, key in ring.items()] == [
        (":64:user:fusedm-test:crypt:none", 64)
    ]


def test_what_was_read_is_overwritten_when_it_is_of_no_more_use(keyring):
    keyring.add(b"user", b"fusedm-test:crypt:g", RAW)
    words = [":64:user:fusedm-test:crypt:g", ":64:user:fusedm-test:crypt:none"]
    ring = read_keys(words)
    key = make_key(words[0], ring)
    wipe_keys(ring)
    assert ring[words[0]] == bytearray(64)
    assert bytes(key.raw) == RAW

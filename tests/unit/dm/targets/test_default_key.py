"""What is special to default-key; the rest is in tests/contracts/test_every_target.py."""

from dataclasses import replace

import pytest

from fusedm.block import FLUSH, Bio, CryptContext, Op
from fusedm.block.crypt_ctx import KeyType
from fusedm.block.errors import StackError, Status, TableError
from fusedm.dm import Fail, Remap, parse_table
from fusedm.dm.targets.default_key import DefaultKey
from tests.helpers.builders import make_key
from tests.helpers.devices import RecordingDevice, lookup_in

XTS = "aes-xts-plain64"
ADIANTUM = "xchacha12,aes-adiantum-plain64"
KEY = bytes(range(1, 65)).hex()
LARGE = "2 sector_size:4096 iv_large_sectors"
DISCARD = Bio(Op.DISCARD, 8, 8)
D0 = RecordingDevice("d0", 4096)


def make(
    options: str = "", iv_offset: int = 0, cipher: str = XTS, key: str = KEY, length: int = 1024
) -> DefaultKey:
    text = f"0 {length} default-key {cipher} {key} {iv_offset} d0 16 {options}"
    target = parse_table(text, lookup_in(D0), lambda: 0.0).entries[0].target
    assert isinstance(target, DefaultKey)
    return target


@pytest.mark.parametrize("op", [Op.READ, Op.WRITE])
def test_data_without_a_context_go_down_with_the_default_key(op):
    target = make(LARGE, 80)
    bio = Bio(op, 16, 8, memoryview(bytearray(4096)))
    wanted = replace(bio.remap(32), crypt=CryptContext(target.crypto_key, 12))
    assert target.map(bio) == Remap(D0, wanted)


def test_a_bio_with_a_context_of_its_own_keeps_it():
    bio = Bio.read(3, memoryview(bytearray(512)), CryptContext(make_key(), 7))
    assert make(LARGE).map(bio) == Remap(D0, bio.remap(19))


def test_what_was_encrypted_above_is_not_encrypted_again():
    bio = Bio.read(3, memoryview(bytearray(512))).with_data(memoryview(bytearray(512)))
    assert make().map(bio) == Remap(D0, bio.remap(19))


@pytest.mark.parametrize(("sector", "count"), [(4, 8), (8, 4)])
def test_a_part_of_a_data_unit_is_an_error(sector, count):
    bio = Bio.read(sector, memoryview(bytearray(count * 512)))
    assert make(LARGE).map(bio) == Fail(Status.IOERR)


def test_what_has_no_data_goes_down_without_a_context():
    assert make().map(FLUSH) == Remap(D0, FLUSH)
    assert make("1 allow_discards").map(DISCARD) == Remap(D0, DISCARD.remap(24))


@pytest.mark.parametrize(
    ("cipher", "key", "options", "mode", "kind"),
    [
        (XTS, KEY, "", "AES-256-XTS", KeyType.RAW),
        (ADIANTUM, KEY[:64], "", "Adiantum", KeyType.RAW),
        (XTS, KEY * 2, "1 wrappedkey_v0", "AES-256-XTS", KeyType.HW_WRAPPED),
    ],
)
def test_the_cipher_and_the_kind_of_key_are_those_of_the_line(cipher, key, options, mode, kind):
    config = make(options, cipher=cipher, key=key).crypto_key.config
    assert (config.mode, config.key_type) == (mode, kind)


def test_the_printed_table_has_a_dash_for_the_key_and_the_shown_one_loads_back():
    target = make("4 wrappedkey_v0 iv_large_sectors sector_size:1024 allow_discards")
    rest = ["4", "allow_discards", "sector_size:1024", "iv_large_sectors", "wrappedkey_v0"]
    assert target.params() == [XTS, "-", "0", D0, "16", *rest]
    assert target.key_params() == [XTS, KEY, "0", D0, "16", *rest]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"cipher": "aes-cbc-plain64"}, "argument 1: cipher: 'aes-cbc-plain64' is not one of "),
        ({"options": "1 sector_size:4096"}, "sector_size 4096 needs iv_large_sectors"),
        ({"key": "-"}, "key: '-' stands where a key was printed and left out"),
        ({"cipher": ADIANTUM}, f"key: 64 bytes: {ADIANTUM} takes a raw key of 32"),
        ({"options": "1 keytype:raw"}, "'keytype:raw' is not one of its options: allow_"),
    ],
)
def test_a_line_that_cannot_be_is_refused_with_a_sentence(arguments, says):
    with pytest.raises(TableError) as caught:
        make(**arguments)
    assert says in str(caught.value)


def test_a_message_is_refused_and_not_repeated():
    with pytest.raises(StackError, match="^default-key: a message of 3 words") as caught:
        make().message(["key", "set", KEY])
    assert KEY not in str(caught.value)


def test_the_key_is_evicted_and_overwritten_when_the_table_is_dropped():
    target = make()
    target.start()
    target.stop()
    target.forget()
    assert not any(target.crypto_key.raw)
    assert target.key_params()[1] == "0" * 128

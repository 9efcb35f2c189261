"""What is special to inlinecrypt; the rest is in tests/contracts/test_every_target.py."""

from dataclasses import replace

import pytest

from fusedm.block import FLUSH, Bio, CryptContext, Op
from fusedm.block.errors import StackError, Status, TableError
from fusedm.dm import Fail, Remap, Target, parse_table
from fusedm.dm.targets.inlinecrypt import Inlinecrypt
from tests.helpers.builders import make_key
from tests.helpers.devices import RecordingDevice, lookup_in

XTS = "aes-xts-plain64"
KEY = bytes(range(1, 65)).hex()
LARGE = "2 sector_size:4096 iv_large_sectors"
DISCARD = Bio(Op.DISCARD, 8, 8)
D0 = RecordingDevice("d0", 4096)


def make(options: str = "", iv_offset: int = 0, key: str = KEY, length: int = 1024) -> Inlinecrypt:
    text = f"0 {length} inlinecrypt {XTS} {key} {iv_offset} d0 16 {options}"
    target = parse_table(text, lookup_in(D0), lambda: 0.0).entries[0].target
    assert isinstance(target, Inlinecrypt)
    return target


def refused(text: str, device: RecordingDevice = D0) -> str:
    with pytest.raises(TableError) as caught:
        parse_table(f"0 8 inlinecrypt {text}", lookup_in(device), lambda: 0.0)
    return str(caught.value)


def words(target: Target, show_keys: bool = False) -> str:
    asked = target.key_params() if show_keys else target.params()
    return " ".join(word if isinstance(word, str) else word.name for word in asked)


@pytest.mark.parametrize(
    ("options", "iv_offset", "sector", "dun"),
    [("", 0, 5, 5), ("", 1000, 5, 1005), (LARGE, 0, 16, 2), (LARGE, 80, 16, 12)],
)
@pytest.mark.parametrize("op", [Op.READ, Op.WRITE])
def test_data_go_down_with_a_context(op, options, iv_offset, sector, dun):
    target = make(options, iv_offset)
    bio = Bio(op, sector, 8, memoryview(bytearray(4096)))
    wanted = replace(bio.remap(sector + 16), crypt=CryptContext(target.crypto_key, dun))
    assert target.map(bio) == Remap(D0, wanted)


def test_a_bio_that_brings_a_context_is_an_error():
    bio = Bio.read(0, memoryview(bytearray(512)), CryptContext(make_key(), 0))
    assert make().map(bio) == Fail(Status.IOERR)


def test_what_a_fallback_above_has_encrypted_is_data_as_any():
    clear = Bio.read(8, memoryview(bytearray(4096)))
    target = make(LARGE)
    assert target.map(clear.with_data(clear.data)).bio.crypt == target.map(clear).bio.crypt


@pytest.mark.parametrize(("sector", "count"), [(4, 8), (8, 4)])
def test_a_part_of_a_data_unit_is_an_error(sector, count):
    bio = Bio.read(sector, memoryview(bytearray(count * 512)))
    assert make(LARGE).map(bio) == Fail(Status.IOERR)


def test_what_has_no_data_goes_down_without_a_context():
    assert make().map(FLUSH) == Remap(D0, FLUSH)
    assert make("1 allow_discards").map(DISCARD) == Remap(D0, DISCARD.remap(24))


@pytest.mark.parametrize(
    ("iv_offset", "length", "options", "dun_bytes"),
    [
        (0, 256, "", 1), (0, 257, "", 2), (65535, 1, "", 2), (65536, 8, "", 3),
        (0, 2048, LARGE, 1), (0, 2056, LARGE, 2), ((1 << 64) - 1, 8, "", 9), (0, 1, "", 1),
    ],
)  # fmt: skip
def test_contexts_have_as_many_dun_bytes_as_are_needed(iv_offset, length, options, dun_bytes):
    config = make(options, iv_offset, length=length).crypto_key.config
    assert config.dun_bytes == dun_bytes


def test_a_single_unit_of_number_0_is_refused_in_strict_mode_only():
    device = RecordingDevice("d0", 4096)
    text = f"0 1 inlinecrypt {XTS} {KEY} 0 d0 0"
    assert parse_table(text, lookup_in(device), lambda: 0.0)
    device.strict = True
    with pytest.raises(TableError, match="its only data unit has DUN 0, for which the kernel re"):
        parse_table(text, lookup_in(device), lambda: 0.0)


def test_the_printed_table_hides_the_key_and_the_shown_one_loads_back():
    options = "iv_large_sectors sector_size:1024 allow_discards keytype:raw"
    target = make(f"4 {options}")
    rest = "0 d0 16 4 keytype:raw allow_discards sector_size:1024 iv_large_sectors"
    assert words(target) == f"{XTS} {'0' * 128} {rest}"
    assert words(target, show_keys=True) == f"{XTS} {KEY} {rest}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"aes-cbc-plain64 {KEY} 0 d0 0", "argument 1: cipher: 'aes-cbc-plain64' is not one of a"),
        (f"{XTS} {KEY} 0 d0 0 1 sector_size:4096", "sector_size 4096 needs iv_large_sectors"),
        (f"{XTS} {KEY} 0 d0 0 1 keytype:gold", "keytype: 'gold' is not one of raw, hw-wrapped"),
        (f"{XTS} {KEY[:64]} 0 d0 0", "key: 32 bytes: aes-xts-plain64 takes a raw key of 64"),
        (f"{XTS} {KEY * 3} 0 d0 0 1 keytype:hw-wrapped", "key: 192 bytes is more than 128"),
        (f"{XTS} {KEY[:16]} 0 d0 0 1 keytype:hw-wrapped", "8 bytes: a wrapped key has at least 32"),
        (f"{XTS} {'0' * 128} 0 d0 0", "the key is all zeros"),
    ],
)
def test_a_line_that_cannot_be_is_refused_with_a_sentence(text, says):
    assert says in refused(text)


def test_a_message_is_refused_and_not_repeated():
    with pytest.raises(StackError, match="^inlinecrypt: a message of 3 words") as caught:
        make().message(["key", "set", KEY])
    assert KEY not in str(caught.value)


def test_the_key_is_evicted_and_overwritten_when_the_table_is_dropped():
    target = make()
    target.start()
    target.stop()
    target.forget()
    assert not any(target.crypto_key.raw)
    assert KEY not in words(target, show_keys=True)

"""What is special to crypt; the rest is in tests/contracts/test_every_target.py."""

import errno

import pytest

from fusedm.block import FLUSH, Bio, Op
from fusedm.block.errors import CryptoError, StackError, Status, TableError
from fusedm.dm import Fail, Remap, Target, Transform, format_table, parse_table
from fusedm.dm.targets import crypt
from tests.helpers.devices import RecordingDevice, lookup_in

D0 = RecordingDevice("d0", 4096)
XTS = "aes-xts-plain64"
KEY = bytes(range(1, 65)).hex()
OTHER = bytes(range(101, 165)).hex()
DISCARD = Bio(Op.DISCARD, 8, 8)


def make(
    cipher: str = XTS, key: str = KEY, iv_offset: int = 0, options: str = "", length: int = 1024
) -> Target:
    words = f"{cipher} {key} {iv_offset} d0 16 {options}"
    return parse_table(f"0 {length} crypt {words}", lookup_in(D0), lambda: 0.0).entries[0].target


def refused(**arguments) -> TableError:
    with pytest.raises(TableError) as caught:
        make(**arguments)
    return caught.value


def words(target: Target, show_keys: bool = False) -> str:
    asked = target.key_params() if show_keys else target.params()
    return " ".join(word if isinstance(word, str) else word.name for word in asked)


@pytest.mark.parametrize("op", [Op.READ, Op.WRITE])
def test_data_are_transformed_on_the_way_to_the_device(op):
    bio = Bio(op, 5, 2, memoryview(bytearray(1024)))
    action = make(iv_offset=1000).map(bio)
    assert isinstance(action, Transform)
    assert (action.number, action.then) == (1005, Remap(D0, bio.remap(21)))


def test_a_flush_goes_down():
    assert make().map(FLUSH) == Remap(D0, FLUSH)


def test_discards_go_down_if_they_are_allowed():
    assert make(options="1 allow_discards").map(DISCARD) == Remap(D0, DISCARD.remap(24))


@pytest.mark.parametrize(("sector", "count"), [(4, 8), (8, 4), (1, 1)])
def test_a_part_of_a_large_sector_is_an_error(sector, count):
    bio = Bio.read(sector, memoryview(bytearray(count * 512)))
    assert make(options="1 sector_size:4096").map(bio) == Fail(Status.IOERR)


def test_the_sector_size_is_the_logical_block_size():
    assert make().limits().logical_block_size == 512
    assert make(options="1 sector_size:2048").limits().logical_block_size == 2048


def test_a_printed_table_has_zeros_for_the_key_and_options_in_the_kernels_order():
    options = "iv_large_sectors sector_size:4096 SAME_CPU_CRYPT allow_discards"
    target = make(options=f"4 {options}")
    rest = "0 d0 16 4 allow_discards same_cpu_crypt sector_size:4096 iv_large_sectors"
    assert words(target) == f"{XTS} {'0' * 128} {rest}"
    assert words(target, show_keys=True) == f"{XTS} {KEY} {rest}"


def test_a_sector_size_of_512_is_not_printed():
    assert words(make(options="1 sector_size:512")) == words(make())


@pytest.mark.parametrize("half", ["0", "f", "z"])
def test_half_a_byte_at_the_end_of_a_key_is_not_looked_at(half):
    target = make(key=KEY + half)
    assert words(target, show_keys=True) == f"{XTS} {KEY} 0 d0 16"
    list(target.postsuspend())
    target.message(["key", "set", OTHER + half])
    assert words(target, show_keys=True) == f"{XTS} {OTHER} 0 d0 16"


def test_a_key_that_no_cipher_can_be_made_of_is_refused_and_overwritten(monkeypatch):
    keys = []

    def fail(spec, raw, *args, **options):
        keys.append(raw)
        raise CryptoError("not in this library", errno.ENOPKG)

    monkeypatch.setattr(crypt, "make_sector_cipher", fail)
    error = refused()
    assert str(error) == "table line 1: crypt: argument 2: key: not in this library"
    assert (error.errno, bytes(keys[0])) == (errno.ENOPKG, bytes(64))


def test_a_masked_key_is_refused_when_it_is_loaded():
    error = refused(key="0" * 128)
    assert "argument 2: the key is all zeros: this is a line that was printed" in str(error)
    assert "--showkeys" in str(error)
    assert error.errno == errno.EINVAL


@pytest.mark.parametrize("key", [KEY[:-1], KEY[:-2], KEY + "00", "x" + KEY[1:]])
def test_no_error_repeats_a_key(key):
    assert KEY[20:40] not in str(refused(key=key))


@pytest.mark.parametrize(
    "text", [f"{KEY} {XTS} 0 d0 0", f"{XTS} 0 {KEY} d0 0", f"{XTS} - 0 {KEY} 0"]
)
def test_a_key_in_the_wrong_place_is_not_repeated_either(text):
    with pytest.raises(TableError, match="looks like a key, which is argument 2$"):
        parse_table(f"0 8 crypt {text}", lookup_in(D0), lambda: 0.0)


@pytest.mark.parametrize(
    ("arguments", "number", "says"),
    [
        ({"key": "-"}, errno.EINVAL, "argument 2: key: 0 bytes: aes here takes 32 or 48"),
        ({"key": "a"}, errno.EINVAL, "key: 1 digits: a byte is two of them, so one is mis"),
        ({"key": "abc"}, errno.EINVAL, "key: 1 bytes: aes here takes 32 or 48 or 64"),
        ({"key": KEY[:66]}, errno.EINVAL, "key: 33 bytes: aes here takes 32 or 48 or 64"),
        ({"cipher": "aes-xts"}, errno.EINVAL, "argument 1: cipher: 'aes-xts' has no IV mode"),
        ({"cipher": "des-cbc-plain"}, errno.ENOENT, "cipher: cipher des is run by the kernel only"),
        ({"options": "1 fast"}, errno.EINVAL, "'fast' is not one of its options: allow_disc"),
        ({"options": "1 sector_size"}, errno.EINVAL, "'sector_size' is not one of its options"),
        (
            {"options": "2 high_priority"},
            errno.EINVAL,
            "options 2: 2 words are announced, 1",
        ),
        (
            {"options": "2 high_priority high_priority"},
            errno.EINVAL,
            "high_priority is given twice",
        ),
        (
            {"options": "1 sector_size:8192"},
            errno.EINVAL,
            "sector_size: 8192 is not in 512..4096 bytes",
        ),
        (
            {"options": "1 sector_size:1000"},
            errno.EINVAL,
            "sector_size: 1000 is not a power of",
        ),
        ({"options": "1 sector_size:x"}, errno.EINVAL, "sector_size: 'x' is not a number of bytes"),
        ({"options": "1 integrity:28:aead"}, errno.EINVAL, "authenticated encryption is run by"),
        ({"options": "1 integrity_key_size:32"}, errno.EINVAL, "authenticated encryption is run"),
        (
            {"options": "1 sector_size:4096", "iv_offset": 4},
            errno.EINVAL,
            "iv_offset 4: is not a multiple of 8 sectors, the block of 4096 bytes",
        ),
        (
            {"options": "1 sector_size:1024", "length": 7},
            errno.EINVAL,
            "length 7: is not a multiple of 2 sectors, the block of 1024 bytes",
        ),
        ({"iv_offset": 1 << 64}, errno.EINVAL, "argument 3: iv_offset"),
    ],
)
def test_a_line_that_cannot_be_is_refused_with_a_sentence(arguments, number, says):
    error = refused(**arguments)
    assert says in str(error)
    assert error.errno == number


# Messages.


def suspended(target: Target) -> Target:
    list(target.postsuspend())
    return target


@pytest.mark.parametrize("message", [["key", "set", OTHER], ["key", "wipe"]])
def test_a_key_is_changed_only_while_the_device_is_suspended(message):
    target = make()
    with pytest.raises(StackError, match="must be suspended to change its key") as caught:
        target.message(message)
    assert caught.value.errno == errno.EINVAL
    suspended(target).resumed()
    with pytest.raises(StackError, match="must be suspended"):
        target.message(message)
    assert words(target, show_keys=True) == words(make(), show_keys=True)


@pytest.mark.parametrize("first", ["key", "KEY"])
def test_another_key_is_set(first):
    target = suspended(make())
    assert target.message([first, "set", OTHER]) == ""
    list(target.preresume())
    assert words(target, show_keys=True) == words(make(key=OTHER), show_keys=True)


def test_a_wiped_key_is_gone_and_the_device_cannot_be_resumed():
    target = suspended(make())
    assert target.message(["key", "wipe"]) == ""
    assert words(target, show_keys=True) == words(target) == words(make())
    with pytest.raises(StackError, match="its key was wiped") as caught:
        list(target.preresume())
    assert caught.value.errno == errno.EAGAIN
    target.message(["key", "set", OTHER])
    list(target.preresume())


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (KEY[:64], "32 bytes of key given, the key of the table has 64$"),
        ("-", "0 bytes of key given, the key of the table has 64$"),
        (":32:user:a", "32 bytes of key given, the key of the table has 64$"),
        ("z" * 128, "crypt: key: character 1 of 128 is not a hexadecimal digit"),
        ("0" * 128, "all zeros"),
    ],
)
def test_a_key_that_does_not_fit_leaves_the_old_one(key, says):
    target = suspended(make())
    with pytest.raises(StackError, match=says) as caught:
        target.message(["key", "set", key])
    assert caught.value.errno == errno.EINVAL
    list(target.preresume())
    assert words(target, show_keys=True) == words(make(), show_keys=True)


def test_a_key_that_no_keyring_has_leaves_the_old_one():
    target = suspended(make())
    with pytest.raises(StackError, match="^crypt: key: "):
        target.message(["key", "set", ":64:user:fusedm-test:nobody-added-it"])
    list(target.preresume())
    assert words(target, show_keys=True) == words(make(), show_keys=True)


@pytest.mark.parametrize(
    "message", [["key"], ["key", "set"], ["key", "wipe", "it"], ["key", "sett", OTHER], ["x", "y"]]
)
def test_other_messages_are_refused_without_repeating_them(message):
    with pytest.raises(StackError, match="words that is not known$") as caught:
        suspended(make()).message(message)
    assert caught.value.errno == errno.EINVAL
    assert OTHER not in str(caught.value)


def test_the_key_is_overwritten_when_the_table_is_dropped():
    target = make()
    target.forget()
    assert KEY not in words(target, show_keys=True)


def test_a_multi_key_line_has_all_keys_in_one_word():
    table = parse_table(f"0 8 crypt aes:2-cbc-plain64 {KEY} 0 d0 0", lookup_in(D0), lambda: 0.0)
    assert format_table(table, show_keys=True) == f"0 8 crypt aes:2-cbc-plain64 {KEY} 0 d0 0"

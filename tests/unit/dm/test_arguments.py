"""What a line says is asked by the names of its grammar, and what is refused names its argument."""

import errno

import pytest

from fusedm.block import BlockDevice
from fusedm.block.errors import TableError
from fusedm.dm import Arguments, Segment
from fusedm.tables import read_lines
from tests.helpers.devices import RecordingDevice, lookup_in

NAMES = ("d0", "d1", "m0", "m1")
DEVICES = {name: RecordingDevice(name, 4096) for name in NAMES}
D0, D1, M0, M1 = DEVICES.values()
RAID = "raid raid1 5 0 write_mostly 0 write_mostly 1 2 m0 d0 - d1"


def arguments(words: str, *devices: BlockDevice) -> Arguments:
    """The second line of a table, so that numbers of lines are told from others."""
    lines = read_lines(f"0 64 zero\n64 192 {words}")
    return Arguments(lines[1], lookup_in(*(devices or DEVICES.values())), lambda: 5.0)


def test_fields_are_asked_for_by_their_names():
    line = arguments("snapshot d0 d1 p 16 1 Discard_Zeroes_Cow")
    assert (line.target, line.sector_count, line.clock()) == ("snapshot", 192, 5.0)
    assert (line.device("origin"), line.device("cow")) == (D0, D1)
    assert (line.text("persistent"), line.number("chunk")) == ("P", 16)
    assert line.has("discard_zeroes_cow")
    assert not line.has("discard_passdown_origin")


def test_of_what_is_not_given_the_default_is_told():
    line = arguments("ebs d0 0 1")
    assert (line.number("underlying"), line.number("underlying", 8)) == (0, 8)
    assert (line.text("sync", "nosync"), line.word("sync")) == ("nosync", "")
    assert (line.numbers("rebuild"), line.texts("word"), line.devices("meta")) == ([], [], [])
    assert line.device_or_none("external_origin") is None


def test_a_segment_is_as_long_as_the_target_unless_it_is_told_another_length():
    assert arguments("linear d0 8").segment() == Segment(D0, 8, 192)
    line = arguments("striped 2 32 d0 0 d1 2048")
    assert line.segments(96) == [Segment(D0, 0, 96), Segment(D1, 2048, 96)]


def test_a_dash_that_stands_for_no_device_is_not_looked_up():
    line = arguments(RAID)
    assert line.devices_or_none("meta") == [M0, None]
    assert line.devices("data") == [D0, D1]
    assert line.all_devices() == [M0, D0, D1]
    thin = arguments("thin d0 1 d1")
    assert (thin.device("pool"), thin.device_or_none("external_origin")) == (D0, D1)


def test_what_may_be_given_several_times_is_told_in_order():
    assert arguments(RAID).numbers("write_mostly") == [0, 1]
    assert arguments("error any words at all").texts("word") == ["any", "words", "at", "all"]


def test_features_come_in_the_order_they_are_asked_for_with_their_words():
    words = "d0 0 1 1 6 corrupt_bio_byte 1 r 0 0 drop_writes"
    order = ("drop_writes", "error_writes", "corrupt_bio_byte")
    features = ["drop_writes", "corrupt_bio_byte", "1", "r", "0", "0"]
    assert arguments(f"flakey {words}").features(order) == features


def test_a_word_is_told_as_it_stands_where_its_field_is_a_number():
    line = arguments(f"crypt aes-cbc-plain64 {'ab' * 16} 0 d0 0")
    assert (line.word("key"), line.number("key")) == ("ab" * 16, 16)


def refusal(words: str, name: str, text: str, *number: int) -> TableError:
    with pytest.raises(TableError) as caught:
        arguments(words).refuse(name, text, *number)
    return caught.value


def test_a_refusal_names_line_target_and_argument():
    error = refusal("striped 2 32 d0 0 d1 2048", "offset", "2048 is too far")
    assert str(error) == "table line 2: striped: argument 6: offset: 2048 is too far"
    assert (error.line, error.target, error.errno) == (2, "striped", errno.EINVAL)
    assert refusal("linear d0 0", "dev", "is busy", errno.EBUSY).errno == errno.EBUSY


def test_a_refusal_of_what_is_not_given_is_of_the_line():
    assert str(refusal("zero", "chunk", "is needed")) == "table line 2: zero: chunk: is needed"


def test_an_unknown_device_keeps_the_errno_of_the_lookup():
    text = r"^table line 2: striped: argument 5: dev: no device is named 'd9'"
    with pytest.raises(TableError, match=text) as caught:
        arguments("striped 2 32 d0 0 d9 0")
    assert caught.value.errno == errno.ENXIO


def test_an_unknown_device_has_the_errno_of_the_target_where_the_kernels_has_one():
    with pytest.raises(TableError, match="no device is named 'd9'") as caught:
        arguments("dust d9 0 512")
    assert caught.value.errno == errno.EINVAL


def test_where_limits_are_put_off_a_strict_device_does_not_refuse_what_belongs_to_them():
    strict = RecordingDevice("d0", 4096)
    strict.strict = True
    lines = read_lines("0 8 linear d0 18014398509481983", limits=False)
    assert Arguments(lines[0], lookup_in(strict), lambda: 0.0).device() is strict


def test_what_only_strict_mode_refuses_is_refused_where_a_device_is_strict():
    words = f"inlinecrypt aes-xts-plain64 {bytes(range(64)).hex()} 0 d0 0"
    strict = RecordingDevice("d0", 4096)
    strict.strict = True
    line = read_lines(f"0 1 {words}")[0]
    Arguments(line, lookup_in(D0), lambda: 0.0)
    with pytest.raises(TableError, match="argument 3: its only data unit has DUN 0") as caught:
        Arguments(line, lookup_in(strict), lambda: 0.0)
    assert caught.value.errno == errno.EINVAL
    assert arguments(words, strict).device() is strict

"""Params reads arguments and names what is wrong; Segment puts bios in their place."""

import errno

import pytest

from fusedm.block import FLUSH, Bio, Op
from fusedm.block.errors import TableError
from fusedm.dm import Params, Remap, Segment, parse_table
from fusedm.dm.target import whole_number
from tests.helpers.devices import RecordingDevice, lookup_in

D0 = RecordingDevice("d0", 100)


def params(*words: str, usage: str = "dev offset") -> Params:
    return Params("thing", usage, words, 10, lookup_in(D0), lambda: 0.0, 7)


def refusal(read, *words: str, **options: str) -> str:
    with pytest.raises(TableError) as caught:
        read(params(*words, **options))
    return str(caught.value)


def test_words_are_read_in_order():
    reader = params("5", "d0", "a", "b")
    assert (reader.integer("n"), reader.device("dev"), reader.left) == (5, D0, 2)
    assert reader.rest() == ["a", "b"]
    assert reader.left == 0


def test_a_segment_is_read_from_device_and_offset():
    assert params("d0", "20").segment(10) == Segment(D0, 20, 10)


def test_a_segment_gives_its_arguments_back():
    assert Segment(D0, 20, 10).params() == [D0, "20"]


def test_a_missing_word_names_all_arguments_and_how_many_were_given():
    text = refusal(lambda reader: reader.segment(1), "d0")
    assert text == "table line 7: thing: takes 2 arguments (dev offset), 1 given"


def test_a_word_left_over_is_refused():
    text = refusal(lambda reader: reader.finish(), "d0", "0", "x")
    assert text == "table line 7: thing: takes 2 arguments (dev offset), 3 given"


def test_a_target_without_arguments_says_so():
    text = refusal(lambda reader: reader.finish(), "x", usage="")
    assert text == "table line 7: thing: takes no arguments, 1 given"


def test_a_usage_with_options_is_shown_not_counted():
    text = refusal(lambda reader: reader.word(), usage="a [b]")
    assert text == "table line 7: thing: takes the arguments a [b], 0 given"


def test_nothing_left_over_is_fine():
    params().finish()


@pytest.mark.parametrize("word", ["x", "-1", "+1", "1x", "0x10", "1.0", "٣", "²"])
def test_what_is_not_a_decimal_number_is_refused(word):
    text = refusal(lambda reader: reader.integer("n"), word)
    assert text == f"table line 7: thing: argument 1 (n): {word!r} is not a number"


@pytest.mark.parametrize("word", ["2", "6", "9" * 5000])
def test_a_number_out_of_range_names_the_range(word):
    text = refusal(lambda reader: reader.integer("n", 3, 5), word)
    assert text == f"table line 7: thing: argument 1 (n): {word} is not in 3..5"


def test_both_ends_of_a_range_are_in_it():
    reader = params("3", "5")
    assert [reader.integer("n", 3, 5), reader.integer("n", 3, 5)] == [3, 5]


def test_leading_zeros_do_not_make_a_number_longer():
    assert whole_number("0" * 5000 + "12") == 12
    assert whole_number("0") == 0


def test_an_unknown_device_keeps_the_errno_of_the_lookup():
    with pytest.raises(TableError, match=r"argument 1 \(dev\): no device is named 'd9'") as caught:
        params("d9").device("dev")
    assert caught.value.errno == errno.ENXIO


def test_remapping_into_a_segment_changes_the_sector_only():
    bio = Bio.write(4, memoryview(bytes(1024)))
    assert Segment(D0, 20, 10).remap(bio) == Remap(D0, bio.remap(24))


def test_a_flush_has_no_place_in_a_segment():
    assert Segment(D0, 20, 10).remap(FLUSH) == Remap(D0, Bio(Op.FLUSH, 0, 0))


def test_a_target_has_nothing_to_read_or_write_and_no_keys_unless_it_says_so():
    target = parse_table("0 8 linear d0 0", lookup_in(D0), lambda: 0.0).entries[0].target
    assert [list(target.opening()), list(target.closing()), list(target.keys())] == [[], [], []]

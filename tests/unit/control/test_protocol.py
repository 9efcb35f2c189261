"""Control messages: what is sent reads back, and what is none is refused in one line."""

import errno
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusedm.block.errors import ControlError, FusedmError, StackError
from fusedm.control.protocol import (
    MAX_LINE_BYTES,
    LineReader,
    Request,
    decode_reply,
    decode_request,
    encode_error,
    encode_request,
    encode_result,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


def line(**message) -> bytes:
    return json.dumps({"fusedm": 1, "id": 0, "verb": "ls", "args": {}, **message}).encode()


# Lines.


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=6))
def test_lines_do_not_depend_on_the_pieces_they_come_in(data, cuts):
    reader = LineReader()
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[a:b] for a, b in zip(places, places[1:], strict=False)]
    assert [out for piece in pieces for out in reader.feed(piece)] == data.split(b"\n")[:-1]


def test_a_line_as_long_as_the_limit_is_taken():
    reader = LineReader()
    assert reader.feed(b"x" * MAX_LINE_BYTES) == []
    assert reader.feed(b"\n") == [b"x" * MAX_LINE_BYTES]


@pytest.mark.parametrize("end", [b"", b"\n"], ids=["without its end", "with its end"])
def test_a_line_longer_than_the_limit_is_refused_with_both_numbers(end):
    with pytest.raises(ControlError, match="message of 6 bytes or more, the limit is 5"):
        LineReader(limit=5).feed(b"ok\n123456" + end)


def test_the_limit_is_of_one_line_not_of_all():
    assert LineReader(limit=3).feed(b"one\ntwo\nsix\n") == [b"one", b"two", b"six"]


def test_a_reader_without_a_limit_takes_any_line():
    assert LineReader(limit=None).feed(b"x" * (MAX_LINE_BYTES + 1) + b"\n")


# Requests.


@given(st.text(max_size=9), st.dictionaries(st.text(max_size=5), json_values), st.integers())
def test_a_request_reads_back_as_it_was_sent(verb, args, number):
    request = Request(verb, args, number)
    assert decode_request(encode_request(request)) == request


def test_a_message_is_one_line_whatever_it_says():
    sent = encode_request(Request("dm.load", {"table": "0 1 zero\n1 1 error\n"}))
    assert sent.count(b"\n") == 1
    assert sent.endswith(b"\n")


def test_args_and_id_may_be_left_out():
    assert decode_request(b'{"fusedm": 1, "verb": "ls"}') == Request("ls", {}, 0)


@pytest.mark.parametrize(
    "data",
    [b"", b"ls", b"{", b"\xff\xfe", b"[" * 100_000, b'{"id": ' + b"9" * 5000 + b"}"],
    ids=["empty", "word", "half", "not UTF-8", "too deep", "too many digits"],
)
def test_what_is_not_json_is_refused(data):
    with pytest.raises(ControlError, match="^control message: not JSON$"):
        decode_request(data)


@pytest.mark.parametrize("data", [b"[]", b"1", b'"ls"', b"null"])
def test_json_that_is_no_object_is_refused(data):
    with pytest.raises(ControlError, match="not a JSON object"):
        decode_request(data)


@pytest.mark.parametrize("version", [0, 2, "1", None, [1]])
def test_another_version_is_refused_with_both(version):
    with pytest.raises(ControlError) as caught:
        decode_request(line(fusedm=version))
    assert str(caught.value) == f"control message: version {version!r}, this daemon speaks 1"


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"verb": 3}, "verb 3 is not a string"),
        ({"verb": None}, "verb None is not a string"),
        ({"args": []}, "args of ls is not an object"),
        ({"args": None}, "args of ls is not an object"),
        ({"id": "7"}, "id '7' is not a whole number"),
        ({"id": 1.5}, "id 1.5 is not a whole number"),
    ],
)
def test_a_field_of_the_wrong_type_is_refused_by_name(message, text):
    with pytest.raises(ControlError) as caught:
        decode_request(line(**message))
    assert str(caught.value) == f"control message: {text}"


# Replies.


@given(st.integers(), json_values)
def test_a_result_reads_back_as_it_was_sent(number, result):
    assert decode_reply(encode_result(number, result)) == result


def test_a_reply_carries_the_id_of_its_request():
    assert json.loads(encode_result(7, None))["id"] == 7
    assert json.loads(encode_error(8, StackError("no")))["id"] == 8


def test_a_refusal_reads_back_with_its_text_and_errno():
    with pytest.raises(FusedmError) as caught:
        decode_reply(encode_error(0, StackError("'d0' is in use by x", errno.EBUSY)))
    assert str(caught.value) == "'d0' is in use by x"
    assert caught.value.errno == errno.EBUSY


def test_a_reply_with_neither_result_nor_error_is_refused():
    with pytest.raises(ControlError, match="neither result nor error"):
        decode_reply(b'{"fusedm": 1, "id": 0}')


def test_a_reply_of_another_version_is_refused():
    with pytest.raises(ControlError, match="version 2"):
        decode_reply(b'{"fusedm": 2, "result": 0}')

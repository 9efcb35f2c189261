"""Typed values survive the way through JSON, and what is of another type is refused."""

import json
from typing import Any, Literal

import pytest

from fusedm.block.device_mapper import DeviceInfo, Name, TargetLine, Which
from fusedm.block.errors import ControlError
from fusedm.control.wire import decode, decode_arguments, encode

INFO = DeviceInfo(
    name="a", uuid="u", number=(253, 0), minor=0, is_live=True, is_inactive=False,
    is_suspended=False, is_read_only=False, is_deferred=False, open_count=1, event_number=2,
    target_count=1, sector_count=8, block_size=512, takes_discards=True,
    path="/m/mapper/a", below=((7, 1), (253, 5)), holders=("b",),
)  # fmt: skip


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (DeviceInfo, INFO),
        (list[TargetLine], [TargetLine(0, 8, "linear", "d0 0"), TargetLine(8, 8, "zero", "")]),
        (tuple[int, int] | None, (7, 3)),
        (tuple[int, int] | None, None),
        (tuple[int, ...], ()),
        (Name, "a"),
        (Name, Which(number=(7, 3))),
        (Name, Which(uuid="u")),
    ],
)
def test_a_value_comes_out_as_it_went_in(hint: Any, value: object) -> None:
    assert decode(hint, json.loads(json.dumps(value, default=encode))) == value


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (Name, 1),
        (Name, {"nom": "a"}),
        (Name, {"number": [1]}),
        (Name, {"number": [1, True]}),
        (Name, {"number": "7:3"}),
        (tuple[int, ...], [1, "2"]),
        (list[str], "abc"),
        (list[str], [1]),
        (DeviceInfo, {"name": "a"}),
        (DeviceInfo, []),
    ],
)
def test_what_is_of_another_type_is_none(hint: Any, value: object) -> None:
    with pytest.raises(TypeError):
        decode(hint, value)


def test_what_json_cannot_say_is_not_sent() -> None:
    with pytest.raises(TypeError, match="^bytes is nothing that JSON can say$"):
        json.dumps(b"", default=encode)


def takes(
    number: int = 0,
    flag: bool = False,
    text: str | None = None,
    choice: Literal["a", "b"] = "a",
    table: dict[str, Any] | None = None,
    plain: dict[str, int] = {},  # noqa: B006  # never called
) -> None:
    """A verb of every kind of hint."""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("number", 0), ("number", -5), ("flag", True), ("text", "x"), ("text", None),
        ("choice", "b"), ("table", {}), ("table", {"a": [1]}), ("table", None), ("plain", {"a": 1}),
    ],
)  # fmt: skip
def test_a_value_of_the_hinted_type_fits(name: str, value: object) -> None:
    assert decode_arguments("v", takes, {name: value}) == {name: value}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("number", True), ("number", 1.0), ("number", "1"), ("number", None), ("flag", 1),
        ("flag", None), ("text", 1), ("text", True), ("choice", "c"), ("choice", None),
        ("choice", []), ("table", []), ("table", "x"), ("plain", None), ("plain", {"a": "x"}),
    ],
)  # fmt: skip
def test_a_value_of_another_type_does_not_fit(name: str, value: object) -> None:
    with pytest.raises(ControlError, match=f"^v: argument {name} is of the wrong type$"):
        decode_arguments("v", takes, {name: value})

"""Arguments of verbs against the hints of their signatures."""

from typing import Any, Literal

import pytest

from fusedm.block.errors import ControlError
from fusedm.control.commands import check_arguments
from fusedm.control.protocol import Request


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
def test_a_value_of_the_hinted_type_fits(name, value):
    check_arguments(Request("v", {name: value}), takes)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("number", True), ("number", 1.0), ("number", "1"), ("number", None), ("flag", 1),
        ("flag", None), ("text", 1), ("text", True), ("choice", "c"), ("choice", None),
        ("choice", []), ("table", []), ("table", "x"), ("plain", None),
    ],
)  # fmt: skip
def test_a_value_of_another_type_does_not_fit(name, value):
    with pytest.raises(ControlError, match=f"^v: argument {name} is of the wrong type$"):
        check_arguments(Request("v", {name: value}), takes)

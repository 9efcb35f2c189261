"""Tests that are slow and rarely break: make nightly runs them, make test others of their kind."""

from collections.abc import Iterable
from typing import Any

import pytest

NIGHTLY = pytest.mark.nightly


def nightly_but(ordinary: Iterable[Any], values: Iterable[Any]) -> list[Any]:
    """Values to parametrize by, of which only the ordinary ones are tried in every run.

    A value is one argument, or a tuple of several.
    """
    chosen = [*ordinary]
    known = [*values]
    assert all(value in known for value in chosen), "what is ordinary is one of the values"
    return [value if value in chosen else _nightly(value) for value in known]


def _nightly(value: Any) -> Any:
    return pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=NIGHTLY)

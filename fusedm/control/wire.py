"""Typed values as JSON says them, and back again: arguments of verbs, and their answers. Pure."""

import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from fusedm.block.errors import ControlError

T = TypeVar("T")

_hints = cache(get_type_hints)


def encode(value: object) -> object:
    """A dataclass as an object of its fields, for json.dumps; what it knows by itself stays."""
    if not is_dataclass(value):
        raise TypeError(f"{type(value).__name__} is nothing that JSON can say")
    return {field.name: getattr(value, field.name) for field in fields(value)}


def decode(hint: type[T], value: object) -> T:
    """The value of a type that JSON says; true and false are no numbers.

    Raises: TypeError for one of another type.
    """
    return cast(T, _decode(hint, value))


def decode_arguments(verb: str, method: Callable[..., object], args: dict[str, Any]) -> Any:
    """The arguments for the method of a verb.

    Raises: ControlError naming one that is missing, unknown or of the wrong type.
    """
    parameters, hints = inspect.signature(method).parameters, get_type_hints(method)
    decoded = {}
    for name, value in args.items():
        if name not in parameters:
            raise ControlError(f"{verb}: argument {name!r} is unknown")
        try:
            decoded[name] = _decode(hints[name], value)
        except TypeError:
            raise ControlError(f"{verb}: argument {name} is of the wrong type") from None
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in args:
            raise ControlError(f"{verb}: argument {name!r} is missing")
    return decoded


def _decode(hint: Any, value: Any) -> Any:
    kind: Any = get_origin(hint) or hint
    inner = get_args(hint)
    if kind is Any or (kind is Literal and value in inner):
        return value
    if kind in (Union, UnionType):
        return _decode_one_of(inner, value)
    if kind is tuple and isinstance(value, list):
        hints = inner[:1] * len(value) if inner[-1] is ... else inner
        if len(value) == len(hints):
            return tuple(map(_decode, hints, value))
    elif kind is list and isinstance(value, list):
        return [_decode(inner[0], item) for item in value]
    elif is_dataclass(kind) and isinstance(value, dict):
        named = _hints(hint)
        if value.keys() <= named.keys():
            return hint(**{name: _decode(named[name], item) for name, item in value.items()})
    elif kind is dict and isinstance(value, dict):
        return {name: _decode(inner[1], item) for name, item in value.items()}
    elif (
        kind is not Literal
        and isinstance(value, kind)
        and (kind is bool) == isinstance(value, bool)
    ):
        return value
    raise TypeError(f"{value!r} is no {hint}")


def _decode_one_of(choices: tuple[Any, ...], value: object) -> object:
    for choice in choices[:-1]:
        try:
            return _decode(choice, value)
        except TypeError:
            continue
    return _decode(choices[-1], value)

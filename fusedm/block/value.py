"""Values: dataclasses whose objects do not change, and that many are made of for every bio."""

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def value(cls: type[T]) -> type[T]:
    """A frozen dataclass with slots, held to it by the type checker only.

    To refuse a change at run time as well, Python would set each attribute by a call of its own
    when an object is made, which takes more than twice as long.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)

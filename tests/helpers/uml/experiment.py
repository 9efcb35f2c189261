"""What is asked of the kernel and of fusedm alike: disks, and steps to be taken one by one.

A step is a verb and its arguments; both sides answer each with a dict, {"errno": NAME} where it was
refused. The verbs are the public methods of Twin (twin.py), DeviceMapper (guest_dm.py) and Bench
(guest.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Answer = dict[str, Any]


@dataclass(frozen=True)
class DiskSpec:
    """A disk of an experiment: what it holds from its first byte on, then zeros."""

    sectors: int = 2048
    content: bytes = b""
    block_size: int = 512


@dataclass(frozen=True)
class Step:
    """One thing to do.

    departs says in words why fusedm answers otherwise than the kernel; then it has to.
    """

    verb: str
    arguments: tuple[Any, ...]
    departs: str = ""

    def __str__(self) -> str:
        shown = (f"{len(a)} bytes" if isinstance(a, bytes) else repr(a) for a in self.arguments)
        return f"{self.verb}({', '.join(shown)})"


@dataclass(frozen=True)
class Experiment:
    """Steps on disks of its own; images: whether what the disks hold at the end matters."""

    steps: tuple[Step, ...]
    disks: Mapping[str, DiskSpec] = field(default_factory=lambda: {"d0": DiskSpec()})
    images: bool = False


@dataclass(frozen=True)
class Outcome:
    """The answers, one a step, and what the disks hold at the end."""

    answers: list[Answer]
    images: dict[str, bytes]


def step(verb: str, *arguments: Any, departs: str = "") -> Step:
    """A step in one line."""
    return Step(verb, arguments, departs)


def started(name: str, table: str) -> tuple[Step, ...]:
    """A device with a live table."""
    return (step("create", name), step("load", name, table), step("resume", name))

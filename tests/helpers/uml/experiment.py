"""What is asked of the kernel and of fusedm alike: disks, and steps to be taken one by one.

A step is a verb and its arguments; both sides answer each with a dict, {"errno": NAME} where it was
refused. The verbs are the public methods of Twin (twin.py), DeviceMapper (guest_dm.py) and Bench
(guest.py).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Answer = dict[str, Any]


@dataclass(frozen=True)
class DiskSpec:
    """A disk of an experiment, full of zeros or of noise; begins, in base64, is written over it."""

    sectors: int = 2048
    block_size: int = 512
    seed: int | None = None
    begins: str = ""


@dataclass(frozen=True)
class Step:
    """One thing to do.

    departs says in words why fusedm answers otherwise than the kernel; then it has to.
    """

    verb: str
    arguments: tuple[Any, ...]
    departs: str = ""

    def __str__(self) -> str:
        return f"{self.verb}{self.arguments}"


@dataclass(frozen=True)
class Experiment:
    """Steps on disks of its own; images: whether what the disks hold at the end matters."""

    steps: tuple[Step, ...]
    disks: Mapping[str, DiskSpec] = field(default_factory=lambda: {"d0": DiskSpec()})
    images: bool = False


@dataclass(frozen=True)
class Outcome:
    """The answers, one a step, and the checksums of the disks' sectors at the end."""

    answers: list[Answer]
    images: dict[str, list[int]]


def step(verb: str, *arguments: Any, departs: str = "") -> Step:
    """A step in one line."""
    return Step(verb, arguments, departs)


def started(name: str, table: str) -> tuple[Step, ...]:
    """A device with a live table."""
    return (step("create", name), step("load", name, table), step("resume", name))


def departing(steps: Iterable[Step], why: Mapping[str, str]) -> tuple[Step, ...]:
    """The same steps, of which those of some verbs depart."""
    return tuple(replace(each, departs=why.get(each.verb, "")) for each in steps)

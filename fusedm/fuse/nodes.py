"""What a path in the mount can lead to. Pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DeviceFile:
    """A file whose bytes are a device's or view's, of this name."""

    name: str


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file of a few lines, made when it is opened."""

    text: Callable[[], str]


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link."""

    target: str


@dataclass(frozen=True, slots=True)
class Directory:
    """Names, and what each leads to; both asked anew at every look."""

    names: Callable[[], Iterable[str]]
    child: Callable[[str], "Node | None"]


Node = DeviceFile | TextFile | Link | Directory


def directory(children: Mapping[str, Node]) -> Directory:
    """A directory of things that are there whatever happens."""
    return Directory(lambda: children, children.get)


def line(text: object) -> TextFile:
    """A file of one line."""
    return TextFile(lambda: f"{text}\n")

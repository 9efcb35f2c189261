"""A userspace block-device stack with inline encryption and device mapper, mounted with FUSE."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module

__version__ = "0.1.0"


def door(room: str, offers: Mapping[str, str]) -> Callable[[str], object]:
    """The __getattr__ of a room that loads a module when somebody asks for what is offered of it.

    offers says which names those are, by the name of the module. A room must not offer a name that
    one of its modules has: loading that module would put it in the place of what is offered.
    """
    where = {name: module for module, names in offers.items() for name in names.split()}

    def load(name: str) -> object:
        if name not in where:
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        value: object = getattr(import_module(f"{room}.{where[name]}"), name)
        setattr(sys.modules[room], name, value)
        return value

    return load

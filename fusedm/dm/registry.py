"""The shelf of targets: a file in targets/ is a target; there is no list to keep."""

import pkgutil
from functools import cache
from importlib import import_module, resources

from fusedm.block.errors import StackError
from fusedm.dm import targets
from fusedm.dm.target import Target


@cache
def target_names() -> list[str]:
    """Every target type, sorted; log-writes lives in log_writes.py."""
    modules = pkgutil.iter_modules(targets.__path__)
    return sorted(module.name.replace("_", "-") for module in modules)


@cache
def target_class(name: str) -> type[Target]:
    """The class of a target type.

    Raises: StackError(EINVAL) for an unknown type, with the known ones.
    """
    module = import_module(f"{targets.__name__}.{_file_of(name)}")
    own = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Target)
        and value.__module__ == module.__name__
    ]
    assert len(own) == 1, f"{module.__name__} must hold one Target, not {len(own)}"
    assert own[0].name == name, f"{module.__name__} must hold {name!r}, not {own[0].name!r}"
    return own[0]


def target_doc(name: str) -> str:
    """The text of a target type's NAME.md.

    Raises: StackError(EINVAL) for an unknown type, with the known ones.
    """
    doc = resources.files(targets).joinpath(f"{_file_of(name)}.md")
    return doc.read_text(encoding="utf-8")


def _file_of(name: str) -> str:
    if name not in target_names():
        raise StackError(f"target type {name!r} is unknown: use {', '.join(target_names())}")
    return name.replace("-", "_")

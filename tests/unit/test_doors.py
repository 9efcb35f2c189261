"""Rooms whose modules are loaded when somebody asks for what they offer."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import fusedm

ROOT = Path(fusedm.__file__).parent
LAZY = [
    path.parent.name
    for path in sorted(ROOT.glob("*/__init__.py"))
    if "door(" in path.read_text(encoding="utf-8")
]


def imported_for_types(room: str) -> set[str]:
    """What a room's door imports where only checkers of types look."""
    tree = ast.parse((ROOT / room / "__init__.py").read_text(encoding="utf-8"))
    blocks = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    return {f"{node.module}.{alias.name}" for node in imports for alias in node.names}


def test_some_rooms_have_such_doors():
    assert {"block", "control", "dm", "stack", "stores"} <= set(LAZY)


@pytest.mark.parametrize("room", LAZY)
def test_what_is_loaded_is_what_checkers_are_told(room: str):
    package = importlib.import_module(f"fusedm.{room}")
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    told = imported_for_types(room)
    assert {name.rpartition(".")[2] for name in told} == set(package.__all__)
    for name in package.__all__:
        offered = getattr(package, name)
        if name in modules:
            assert f"fusedm.{room}.{name}" in told
        else:
            (place,) = [path for path in told if path.rpartition(".")[2] == name]
            module = importlib.import_module(place.rpartition(".")[0])
            assert offered is getattr(module, name)


def test_what_is_not_offered_is_not_there():
    with pytest.raises(AttributeError, match="'fusedm.block' has no attribute 'nothing'"):
        importlib.import_module("fusedm.block").__getattr__("nothing")


@pytest.mark.parametrize(
    "module",
    ["stack", "block.errors", "dm.mapping", "dm.table", "dm.stacking", "system.view", "dmsetup"],
)
def test_what_does_not_wait_is_loaded_without_what_it_would_wait_with(module: str):
    text = f"import sys, fusedm.{module}; sys.exit('trio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", text], check=False).returncode == 0

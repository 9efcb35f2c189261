"""What the tidy rules look at: the files of the project, their imports and their calls."""

import ast
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef
Rule = Callable[["Project"], Iterator[str]]

_PLACE = re.compile(r"(fusedm(?:[.]\w+)+):(\w+)")


@dataclass(frozen=True)
class Import:
    """One import: `from base import name`, or `import base` without a name.

    module: what is loaded by it, base.name if that is a module and else base.
    """

    line: int
    base: str
    name: str | None
    module: str

    @property
    def room(self) -> str:
        """The room of fusedm it is in; empty for others' modules and for fusedm itself."""
        parts = self.module.split(".")
        return parts[1] if parts[0] == "fusedm" and len(parts) > 1 else ""


@dataclass(frozen=True)
class Module:
    """One Python file."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax."""
        return ast.parse(self.text, self.path)

    @property
    def name(self) -> str:
        """Its dotted name."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def inner(self) -> str:
        """Its path in the package."""
        return self.path.removeprefix("fusedm/")

    @property
    def room(self) -> str:
        """The first part of its name below fusedm; empty for fusedm itself."""
        return self.name.partition(".")[2].partition(".")[0]

    def functions(self) -> Iterator[Function]:
        """Every function and method, nested ones too."""
        return (node for node in ast.walk(self.tree) if isinstance(node, Function))

    def calls(self) -> Iterator[tuple[ast.Call, str]]:
        """Every call, with the dotted name of the class and function it stands in."""
        yield from _calls(self.tree, "")


class Project:
    """The files of a project: path -> text."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self.files = files
        python = [Module(path, text) for path, text in files.items() if path.endswith(".py")]
        self.modules = [module for module in python if module.path.startswith("fusedm/")]
        self.tests = [module for module in python if module.path.startswith("tests/")]
        self.by_name = {module.name: module for module in self.modules}

    @classmethod
    def read(cls, root: Path) -> "Project":
        """Every file below a folder but what was made there: builds, caches and .venv."""
        files = {}
        for folder, folders, names in os.walk(root):
            folders[:] = sorted(name for name in folders if not _is_made(name))
            written = [
                n for n in sorted(names) if n[0] != "." and not n.endswith((".so", ".bin", ".c"))
            ]
            for path in (Path(folder, name) for name in written):
                files[path.relative_to(root).as_posix()] = path.read_text(errors="replace")
        return cls(files)

    def imports(self, module: Module) -> Iterator[Import]:
        """What a module imports, or loads later: a string `fusedm.room.module:name`."""
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Import(node.lineno, alias.name, None, alias.name)
            elif isinstance(node, ast.ImportFrom):
                base = "." * node.level + (node.module or "")
                for alias in node.names:
                    full = f"{base}.{alias.name}"
                    module_name = full if full in self.by_name else base
                    yield Import(node.lineno, base, alias.name, module_name)
            elif isinstance(node, ast.Constant) and (place := _PLACE.fullmatch(str(node.value))):
                yield Import(node.lineno, place[1], place[2], place[1])

    def door(self, room: str) -> set[str]:
        """The names others may import from a room."""
        package = self.by_name.get(f"fusedm.{room}")
        if package is None:
            return set()
        for node in package.tree.body:
            if isinstance(node, ast.Assign) and "__all__" in map(ast.unparse, node.targets):
                return set(ast.literal_eval(node.value))
        return {
            node.name for node in package.tree.body if isinstance(node, ast.ClassDef | Function)
        }


def _is_made(folder: str) -> bool:
    if folder.startswith("."):
        return folder != ".ci"
    return folder in {"__pycache__", "build", "dist"} or folder.endswith(".egg-info")


def _calls(node: ast.AST, place: str) -> Iterator[tuple[ast.Call, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            yield child, place
        named = isinstance(child, ast.ClassDef | Function)
        yield from _calls(child, f"{place}.{child.name}".lstrip(".") if named else place)

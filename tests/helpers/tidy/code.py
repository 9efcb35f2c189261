"""Rules on the code itself: docstrings, errors, lengths, the paths of bios and their data."""

import ast
import builtins
import re
from collections.abc import Iterator
from fnmatch import fnmatch

from tests.helpers.tidy.project import Function, Project, Rule

#: Where bios' data pass and a copy would be paid for on every bio.
PAYLOAD_PATHS = ("crypto/*", "dm/*", "disk/*", "files/*", "fuse/*")

#: The copies that are no copies of payload: (file, function) -> why.
COPIES = {
    ("crypto/carry_out.py", "carry_out"): "zeros for a READ that no device answers",
    ("crypto/luks_keys.py", "derive"): "a passphrase: the library takes nothing else",
    ("dm/mirror/log.py", "RegionLog._block_write"): "marks may change while they are written",
    ("dm/mirror/regions.py", "Regions.missing"): "what is asked for is what is there now",
    ("dm/mirror/regions.py", "Regions.cut"): "zeros after the last region",
    ("dm/raid/changes.py", "_change"): "a factor for each source",
    ("dm/raid/changes.py", "_together"): "a factor for each source",
    ("dm/raid/windows.py", "_spread"): "a factor for each source",
    ("dm/raid/windows.py", "_added"): "a factor for each source",
    ("dm/targets/snapshot.py", "Snapshot._discard"): "zeros for a chunk that is discarded",
    ("files/device_file.py", ""): "zeros to be written, once for all",
}

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 70

_MUTATORS = {"add", "append", "clear", "discard", "extend", "pop", "popleft", "remove", "update"}
_FOLLOW_UP = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX)\b")
_NUMBERED = re.compile(r"(#|issue |DECISIONS )\d+")
_SILENCER = re.compile(r"#\s*(type: ignore(\[[^]]*\])?|noqa(: [A-Z0-9, ]+)?|pragma: no \w+)\s*$")


def everything_public_is_explained(project: Project) -> Iterator[str]:
    """Docstrings: modules, public functions and classes, methods of classes that inherit none."""
    for module in project.modules:
        if ast.get_docstring(module.tree) is None:
            yield f"{module.path}:1: docstring: say in one line what the module is"
        for node in module.tree.body:
            inherits_none = isinstance(node, ast.ClassDef) and not node.bases
            for item in [node, *(node.body if inherits_none else ())]:
                if _is_public(item) and ast.get_docstring(item) is None:
                    yield (
                        f"{module.path}:{item.lineno}: docstring: say in one line what "
                        f"{item.name} is or does"
                    )


def _is_public(node: ast.AST) -> bool:
    return isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_")


def functions_say_what_they_return(project: Project) -> Iterator[str]:
    """Every function of the package has a return annotation."""
    for module in project.modules:
        for function in module.functions():
            if function.returns is None:
                yield (
                    f"{module.path}:{function.lineno}: annotation: say what {function.name} returns"
                )


def exceptions_live_in_errors(project: Project) -> Iterator[str]:
    """Exception classes are defined in block/errors.py and nowhere else."""
    errors = project.by_name.get("fusedm.block.errors")
    ours = {n.name for n in errors.tree.body if isinstance(n, ast.ClassDef)} if errors else set()
    for module in project.modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef) and module is not errors:
                bases = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
                if bases & ours or any(_is_exception(base) for base in bases):
                    yield (
                        f"{module.path}:{node.lineno}: exception: move {node.name} to "
                        "fusedm/block/errors.py"
                    )


def _is_exception(name: str) -> bool:
    known = getattr(builtins, name, None)
    return isinstance(known, type) and issubclass(known, BaseException)


def lengths_are_bounded(project: Project) -> Iterator[str]:
    """Files and functions stay short enough to be read at once."""
    for module in project.modules + project.tests:
        lines = module.text.count("\n")
        if lines > MAX_FILE_LINES:
            yield f"{module.path}:1: length: {lines} lines, at most {MAX_FILE_LINES}: split it"
        for function in module.functions():
            lines = (function.end_lineno or 0) - function.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                yield (
                    f"{module.path}:{function.lineno}: length: {function.name} has {lines} lines, "
                    f"at most {MAX_FUNCTION_LINES}: split it"
                )


def bios_enter_by_plan_bio(project: Project) -> Iterator[str]:
    """Only plan_bio asks a device for a plan, so that every bio is checked; fallbacks are free."""
    for module in project.modules:
        for call, function in module.calls():
            if not (isinstance(call.func, ast.Attribute) and call.func.attr == "plan"):
                continue
            of_fallback = ast.unparse(call.func.value).rpartition(".")[2] == "fallback"
            if not of_fallback and (module.inner, function) != ("crypto/submit.py", "plan_bio"):
                yield f"{module.path}:{call.lineno}: plan: call plan_bio(device, ...), which checks"


def payload_is_not_copied(project: Project) -> Iterator[str]:
    """No bytes(...) or .tobytes() where bios pass, but for COPIES."""
    used = set()
    for module in project.modules:
        if not any(fnmatch(module.inner, pattern) for pattern in PAYLOAD_PATHS):
            continue
        for call, function in module.calls():
            called = ast.unparse(call.func)
            if called != "bytes" and not called.endswith(".tobytes"):
                continue
            used.add((module.inner, function))
            if (module.inner, function) not in COPIES:
                yield (
                    f"{module.path}:{call.lineno}: copy: pass a memoryview on, or give the reason "
                    "in COPIES of tests/helpers/tidy/code.py"
                )
    for path, function in sorted(COPIES.keys() - used):
        yield f"fusedm/{path}:1: copy: {function} copies nothing (any more): take it out of COPIES"


def only_the_command_line_prints(project: Project) -> Iterator[str]:
    """What a user reads is printed in cli/."""
    for module in project.modules:
        for call, _ in module.calls():
            if ast.unparse(call.func) == "print" and module.room != "cli":
                yield f"{module.path}:{call.lineno}: print: raise, log, or return it to cli/"


def asserts_change_nothing(project: Project) -> Iterator[str]:
    """An assert may be left out without a difference."""
    for module in project.modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Assert) and any(map(_changes_state, ast.walk(node.test))):
                yield f"{module.path}:{node.lineno}: assert: do it in a line before the assert"


def _changes_state(node: ast.AST) -> bool:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in _MUTATORS
    return isinstance(node, ast.Await | ast.NamedExpr)


def follow_ups_have_numbers(project: Project) -> Iterator[str]:
    """What is left for later names its issue or decision."""
    for path, text in project.files.items():
        for number, line in enumerate(text.splitlines(), 1):
            if _FOLLOW_UP.search(line) and not _NUMBERED.search(line):
                yield f"{path}:{number}: follow-up: do it, or name the issue: (#12)"


def silencers_have_reasons(project: Project) -> Iterator[str]:
    """A checker is silenced only with a reason, behind it or in a comment line above."""
    for module in project.modules + project.tests:
        above = ""
        for number, line in enumerate(module.text.splitlines(), 1):
            if _SILENCER.search(line) and not above.lstrip().startswith("#"):
                yield f"{module.path}:{number}: silencer: write the reason behind it"
            above = line


RULES: list[Rule] = [
    everything_public_is_explained,
    functions_say_what_they_return,
    exceptions_live_in_errors,
    lengths_are_bounded,
    bios_enter_by_plan_bio,
    payload_is_not_copied,
    only_the_command_line_prints,
    asserts_change_nothing,
    follow_ups_have_numbers,
    silencers_have_reasons,
]

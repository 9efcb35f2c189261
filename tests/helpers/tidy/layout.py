"""Rules on the layout: layers, doors, places, targets, and that everything is used and found."""

import ast
import os
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import PurePosixPath

from tests.helpers.tidy.project import Function, Module, Project, Rule

#: Rooms from the ground up; a room imports from lower levels only.
LEVELS = {
    "block": 0,
    "nbd": 0,
    "crypto": 1,
    "stores": 1,
    "host": 1,
    "tables": 1,
    "dm": 2,
    "disk": 2,
    "system": 3,
    "stack": 4,
    "files": 5,
    "fuse": 6,
    "export": 6,
    "inspect": 7,
    "control": 8,
    "dmsetup": 9,
    "bench": 10,
    "cli": 11,
    "__main__": 12,
}

#: The rooms whose modules are open to everyone above: words, and what the machine offers.
OPEN_ROOMS = {"block", "host"}

#: Modules (os means its file I/O) that only some files may use. Patterns are relative to fusedm/.
ONLY_IN = {
    "trio": (
        "crypto/profile.py",
        "crypto/workers.py",
        "crypto/carry_out.py",
        "dm/admission.py",
        "dm/background.py",
        "dm/events.py",
        "dm/mapped_device.py",
        "dm/scripts.py",
        "disk/disk.py",
        "disk/io.py",
        "stores/nbd/*.py",
        "stores/opening.py",
        "stores/rbd/store.py",
        "stack/stack.py",
        "stack/engine_secrets.py",
        "stack/device_mapper.py",
        "stack/outside.py",
        "stack/freezing.py",
        "files/device_file.py",
        "files/letting_in.py",
        "fuse/lane.py",
        "fuse/mount.py",
        "export/*.py",
        "inspect/reuse.py",
        "inspect/verify.py",
        "control/forgetting.py",
        "control/server.py",
        "control/daemon.py",
        "control/key_commands.py",
        "control/detached.py",
    ),
    "pyfuse3": ("fuse/libfuse.py",),
    # What checks the data path (verify, the demo's proof) must share no code with it.
    # Wrapping keys is no cipher of data: it needs other parts of the library, and no plan or slot.
    "cryptography": (
        "crypto/luks_keys.py",
        "crypto/wrapped_keys.py",
        "inspect/independent.py",
    ),
    "click": (
        "cli/main.py",
        "cli/verbs.py",
        "cli/stacks.py",
        "cli/running.py",
        "cli/catalogue.py",
        "cli/devices.py",
        "cli/dmsetup_command.py",
        "cli/keys.py",
        "cli/demo.py",
        "cli/bench_command.py",
        "cli/engine_options.py",
        "cli/hardware.py",
        "cli/looking.py",
        "cli/luks.py",
        "cli/nbd.py",
        "cli/tables.py",
        "cli/verifying.py",
    ),
    "matplotlib": ("bench/plot.py",),
    "socket": (
        "stores/nbd/transport.py",
        "export/listening.py",
        "host/doctor.py",
        "host/kernel_mount.py",
        "fuse/lane.py",
        "control/server.py",
        "control/client.py",
        "control/daemon.py",
        "dmsetup/caller.py",
        "dmsetup/server.py",
        "dmsetup/server_socket.py",
        "control/detached.py",
    ),
    "subprocess": (
        "host/kernel_mount.py",
        "host/luks.py",
        "host/mounts.py",
        "bench/processes.py",
        "cli/run_command.py",
        "dmsetup/session.py",
        "dmsetup/telling.py",
    ),
    "ctypes": (
        "stores/host.py",
        "stores/rbd/image.py",
        "stores/rbd/library.py",
        "host/keyring.py",
        "host/kernel_mount.py",
        "fuse/mount.py",
        "host/doctor.py",
        "host/process.py",
        "host/write_back.py",
    ),
    "os": (
        "stores/file.py",
        "stores/descriptor.py",
        "stack/key_sources.py",
        "fuse/replies.py",
        "export/listening.py",
        "host/*",
        "control/*",
        "bench/layers.py",
        "cli/*",
        "dmsetup/attachment.py",
        "dmsetup/caller.py",
        "dmsetup/run.py",
        "dmsetup/server.py",
        "dmsetup/session.py",
    ),
}

OS_FILE_IO = {"open", "read", "readv", "pread", "preadv", "write", "writev", "pwrite", "pwritev"}

TARGET_HEADINGS = ["## Parameters", "## Example", "## Crypto", "## Kernel", "## See also"]

_LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def imports_point_down(project: Project) -> Iterator[str]:
    """A room imports from lower levels and from itself; nobody imports relatively."""
    for module in project.modules:
        for found in project.imports(module):
            where = f"{module.path}:{found.line}: imports point down"
            if found.module.startswith("."):
                yield f"{where}: import by full path, not relatively"
            elif not found.room or found.room == module.room:
                continue
            elif found.room not in LEVELS or module.room not in LEVELS:
                room = found.room if found.room not in LEVELS else module.room or "fusedm"
                yield f"{where}: {room} is no room: move the code into one, or give it a level"
            elif LEVELS[found.room] >= LEVELS[module.room]:
                yield (
                    f"{where}: {module.room} is on level {LEVELS[module.room]} and {found.room} on "
                    f"{LEVELS[found.room]}: move the shared code down, or pass it in as an argument"
                )


def rooms_have_doors(project: Project) -> Iterator[str]:
    """From outside only what a room's __init__ lists is imported, and nothing private anywhere."""
    for module in project.modules:
        for found in project.imports(module):
            where = f"{module.path}:{found.line}: door"
            if found.room and found.name and found.name.startswith("_"):
                yield f"{where}: {found.name} is private to {found.module}: give it a public name"
            if not found.room or found.room in {module.room, *OPEN_ROOMS}:
                continue
            room = f"fusedm.{found.room}"
            if found.base != room or found.name is None:
                yield f"{where}: take it by `from {room} import`, not from {found.base}"
            elif found.name not in project.door(found.room):
                yield f"{where}: {room} does not offer {found.name}: list it in its __all__"


def targets_stand_alone(project: Project) -> Iterator[str]:
    """No target imports another."""
    for module in project.modules:
        if module.inner.startswith("dm/targets/"):
            for found in project.imports(module):
                if found.module.startswith("fusedm.dm.targets"):
                    yield (
                        f"{module.path}:{found.line}: sibling target: move what "
                        f"{found.module} shares into dm/target.py"
                    )


def outsiders_stay_in_place(project: Project) -> Iterator[str]:
    """Third parties, sockets, processes and file I/O are used only where ONLY_IN says."""
    used: set[tuple[str, str]] = set()
    for module in project.modules:
        for line, outsider in _outsiders(project, module):
            fitting = [p for p in ONLY_IN[outsider] if fnmatch(module.inner, p)]
            used |= {(outsider, pattern) for pattern in fitting}
            if not fitting:
                what = "file I/O of os" if outsider == "os" else outsider
                places = ", ".join(ONLY_IN[outsider])
                yield f"{module.path}:{line}: place: {what} belongs in {places}: move it there"
    for outsider, patterns in ONLY_IN.items():
        for pattern in patterns:
            if (outsider, pattern) not in used:
                yield (
                    f"fusedm/{pattern}:1: place: it does not use {outsider} (any more): "
                    "take it out of ONLY_IN in tests/helpers/tidy/layout.py"
                )


def _outsiders(project: Project, module: Module) -> Iterator[tuple[int, str]]:
    for found in project.imports(module):
        if (top := found.module.partition(".")[0]) in ONLY_IN and top != "os":
            yield found.line, top
        if found.base == "os" and found.name in OS_FILE_IO:
            yield found.line, "os"
    for node in ast.walk(module.tree):
        is_file_io = isinstance(node, ast.Attribute) and node.attr in OS_FILE_IO
        if is_file_io and ast.unparse(node.value) == "os":
            yield node.lineno, "os"


def targets_are_complete(project: Project) -> Iterator[str]:
    """A target has a doc with all headings, a test, and a row in the README's table."""
    readme = project.files.get("README.md", "")
    for module in project.modules:
        path = PurePosixPath(module.path)
        if str(path.parent) != "fusedm/dm/targets" or path.name == "__init__.py":
            continue
        where = f"{module.path}:1: complete target"
        doc = str(path.with_suffix(".md"))
        headings = [f"# {path.stem.replace('_', '-')}", *TARGET_HEADINGS]
        found = [row for row in project.files.get(doc, "").splitlines() if row.startswith("#")]
        if found != headings:
            yield f"{where}: give {doc} the headings {', '.join(headings)}, in this order"
        if f"tests/unit/dm/targets/test_{path.name}" not in project.files:
            yield f"{where}: write tests/unit/dm/targets/test_{path.name}"
        if not any(row.startswith("|") and f"]({doc})" in row for row in readme.splitlines()):
            yield f"{where}: give README.md a table row that links to {doc}"


def modules_are_used(project: Project) -> Iterator[str]:
    """Every module is imported by another; what is on a shelf is found by name."""
    imported = {found.module for module in project.modules for found in project.imports(module)}
    for module in project.modules:
        found_by_name = module.path.endswith(("/__init__.py", "/__main__.py"))
        if found_by_name or module.inner.startswith(("dm/targets/", "tables/grammars/")):
            continue
        if module.name not in imported:
            yield f"{module.path}:1: unused: nothing imports it: export it from its room or drop it"


def tests_are_found(project: Project) -> Iterator[str]:
    """test_*.py has a test, and a test is in such a file, where pytest finds it."""
    for module in project.tests:
        is_test_file = PurePosixPath(module.path).name.startswith("test_")
        tests = [line for line, name in _test_names(module)]
        if is_test_file and not tests:
            yield f"{module.path}:1: tests: no test in it: write one or drop the file"
        elif tests and not is_test_file:
            yield f"{module.path}:{tests[0]}: tests: pytest does not look here: name it test_*.py"


def _test_names(module: Module) -> Iterator[tuple[int, str]]:
    for node in module.tree.body:
        names = [ast.unparse(t) for t in node.targets] if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.ClassDef | Function):
            names = [node.name]
        yield from ((node.lineno, name) for name in names if re.match("test_|Test[A-Z]", name))


def links_lead_somewhere(project: Project) -> Iterator[str]:
    """Relative links of every .md name a file or folder of the project."""
    known = set(project.files) | {str(p) for f in project.files for p in PurePosixPath(f).parents}
    for path, text in project.files.items():
        prose = _CODE.sub(lambda code: re.sub(r"[^\n]", " ", code[0]), text)
        for link in _LINK.finditer(prose) if path.endswith(".md") else ():
            target = link[1].partition("#")[0]
            where = os.path.normpath(os.path.join(os.path.dirname(path), target))
            if target and ":" not in target and where not in known:
                line = prose.count("\n", 0, link.start()) + 1
                yield f"{path}:{line}: link: {target} is not there: mend the link"


def pure_modules_exist(project: Project) -> Iterator[str]:
    """What the Makefile wants covered whole is there, or the promise would be empty."""
    found = re.search(r"^PURE :?=((?:.*\\\n)*.*)$", project.files.get("Makefile", ""), re.M)
    for pattern in found[1].replace("\\", " ").split() if found else ():
        if not any(fnmatch(path, pattern) for path in project.files):
            yield f"Makefile:1: pure: PURE names {pattern}, which is not there: take it out"


RULES: list[Rule] = [
    imports_point_down,
    rooms_have_doors,
    targets_stand_alone,
    outsiders_stay_in_place,
    targets_are_complete,
    modules_are_used,
    tests_are_found,
    links_lead_somewhere,
    pure_modules_exist,
]

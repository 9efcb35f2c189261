"""The tidy test: every rule holds for this project, and every rule can fail."""

from pathlib import Path

import pytest

from tests.helpers.tidy import code, layout
from tests.helpers.tidy.project import Project, Rule

PROJECT = Project.read(Path(__file__).parents[1])
RULES = layout.RULES + code.RULES

DOCUMENTED = '"""What it is."""\n'
#: Not written out, or the rule would find it here.
FOLLOW_UP = "todo".upper()
DM_DOOR = {"fusedm/dm/__init__.py": '__all__ = ["Table"]\n', "fusedm/dm/table.py": ""}
TARGET = {
    "fusedm/dm/targets/log_x.py": "",
    "fusedm/dm/targets/log_x.md": "\n".join(["# log-x", *layout.TARGET_HEADINGS]),
    "tests/unit/dm/targets/test_log_x.py": "def test_it(): ...\n",
    "README.md": "| [log-x](fusedm/dm/targets/log_x.md) | logs |\n",
}


def without(path: str) -> dict[str, str]:
    return {key: text for key, text in TARGET.items() if key != path}


#: rule, files, and how the one finding about them begins.
BAD: list[tuple[Rule, dict[str, str], str]] = [
    (
        layout.imports_point_down,
        {"fusedm/block/bio.py": "\nfrom fusedm.dm import Table\n"},
        "fusedm/block/bio.py:2: imports point down: block is on level 0 and dm on 2",
    ),
    (
        layout.imports_point_down,
        {"fusedm/stores/a.py": "from fusedm.crypto import submit_bio\n"},
        "fusedm/stores/a.py:1: imports point down: stores is on level 1 and crypto on 1",
    ),
    (
        layout.imports_point_down,
        {"fusedm/disk.py": "def f():\n    import fusedm.system\n"},
        "fusedm/disk.py:2: imports point down: disk is on level 2 and system on 3",
    ),
    (
        layout.imports_point_down,
        {"fusedm/dm/a.py": "from .table import Table\n"},
        "fusedm/dm/a.py:1: imports point down: import by full path",
    ),
    (
        layout.imports_point_down,
        {"fusedm/dm/a.py": "from fusedm.utils import f\n"},
        "fusedm/dm/a.py:1: imports point down: utils is no room",
    ),
    (
        layout.imports_point_down,
        {"fusedm/stores/a.py": 'LATER = "fusedm.dm.table:Table"\n'},
        "fusedm/stores/a.py:1: imports point down: stores is on level 1 and dm on 2",
    ),
    (
        layout.rooms_have_doors,
        DM_DOOR | {"fusedm/system/a.py": "from fusedm.dm.table import Table\n"},
        "fusedm/system/a.py:1: door: take it by `from fusedm.dm import`, not from fusedm.dm.table",
    ),
    (
        layout.rooms_have_doors,
        DM_DOOR | {"fusedm/system/a.py": "from fusedm.dm import table\n"},
        "fusedm/system/a.py:1: door: fusedm.dm does not offer table",
    ),
    (
        layout.rooms_have_doors,
        DM_DOOR | {"fusedm/system/a.py": "import fusedm.dm\n"},
        "fusedm/system/a.py:1: door: take it by `from fusedm.dm import`",
    ),
    (
        layout.rooms_have_doors,
        {"fusedm/disk.py": "class Disk: ...\n", "fusedm/system/a.py": "from fusedm import disk\n"},
        "fusedm/system/a.py:1: door: take it by `from fusedm.disk import`",
    ),
    (
        layout.rooms_have_doors,
        {"fusedm/dm/a.py": "from fusedm.dm.table import _split\n"},
        "fusedm/dm/a.py:1: door: _split is private",
    ),
    (
        layout.targets_stand_alone,
        {"fusedm/dm/targets/a.py": "from fusedm.dm.targets.b import B\n"},
        "fusedm/dm/targets/a.py:1: sibling target",
    ),
    (
        layout.outsiders_stay_in_place,
        {"fusedm/dm/table.py": "import trio\n"},
        "fusedm/dm/table.py:1: place: trio belongs in",
    ),
    (
        layout.outsiders_stay_in_place,
        {"fusedm/fuse/tree.py": "from pyfuse3 import FUSEError\n"},
        "fusedm/fuse/tree.py:1: place: pyfuse3 belongs in",
    ),
    (
        layout.outsiders_stay_in_place,
        {"fusedm/disk.py": "import cryptography.hazmat\n"},
        "fusedm/disk.py:1: place: cryptography belongs in",
    ),
    (
        layout.outsiders_stay_in_place,
        {"fusedm/disk.py": "import os\nread = os.pread\n"},
        "fusedm/disk.py:2: place: file I/O of os belongs in",
    ),
    (
        layout.outsiders_stay_in_place,
        {"fusedm/disk.py": "from os import pwritev\n"},
        "fusedm/disk.py:1: place: file I/O of os belongs in",
    ),
    (
        layout.outsiders_stay_in_place,
        {"fusedm/crypto/carry_out.py": ""},
        "fusedm/crypto/carry_out.py:1: place: it does not use trio",
    ),
    (
        layout.targets_are_complete,
        without("README.md"),
        "fusedm/dm/targets/log_x.py:1: complete target: give README.md a table row",
    ),
    (
        layout.targets_are_complete,
        without("tests/unit/dm/targets/test_log_x.py"),
        "fusedm/dm/targets/log_x.py:1: complete target: write tests/unit",
    ),
    (
        layout.targets_are_complete,
        TARGET | {"fusedm/dm/targets/log_x.md": "# log-x\n\n## Example\n"},
        "fusedm/dm/targets/log_x.py:1: complete target: give fusedm/dm/targets/log_x.md",
    ),
    (
        layout.modules_are_used,
        {"fusedm/dm/spare.py": "", "tests/test_spare.py": "import fusedm.dm.spare\n"},
        "fusedm/dm/spare.py:1: unused",
    ),
    (
        layout.tests_are_found,
        {"tests/unit/test_a.py": "def check(): ...\n"},
        "tests/unit/test_a.py:1: tests: no test",
    ),
    (
        layout.tests_are_found,
        {"tests/unit/a.py": "\nasync def test_it(): ...\n"},
        "tests/unit/a.py:2: tests: pytest does not look here",
    ),
    (
        layout.links_lead_somewhere,
        {"fusedm/dm/README.md": "One\n\n[two](targets/two.md#top)\n"},
        "fusedm/dm/README.md:3: link: targets/two.md is not there",
    ),
    (
        layout.pure_modules_exist,
        {"Makefile": "PURE = fusedm/block/* \\\n  fusedm/dm/table.py\n", "fusedm/block/a.py": ""},
        "Makefile:1: pure: PURE names fusedm/dm/table.py",
    ),
    (
        code.everything_public_is_explained,
        {"fusedm/a.py": "x = 1\n"},
        "fusedm/a.py:1: docstring: say in one line what the module is",
    ),
    (
        code.everything_public_is_explained,
        {"fusedm/a.py": DOCUMENTED + "async def f() -> None: ...\n"},
        "fusedm/a.py:2: docstring: say in one line what f is or does",
    ),
    (
        code.everything_public_is_explained,
        {"fusedm/a.py": DOCUMENTED + "class _A:\n    def f(self) -> None: ...\n"},
        "fusedm/a.py:3: docstring: say in one line what f is or does",
    ),
    (
        code.functions_say_what_they_return,
        {"fusedm/a.py": "class A:\n    def __init__(self): ...\n"},
        "fusedm/a.py:2: annotation: say what __init__ returns",
    ),
    (
        code.exceptions_live_in_errors,
        {"fusedm/dm/a.py": "class Odd(ValueError): ...\n"},
        "fusedm/dm/a.py:1: exception: move Odd",
    ),
    (
        code.exceptions_live_in_errors,
        {
            "fusedm/block/errors.py": "class Refused(Exception): ...\n",
            "fusedm/dm/a.py": "class Odd(errors.Refused): ...\n",
        },
        "fusedm/dm/a.py:1: exception: move Odd",
    ),
    (
        code.lengths_are_bounded,
        {"tests/test_a.py": "x = 1\n" * 401},
        "tests/test_a.py:1: length: 401 lines, at most 400",
    ),
    (
        code.lengths_are_bounded,
        {"fusedm/a.py": "def f():\n" + "    x = 1\n" * 70},
        "fusedm/a.py:1: length: f has 71 lines, at most 70",
    ),
    (
        code.bios_enter_by_plan_bio,
        {"fusedm/dm/a.py": "def f(device):\n    device.plan(bio, builder, route)\n"},
        "fusedm/dm/a.py:2: plan: call plan_bio",
    ),
    (
        code.bios_enter_by_plan_bio,
        {"fusedm/crypto/submit.py": "def other(device):\n    device.plan(bio)\n"},
        "fusedm/crypto/submit.py:2: plan: call plan_bio",
    ),
    (
        code.payload_is_not_copied,
        {"fusedm/dm/a.py": "def f(bio):\n    return bytes(bio.data)\n"},
        "fusedm/dm/a.py:2: copy: pass a memoryview on",
    ),
    (
        code.payload_is_not_copied,
        {"fusedm/fuse/a.py": "def f(bio):\n    return bio.data.tobytes()\n"},
        "fusedm/fuse/a.py:2: copy: pass a memoryview on",
    ),
    (
        code.payload_is_not_copied,
        {"fusedm/crypto/carry_out.py": ""},
        "fusedm/crypto/carry_out.py:1: copy: carry_out copies nothing",
    ),
    (
        code.only_the_command_line_prints,
        {"fusedm/stack/a.py": "def f():\n    print(1)\n"},
        "fusedm/stack/a.py:2: print",
    ),
    (
        code.asserts_change_nothing,
        {"fusedm/a.py": "assert queue.pop() is None\n"},
        "fusedm/a.py:1: assert",
    ),
    (
        code.asserts_change_nothing,
        {"fusedm/a.py": "assert (x := 1)\n"},
        "fusedm/a.py:1: assert",
    ),
    (
        code.follow_ups_have_numbers,
        {"scripts/a.sh": f"\n# {FOLLOW_UP} make it fast\n"},
        "scripts/a.sh:2: follow-up",
    ),
    (
        code.silencers_have_reasons,
        {"fusedm/a.py": "import os\nimport x  # type: ignore[import]\n"},
        "fusedm/a.py:2: silencer",
    ),
    (
        code.silencers_have_reasons,
        {"tests/test_a.py": "import x  # noqa: F401\n"},
        "tests/test_a.py:1: silencer",
    ),
]

#: rule, and files that come near to breaking it but do not.
GOOD: list[tuple[Rule, dict[str, str]]] = [
    (layout.imports_point_down, {"fusedm/dm/a.py": "import fusedm.block.bio\nimport errno\n"}),
    (layout.rooms_have_doors, DM_DOOR | {"fusedm/system/a.py": "from fusedm.dm import Table\n"}),
    (layout.rooms_have_doors, {"fusedm/dm/a.py": "from fusedm.block.errors import TableError\n"}),
    (layout.rooms_have_doors, {"fusedm/dm/a.py": "from fusedm.dm.table import Table\n"}),
    (layout.rooms_have_doors, {"fusedm/control/a.py": "from fusedm import __version__\n"}),
    (layout.targets_stand_alone, {"fusedm/dm/targets/a.py": "from fusedm.dm.target import T\n"}),
    (layout.outsiders_stay_in_place, {"fusedm/dm/a.py": "import os\nos.strerror(1)\n"}),
    (layout.targets_are_complete, TARGET),
    (
        layout.modules_are_used,
        {
            "fusedm/dm/__init__.py": "from fusedm.dm import a\n",
            "fusedm/dm/a.py": "",
            "fusedm/dm/targets/b.py": "",
            "fusedm/__main__.py": "",
        },
    ),
    (layout.tests_are_found, {"tests/test_a.py": "TestKeyslots = Machine.TestCase\n"}),
    (layout.tests_are_found, {"tests/helpers/a.py": "def testing(): ...\n"}),
    (
        layout.links_lead_somewhere,
        {
            "fusedm/dm/README.md": "[up](../../tests/) [web](https://a.b) `[no](x.md)` [here](#a)",
            "tests/a.py": "",
        },
    ),
    (code.everything_public_is_explained, {"fusedm/a.py": DOCUMENTED + "def _f(): ...\n"}),
    (
        code.everything_public_is_explained,
        {"fusedm/a.py": DOCUMENTED + f"class A(B):\n    {DOCUMENTED}\n    def f(self): ...\n"},
    ),
    (code.exceptions_live_in_errors, {"fusedm/block/errors.py": "class A(Exception): ...\n"}),
    (code.lengths_are_bounded, {"fusedm/a.py": "x = 1\n" * 400}),
    (
        code.bios_enter_by_plan_bio,
        {
            "fusedm/crypto/submit.py": "def plan_bio(device):\n    device.plan(bio)\n",
            "fusedm/disk.py": "def f(self):\n    self.fallback.plan(bio)\n",
        },
    ),
    (code.payload_is_not_copied, {"fusedm/stores/a.py": "data = bytes(buffer)\n"}),
    (code.only_the_command_line_prints, {"fusedm/cli/main.py": "print(1)\n"}),
    (code.asserts_change_nothing, {"fusedm/a.py": "assert names.get(1) == len(names)\n"}),
    (code.follow_ups_have_numbers, {"fusedm/a.py": f"# {FOLLOW_UP} (#12): make it fast\n"}),
    (
        code.silencers_have_reasons,
        {
            "fusedm/a.py": "import x  # type: "
            "ignore[import]  # it has no types\n"
            "# It has no types.\nimport y  # type: "
            "ignore[import]\n"
        },
    ),
]


def findings_about(rule: Rule, files: dict[str, str]) -> list[str]:
    """What a rule finds in these files; not what the real tables lack in them."""
    return [f for f in rule(Project(files)) if f.partition(":")[0] in files]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_this_project_keeps(rule: Rule):
    found = list(rule(PROJECT))
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(("rule", "files", "begin"), BAD, ids=[case[2] for case in BAD])
def test_a_broken_rule_is_found(rule: Rule, files: dict[str, str], begin: str):
    found = findings_about(rule, files)
    assert [line for line in found if line.startswith(begin)], found


@pytest.mark.parametrize(
    ("rule", "files"), GOOD, ids=[f"{case[0].__name__} {n}" for n, case in enumerate(GOOD)]
)
def test_what_keeps_a_rule_is_left_alone(rule: Rule, files: dict[str, str]):
    assert findings_about(rule, files) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_there_is_a_bad_example_of(rule: Rule):
    assert any(case[0] is rule for case in BAD)


def test_the_project_is_read_whole_without_what_was_made():
    assert {"fusedm/__init__.py", "README.md", "Makefile", ".ci/run"} <= PROJECT.files.keys()
    assert not [path for path in PROJECT.files if path.startswith((".venv", ".git"))]

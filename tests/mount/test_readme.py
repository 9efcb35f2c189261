"""The README typed from top to bottom, by one shell with `set -e`."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.helpers.cli import PROGRAM, clear
from tests.helpers.dmsetup import dmsetup_in

pytestmark = [pytest.mark.fuse, pytest.mark.loop]

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(console|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
END = "--- end of a command\n"


def commands_of(readme: str) -> list[tuple[str, list[str] | None]]:
    """Every command in the README, in order, and the lines it prints, where these are shown."""
    commands: list[tuple[str, list[str] | None]] = []
    for language, text in BLOCK.findall(readme):
        for line in text.splitlines():
            if language == "sh":
                commands.append((line, None))
            elif line.startswith("$ "):
                shown: list[str] = []
                commands.append((line.removeprefix("$ "), shown))
            else:
                shown.append(line)
    return commands


def shape(line: str) -> str:
    """A line without what differs between machines and runs: numbers, widths, whether tmpfs."""
    if line.startswith("answered: "):
        return "answered"
    return re.sub(r"\s+", " ", re.sub(r"\d+", "N", line))


def test_the_readme_typed_from_top_to_bottom_does_what_it_shows(tmp_path):
    readme = (ROOT / "README.md").read_text()
    for shown, here in (("/tmp/tour", "tour"), ("/dev/mapper", "dev/mapper"), (" /mnt", "mnt")):
        blank = " " * (len(shown) - len(shown.lstrip()))
        readme = readme.replace(shown, f"{blank}{tmp_path / here}")
    commands = commands_of(readme)
    for name in ("mnt", "home"):
        (tmp_path / name).mkdir()
    with dmsetup_in(tmp_path) as dmsetup:
        env = dmsetup.environ | {"HOME": str(tmp_path / "home"), "LC_ALL": "C.UTF-8"}
        env["PATH"] = f"{Path(PROGRAM).parent}:{env['PATH']}"
        script = "".join(f"{line}\necho '{END[:-1]}'\n" for line, _ in commands)
        try:
            done = subprocess.run(
                ["bash", "-e"], input=script, cwd=ROOT, env=env, text=True, timeout=240,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
            )  # fmt: skip
        finally:
            clear(tmp_path / "tour/mnt")
    printed = done.stdout.split(END)
    for (line, shown), told in zip(commands, printed, strict=False):
        if shown is not None:
            assert [shape(x) for x in told.splitlines()] == [shape(x) for x in shown], line
    assert (done.returncode, len(printed)) == (0, len(commands) + 1), printed[-1]

"""The set-up script, on machines made of a few small programs on the PATH."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = (ROOT / "scripts/setup.sh").read_text()
PACKAGES = " ".join(re.findall(r"packages=\((.*?)\)", SCRIPT, re.DOTALL)).split()
assert len(PACKAGES) > 10

#: A Python that makes a .venv of itself; pip fails as long as there is a file `offline`.
PYTHON = """
case "$*" in
    -V) echo Python 3.12.1 ;;
    -) exit 0 ;;
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && echo venv >>log ;;
    "-m pip "*)
        echo "Building fusedm"
        [ ! -e offline ] && cp "$0" .venv/bin/fusedm && echo pip >>log
        ;;
    *) exit 1 ;;
esac
"""


@dataclass
class Machine:
    """A folder of programs, and a clone in a folder with a space in its name."""

    programs: Path
    clone: Path

    def program(self, name: str, script: str) -> None:
        """Put a program on the PATH."""
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{script}")
        path.chmod(0o755)

    def installed(self, *but: str) -> None:
        """Have all packages installed but these."""
        names = [name for name in PACKAGES if name not in but]
        self.program("dpkg-query", "".join(f"echo {name} installed\n" for name in names))

    def set_up(
        self, stdout: int = subprocess.PIPE, before: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run the script, from elsewhere."""
        return subprocess.run(
            [str(self.clone / "scripts/setup.sh")],
            env={"PATH": f"{before}{self.programs}"},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    def log(self) -> list[str]:
        """What the programs did."""
        log = self.clone / "log"
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A user's machine with everything it needs, but without sudo."""
    made = Machine(tmp_path / "bin", tmp_path / "a clone")
    made.programs.mkdir()
    for name in ("bash", "cat", "cmp", "cp", "dirname", "env", "mkdir", "rm", "sha256sum"):
        (made.programs / name).symlink_to(str(shutil.which(name)))
    made.program("id", "echo 1000")
    made.program("apt-get", 'echo "apt-get $*" >>log')
    made.program("python3", PYTHON)
    made.installed()
    compiled = [path.relative_to(ROOT) for path in sorted(ROOT.glob("fusedm/*/*.p[xy][xd]"))]
    written = ["pyproject.toml", "setup.py", "scripts/setup.sh", "scripts/constraints.txt"]
    for path in (*written, "fusedm/dmsetup/client.c", *compiled):
        (made.clone / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, made.clone / path)
    return made


def test_without_root_and_sudo_the_apt_line_is_printed(machine: Machine):
    machine.installed("fuse3", "gcc")
    done = machine.set_up()
    assert done.returncode == 2
    assert "apt-get install -y --no-install-recommends gcc fuse3\n" in done.stderr
    assert machine.log() == []


def test_a_sudo_that_wants_a_password_is_as_good_as_none(machine: Machine):
    machine.installed("fuse3")
    machine.program("sudo", "exit 1")
    done = machine.set_up()
    assert done.returncode == 2
    assert "apt-get install -y --no-install-recommends fuse3\n" in done.stderr


def test_only_the_missing_packages_are_installed_with_sudo(machine: Machine):
    machine.installed("fuse3")
    machine.program("sudo", 'shift\nexec "$@"')
    (machine.programs / "true").symlink_to(str(shutil.which("true")))
    assert machine.set_up().returncode == 0
    assert machine.log()[:2] == [
        "apt-get update -q",
        "apt-get install -y -q --no-install-recommends fuse3",
    ]


def test_root_needs_no_sudo(machine: Machine):
    machine.installed("fuse3")
    machine.program("id", "echo 0")
    assert machine.set_up().returncode == 0
    assert len(machine.log()) == 4


def test_the_kernel_for_tests_is_installed_where_there_is_one(machine: Machine):
    machine.installed("user-mode-linux")
    machine.program("id", "echo 0")
    assert machine.set_up().returncode == 0
    assert machine.log() == [
        "apt-get install -y -q --no-install-recommends user-mode-linux",
        "venv",
        "pip",
    ]


def test_a_system_without_a_kernel_for_tests_is_set_up_and_told(machine: Machine):
    machine.installed("user-mode-linux")
    machine.program("id", "echo 0")
    machine.program("apt-get", 'case "$*" in *user-mode-linux) exit 100 ;; esac')
    done = machine.set_up()
    assert done.returncode == 0
    assert "tests are skipped without these packages: user-mode-linux" in done.stdout


def test_without_root_the_kernel_for_tests_is_not_asked_for(machine: Machine):
    machine.installed("user-mode-linux", "dmsetup")
    done = machine.set_up()
    assert done.returncode == 0
    assert "skipped without these packages: user-mode-linux dmsetup" in done.stdout
    assert machine.log() == ["venv", "pip"]


def test_a_system_without_apt_is_told_what_is_needed(machine: Machine):
    (machine.programs / "apt-get").unlink()
    done = machine.set_up()
    assert done.returncode == 2
    assert "libfuse3-dev" in done.stderr


def test_a_python_that_is_too_old_or_not_whole_is_refused(machine: Machine):
    machine.program("python3", "exit 1")
    done = machine.set_up()
    assert done.returncode == 2
    assert "Python 3.11 or later" in done.stderr


def test_a_later_python_beside_an_old_one_is_taken(machine: Machine):
    machine.program("python3", "exit 1")
    machine.program("python3.13", PYTHON)
    assert machine.set_up().returncode == 0


def test_a_second_run_does_nothing_and_says_nothing(machine: Machine):
    assert machine.set_up().returncode == 0
    done = machine.set_up()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert machine.log() == ["venv", "pip"]


def test_every_step_is_told_and_what_it_prints_is_not(machine: Machine):
    done = machine.set_up()
    first, second, last = done.stdout.splitlines()
    assert first == "set-up: making .venv with Python 3.12.1"
    assert second.startswith("set-up: installing fusedm and what it needs in .venv")
    assert re.fullmatch(r"set-up: done in \d+ s", last)
    assert done.stderr == ""


def test_on_a_terminal_what_a_step_prints_moves_by(machine: Machine):
    ours, its = os.openpty()
    machine.set_up(stdout=its)
    os.close(its)
    told = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert "\r\x1b[K    Building fusedm\r\x1b[Kset-up: done" in told


def test_what_a_step_that_fails_has_printed_is_shown(machine: Machine):
    (machine.clone / "offline").touch()
    done = machine.set_up()
    assert (done.returncode, done.stderr) == (1, "    Building fusedm\n")


def test_the_command_holds_interrupts_until_python_has_started(machine: Machine):
    machine.set_up()
    first = (machine.clone / ".venv/bin/fusedm").read_text().splitlines()[0]
    python = machine.clone / ".venv/bin/python"
    assert first == f'#!/usr/bin/env -S --block-signal=INT "{python}"'


def test_an_interrupted_set_up_is_begun_again(machine: Machine):
    (machine.clone / "offline").touch()
    assert machine.set_up().returncode != 0
    (machine.clone / "offline").unlink()
    assert machine.set_up().returncode == 0
    assert machine.log() == ["venv", "venv", "pip"]


def test_a_moved_clone_is_set_up_anew(machine: Machine):
    machine.set_up()
    machine.clone = machine.clone.rename(machine.clone.with_name("moved"))
    assert machine.set_up().returncode == 0
    assert machine.log() == ["venv", "pip"] * 2


def test_changed_requirements_are_set_up_anew(machine: Machine):
    machine.set_up()
    (machine.clone / "pyproject.toml").write_text("[project]\n")
    assert machine.set_up().returncode == 0
    assert machine.log() == ["venv", "pip"] * 2


def test_a_changed_module_is_compiled_again_and_nothing_else_is_done(machine: Machine):
    machine.set_up()
    (machine.clone / "fusedm/crypto/evp.pyx").write_text("# Changed.\n")
    assert machine.set_up().stdout == "set-up: compiling again\n"
    assert machine.set_up().stdout == ""
    assert machine.log() == ["venv", "pip", "pip"]


def test_a_compiled_module_that_is_gone_is_compiled_again(machine: Machine):
    module = machine.clone / "fusedm/crypto/evp.so"
    module.touch()
    machine.set_up()
    module.unlink()
    assert machine.set_up().stdout == "set-up: compiling again\n"


def test_the_old_venv_on_the_path_does_not_make_the_new_one(machine: Machine):
    machine.set_up()
    (machine.clone / "pyproject.toml").write_text("[project]\n")
    (machine.clone / ".venv/bin/python3").write_text("#!/bin/sh\nexit 0\n")
    (machine.clone / ".venv/bin/python3").chmod(0o755)
    done = machine.set_up(before=f"{machine.clone}/.venv/bin:")
    assert (done.returncode, done.stderr) == (0, "")


def test_an_upgraded_python_is_set_up_anew(machine: Machine):
    machine.set_up()
    (machine.clone / ".venv/bin/python").write_text("#!/bin/sh\necho Python 3.12.2\n")
    assert machine.set_up().returncode == 0
    assert machine.log() == ["venv", "pip"] * 2

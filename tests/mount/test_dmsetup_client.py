"""The shim's client and the process that answers it: who is served, as what, and what ends it."""

import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusedm.dmsetup.server import is_outdated
from fusedm.dmsetup.server_socket import server_socket
from tests.helpers.dmsetup import Dmsetup, dmsetup_in, eventually

pytestmark = [pytest.mark.fuse, pytest.mark.loop]

#: What a call ends with that is not served: the script of `hasty` does nothing else.
NOT_SERVED = 99
KEY = "c0ffee" * 20 + "1234abcd"


class Both(Dmsetup):
    """A dmsetup whose device `a` is there, and besides two that have one way only.

    hasty: served, or it ends with NOT_SERVED; slow: carried out by the script.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        script = folder / "shim/dmsetup"
        lines = script.read_text().splitlines()
        self.hasty, self.slow = folder / "hasty", folder / "slow"
        self.hasty.write_text("\n".join([*lines[:2], f"exit {NOT_SERVED}", ""]))
        self.slow.write_text("\n".join(["#!/bin/sh", *lines[1:], ""]))
        for made in (self.hasty, self.slow):
            made.chmod(0o755)

    def code(self, *words: str | Path) -> int:
        """How a command ends."""
        return self.program(*words).returncode

    @property
    def socket(self) -> Path:
        """Where its server listens."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DM_DEV_DIR", str(self.dev))
            path = server_socket()
        assert path is not None
        return path

    def server(self) -> int:
        """The process that stays: the socket was bound under its number, and then renamed."""
        bound = f"{self.socket.with_suffix('')}."
        lines = Path("/proc/net/unix").read_text().splitlines()
        (pid,) = {line.partition(bound)[2] for line in lines if bound in line}
        return int(pid)

    def hasty_wait(self) -> "tuple[subprocess.Popen[str], int]":
        """A served call under way that waits until it is ended, and the process that does it."""
        events = self.ok("info", "-c", "--noheadings", "-o", "events", "a").strip()
        assert eventually(lambda: len(children(self.server())) == 1)
        (pid,) = children(self.server())
        pipe = subprocess.PIPE
        waiting = subprocess.Popen(
            [self.hasty, "wait", "a", events], env=self.environ, stdout=pipe, stderr=pipe, text=True
        )
        assert eventually(lambda: catches(pid, signal.SIGINT))
        return waiting, pid


def children(pid: int) -> list[int]:
    """The processes that a process has forked."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (caught,) = [line.split()[1] for line in lines if line.startswith("SigCgt:")]
    return bool(int(caught, 16) >> (number - 1) & 1)


@pytest.fixture
def dmsetup(tmp_path: Path) -> Iterator[Both]:
    with dmsetup_in(tmp_path, Both) as dmsetup:
        dmsetup.ok("create", "a", "-u", "U-1", "--table", "0 8 zero")
        yield dmsetup
        if dmsetup.pid() is not None:
            dmsetup.ok("remove_all")


ALIKE = [
    "$D status $N; $D info $N; $D table; $D ls; $D version; $D help; $D splitname vg-lv",
    "$D info -c -o all; $D info nosuch; $D nosuch; $D --nosuch; $D create $N --notable; $D",
    "printf '0 8 error' | $D load $N; $D table --inactive $N; $D clear $N",
    "bash -c '$D load $N <(echo 0 16 zero)'; $D table --inactive $N; $D clear $N",
    "exec 7<<T\n0 24 zero\nT\n$D load $N /dev/fd/7; $D table --inactive $N; $D clear $N",
    "mkdir gone; cd gone; rmdir ../gone; exec 2>&-; $D table $N; $D load $N x; $D ls --exec pwd",
    "echo 0 32 zero >t; $D load $N t; $D table --inactive $N; $D clear $N",
    "X=1 $D ls --exec env | grep -e ^X= -e LC_ALL; LC_ALL=C.UTF-8 $D ls --tree",
    "ulimit -n 77; umask 7; $D ls --exec 'sh -c ulimit${IFS}-n;umask'",
    "nice -n 5 $D ls --exec nice; taskset -c 0 $D ls --exec nproc",
    "$D wait $N 77; echo $?; $D remove b; echo $?; $D create $N -u U-1 --table '0 8 zero'",
    "$D status $N >/dev/full; echo $?; $D status $N | true; $D status $N 2>&-; echo $?",
    "for n in $(seq 3000); do echo $((n - 1)) 1 zero; done | $D load $N; $D table --inactive $N",
    r"$D info -c --noheadings -o name,'uuid' -S 'name=~\"a\"'; $D info $(printf 'a\377')",
]


def test_what_is_served_is_what_the_script_would_have_done(dmsetup: Both) -> None:
    # A name of its own: who looks for another device of this name opens this one to see.
    dmsetup.ok("rename", "a", "served")
    for text in ALIKE:
        said = []
        for way in (dmsetup.slow, dmsetup.hasty):
            done = subprocess.run(
                ["sh", "-c", f"export D={way} N=served; {text}"], env=dmsetup.environ,
                cwd=dmsetup.folder, capture_output=True, timeout=60, check=False,
            )  # fmt: skip
            said.append((done.returncode, done.stdout, done.stderr))
        assert said[0] == said[1], text
        assert said[1][0] != NOT_SERVED, text


def test_a_table_as_long_as_a_word_can_be(dmsetup: Both) -> None:
    table = "\n".join(f"{n * 8} 8 zero" for n in range(8000))
    assert 90_000 < len(table) < 1 << 17
    assert dmsetup.code(dmsetup.hasty, "load", "a", "--table", table) == 0
    assert dmsetup.ok("table", "--inactive", "a").count("\n") == 8000


@pytest.mark.parametrize(
    "prefix",
    [
        # Its mount namespace holds what others have mounted.
        pytest.param(["unshare", "--mount", "--propagation=unchanged"], marks=pytest.mark.alone),
        ["unshare", "--net"],
        ["setpriv", "--no-new-privs"],
        ["setpriv", "--bounding-set=-sys_time"],
        ["setpriv", "--groups=1"],
    ],
    ids=lambda prefix: prefix[-1],
)
def test_a_caller_of_another_kind_has_the_script(dmsetup: Both, prefix: list[str]) -> None:
    assert dmsetup.code(dmsetup.hasty, "status", "a") == 0
    assert dmsetup.code(*prefix, dmsetup.hasty, "status", "a") == NOT_SERVED
    assert dmsetup.program(*prefix, "dmsetup", "status", "a").stdout == "0 8 zero \n"


def test_another_user_is_not_served(dmsetup: Both) -> None:
    for path in (dmsetup.folder, *dmsetup.folder.parents):
        mode = stat.S_IMODE(path.stat().st_mode)
        if not mode & stat.S_IXOTH:
            path.chmod(mode | 0o111)
    user = ["setpriv", "--reuid=65534", "--clear-groups"]
    assert dmsetup.code(*user, dmsetup.hasty, "status", "a") == NOT_SERVED


def test_with_more_descriptors_than_a_message_takes_the_script_is_run(dmsetup: Both) -> None:
    for count, code in ((200, 0), (300, NOT_SERVED)):
        opening = f"n=10; while [ $n -lt {count} ]; do eval exec $n'</dev/null'; n=$((n+1)); done"
        done = dmsetup.code("bash", "-c", f"{opening}; exec {dmsetup.hasty} status a")
        assert done == code


def test_an_interrupt_ends_the_work_and_its_caller(dmsetup: Both) -> None:
    waiting, pid = dmsetup.hasty_wait()
    waiting.send_signal(signal.SIGINT)
    assert waiting.communicate(timeout=30) == ("", "")
    assert waiting.returncode == 128 + signal.SIGINT
    assert eventually(lambda: not Path(f"/proc/{pid}").exists())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_work_ends_with_its_caller(dmsetup: Both, number: signal.Signals) -> None:
    waiting, pid = dmsetup.hasty_wait()
    waiting.send_signal(number)
    waiting.communicate(timeout=30)
    assert waiting.returncode == -number
    assert eventually(lambda: not Path(f"/proc/{pid}").exists())


def test_a_call_whose_process_is_killed_fails_and_is_not_done_twice(dmsetup: Both) -> None:
    waiting, pid = dmsetup.hasty_wait()
    os.kill(pid, signal.SIGKILL)
    said = "dmsetup: the process that did this has been killed\nCommand failed.\n"
    assert waiting.communicate(timeout=30) == ("", said)
    assert waiting.returncode == 1


def test_calls_under_way_outlive_their_server_and_the_next_create_starts_another(
    dmsetup: Both,
) -> None:
    waiting, _ = dmsetup.hasty_wait()
    pid = dmsetup.server()
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: dmsetup.code(dmsetup.hasty, "ls") == NOT_SERVED)
    assert dmsetup.ok("rename", "a", "b") == ""
    assert waiting.wait(30) == 0
    assert waiting.communicate() == ("", "")
    assert dmsetup.ok("create", "a", "--table", "0 8 zero") == ""
    assert dmsetup.code(dmsetup.hasty, "status", "a") == 0
    assert dmsetup.server() != pid


def test_the_server_ends_with_the_daemon_and_leaves_nothing(dmsetup: Both) -> None:
    pid = dmsetup.server()
    path = dmsetup.socket
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    spare = children(pid)
    dmsetup.ok("remove", "a")
    assert eventually(lambda: not any(Path(f"/proc/{n}").exists() for n in (pid, *spare)))
    assert not path.exists()


def test_no_key_is_in_the_memory_of_the_process_that_stays(dmsetup: Both) -> None:
    image = dmsetup.image("disk.img", 1 << 20)
    line = f"0 8 crypt aes-xts-plain64 {KEY} 0 {image} 0"
    assert dmsetup.code(dmsetup.hasty, "create", "c", "--table", line) == 0
    assert dmsetup.ok("table", "--showkeys", "c").split()[4] == KEY
    pid = dmsetup.server()
    # Those that had these calls have ended, and one waits for the next.
    assert eventually(lambda: len(children(pid)) == 1)
    for process in (pid, *children(pid)):
        assert KEY.encode() not in Path(f"/proc/{process}/cmdline").read_bytes()
        assert not holds(process, KEY.encode()), process


def holds(pid: int, secret: bytes) -> bool:
    """Whether some bytes are anywhere in what a process may write to."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            begin, end = (int(word, 16) for word in line.split()[0].split("-"))
            if line.split()[1].startswith("rw"):
                memory.seek(begin)
                if secret in memory.read(end - begin):
                    return True
    return False


def test_new_code_on_disk_is_not_served_by_old(
    dmsetup: Both, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "module.py"
    file.write_text("")
    code = {str(file): file.stat().st_mtime_ns}
    assert not is_outdated(code)
    os.utime(file, ns=(1, 1))
    assert is_outdated(code)
    file.unlink()
    assert is_outdated(code)

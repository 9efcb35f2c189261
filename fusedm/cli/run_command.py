"""`fusedm run`: a stack that lives exactly as long as one command.

Three processes: this one, which waits; the daemon, which ends when this one dies, however it dies;
and the command, which is told to end then as well. All is torn down by whoever is left.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType

from fusedm.block.errors import FusedmError, UsageError
from fusedm.control import (
    Client,
    bring_down,
    daemon_config,
    log_path,
    reap,
    start_detached,
)
from fusedm.host import mounts
from fusedm.host.interrupts import ENDING_SIGNALS, hold, let_in
from fusedm.host.kernel_mount import MountOptions
from fusedm.host.process import end_with
from fusedm.host.run_folder import run_folder
from fusedm.host.secrecy import give_core_limit_back

#: How often it is looked whether our own parent has died, while the command runs.
PARENT_POLL_SECONDS = 0.2


def run_with_stack(stack_file: str, command: Sequence[str], options: MountOptions) -> int:
    """Bring a stack up, run the command, tear the stack down; returns the command's exit code.

    A command that a signal ended gives 128 + the signal, as a shell does.
    Raises: FusedmError if the stack cannot be brought up or torn down.
    """
    hold()
    with _mount_point() as mount_point, running_stack(stack_file, mount_point, options):
        code = _run(command, {**os.environ, **environment(mount_point)})
    # That it could not be torn down has been told.
    return code or int(mounts.mount_at(mount_point) is not None)


@contextlib.contextmanager
def _mount_point() -> Iterator[str]:
    """A new folder; only ever removed empty, as it may have a mount on it."""
    folder = tempfile.mkdtemp(prefix="run-", dir=run_folder())
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):
            os.rmdir(folder)


@contextlib.contextmanager
def running_stack(stack_file: str, mount_point: str, options: MountOptions) -> Iterator[None]:
    """A stack for the time of a with block, torn down at its end with all that lies over it.

    Signals are held when the block begins, and must be when it ends.
    What cannot go yet, since somebody holds it, is told of on stderr: the outcome of the block
    counts for more.
    """
    pid = start_detached(daemon_config(stack_file, mount_point, options), with_parent=True)
    try:
        yield
    except BaseException as error:
        for line in _tear_down(mount_point, pid):
            error.add_note(line)
        raise
    for line in _tear_down(mount_point, pid):
        with contextlib.suppress(OSError):  # Who reads it may be gone.
            print(f"fusedm: {line}", file=sys.stderr)


def _tear_down(mount_point: str, pid: int) -> list[str]:
    """Tear a stack down; what could not be, and what its daemon has logged.

    Nobody would look for the log of a stack that is gone.
    """
    lines = []
    try:
        bring_down(mount_point, force=True)
    except (FusedmError, OSError) as error:
        lines.append(str(error))
    reap(pid)
    log = log_path(mount_point)
    with contextlib.suppress(FileNotFoundError):
        said = log.read_text(errors="replace").strip()
        log.unlink()
        if said:
            lines.append(f"the daemon said: {said}")
    return lines


def environment(mount_point: str) -> dict[str, str]:
    """What a command is told: FUSEDM_MOUNT, and FUSEDM_DISK_NAME and so on for each file."""
    with Client(mount_point) as client:
        files = client.call("ls")
    told = {"FUSEDM_STACK": mount_point, "FUSEDM_MOUNT": mount_point}
    for file in files:
        kind = "mapper" if file["kind"] == "mapped" else file["kind"]
        told[re.sub(r"\W", "_", f"FUSEDM_{kind}_{file['name']}", flags=re.ASCII).upper()] = file[
            "path"
        ]
    return told


def _run(command: Sequence[str], told: Mapping[str, str]) -> int:
    parent, own = os.getppid(), os.getpid()

    def begin() -> None:
        let_in()
        give_core_limit_back()
        end_with(own)

    # A signal that comes before it can be handed on waits until then.
    try:
        child = subprocess.Popen(command, env=told, preexec_fn=begin)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "command not found" if missing else error.strerror
        raise UsageError(f"{command[0]}: {reason}") from None
    with _forwarding_to(child):
        while True:
            try:
                code = child.wait(PARENT_POLL_SECONDS)
                return 128 - code if code < 0 else code
            except subprocess.TimeoutExpired:
                if os.getppid() != parent:
                    child.terminate()
                    parent = os.getppid()


@contextlib.contextmanager
def _forwarding_to(child: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Hand signals on to the command; what a terminal sends, the command has got by itself."""

    def forward(number: int, _: FrameType | None) -> None:
        if number != signal.SIGINT or not os.isatty(0):
            child.send_signal(number)

    before = {number: signal.signal(number, forward) for number in ENDING_SIGNALS}
    try:
        let_in()
        yield
    finally:
        hold()
        for number, handler in before.items():
            signal.signal(number, handler)

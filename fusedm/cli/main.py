"""The command line: which verbs there are, and what becomes of errors.

Exit codes: 0 done; 1 refused or failed, with nothing changed: whatever depends on what is there, on
stacks, files, names, mount points; 2 asked for wrongly, in words that are wrong whatever is there,
or the machine lacks what it takes (a program, a device, a right);
128 + the signal that ended it. `run` returns the exit code of its command. An error is one line on
stderr, never a traceback.
"""

import os
import sys
from collections.abc import Collection, Sequence

import click

from fusedm import __version__
from fusedm.block.errors import FusedmError, StackError, UsageError
from fusedm.cli.verbs import Verb, VerbGroup, load
from fusedm.host.interrupts import exit_code
from fusedm.host.undoing import notes

EXIT_REFUSED = 1
EXIT_USAGE = 2


#: Every verb. A test holds the lines to those that the commands themselves begin with.
VERBS = {
    "attach": Verb(
        "fusedm.cli.running:attach",
        "Attach a disk, mapped device or view to a loop device and print its node (needs root).",
    ),
    "bench": Verb(
        "fusedm.cli.bench_command:bench",
        "Measure this stack and its peers in turns, in one run, and print the ratios.",
    ),
    "check": Verb(
        "fusedm.cli.stacks:check",
        "Check a stack file, tables included, without touching a store or key.",
    ),
    "demo": Verb(
        "fusedm.cli.demo:demo",
        "Show the whole thing: encrypted disks, a real file system, the proof, a benchmark.",
    ),
    "detach": Verb(
        "fusedm.cli.running:detach", "Detach every loop device over a disk, mapped device or view."
    ),
    "disk": Verb(
        "fusedm.cli.devices:disk_group", "Disks: stores, with or without an inline engine."
    ),
    "dm": Verb(
        "fusedm.cli.devices:dm_group", "Mapped devices: tables of targets over other devices."
    ),
    "dmsetup": Verb(
        "fusedm.cli.dmsetup_command:dmsetup",
        "Do what dmsetup(8) does, with the same words, output and exit codes.",
    ),
    "doctor": Verb(
        "fusedm.cli.running:doctor_command",
        "Say what is missing here for FUSE, loop devices and unprivileged use, and how to fix it.",
    ),
    "down": Verb(
        "fusedm.cli.running:down",
        "Detach loop devices, unmount, end the daemon; clears what a killed daemon has left.",
    ),
    "engines": Verb(
        "fusedm.cli.catalogue:engines", "List the ready-made engines, or tell all about one."
    ),
    "explain": Verb(
        "fusedm.cli.looking:explain_command",
        "Follow a request for LENGTH bytes at OFFSET of VIEW through every layer to the media.",
    ),
    "key": Verb("fusedm.cli.hardware:key_group", "Keys."),
    "ls": Verb("fusedm.cli.running:ls", "List disks, mapped devices and views."),
    "luks": Verb("fusedm.cli.luks:luks_group", "LUKS volumes: their payload as a mapped device."),
    "nbd": Verb(
        "fusedm.cli.nbd:nbd", "Serve disks, mapped devices and views (all without NAME) by NBD."
    ),
    "run": Verb("fusedm.cli.stacks:run", "Run COMMAND with a stack that lives exactly as long."),
    "save": Verb(
        "fusedm.cli.running:save",
        "Write the running stack as a stack file (to standard output without FILE); no key bytes.",
    ),
    "shim": Verb(
        "fusedm.cli.dmsetup_command:shim",
        "Write a `dmsetup` into DIR, for scripts: PATH=DIR:$PATH.",
    ),
    "status": Verb(
        "fusedm.cli.running:status",
        "Say what is running: counts, what is suspended, bios in flight.",
    ),
    "table": Verb(
        "fusedm.cli.tables:table_group",
        "Device-mapper tables as text: no stack need be running, and nothing is loaded.",
    ),
    "targets": Verb(
        "fusedm.cli.catalogue:targets",
        "List the targets of the device mapper, or print the page of one.",
    ),
    "up": Verb("fusedm.cli.stacks:up", "Bring a stack up; returns when the mount answers."),
    "verify": Verb(
        "fusedm.cli.verifying:verify_command",
        "Compare what views show with what their media hold; nothing is changed, the stack runs "
        "on.",
    ),
    "view": Verb("fusedm.cli.devices:view_group", "Views: a device opened under a key."),
    "why": Verb(
        "fusedm.cli.looking:why_command",
        "Say what DEV (a device or view) encrypts natively, what not, and why.",
    ),
}


@click.group(cls=VerbGroup, verbs=VERBS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fusedm")
def cli() -> None:
    """Emulated disks with inline encryption, and device mapper, as files in a FUSE mount.

    Exit codes: 0 done, 1 refused or failed, 2 asked for wrongly or something is missing here.
    """


def is_mount_call(arguments: Sequence[str], verbs: Collection[str]) -> bool:
    """Whether the command line is mount(8)'s: a file and a directory where a verb would be."""
    return len(arguments) >= 2 and not arguments[0].startswith("-") and arguments[0] not in verbs


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; the only place where an error becomes an exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if is_mount_call(words, VERBS):
            load("fusedm.cli.stacks:mount")(words)
        else:
            cli.main(words, prog_name="fusedm")
    except UsageError as error:
        _exit(error, EXIT_USAGE)
    except FusedmError as error:
        _exit(error, EXIT_REFUSED)
    except KeyboardInterrupt as interrupt:
        sys.exit(exit_code(interrupt))
    except BrokenPipeError:
        _drop_output()
        sys.exit(EXIT_REFUSED)
    except OSError as error:  # As of standard output on a full file system.
        _drop_output()
        where = f"{error.filename}: " if error.filename else ""
        _exit(StackError(f"{where}{error.strerror}"), EXIT_REFUSED)


def _drop_output() -> None:
    """Let what cannot be written go nowhere, or Python would try again at its end, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _exit(error: FusedmError, code: int) -> None:
    for line in (error, *notes(error)):
        print(f"fusedm: {line}", file=sys.stderr)
    sys.exit(code)

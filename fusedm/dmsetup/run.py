"""`fusedm dmsetup`: a command line of dmsetup(8), from its words to its exit code."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence

from fusedm.block.errors import FusedmError, UsageError
from fusedm.dmsetup import changing, kinds, telling, udev
from fusedm.dmsetup.command import Command, Streams
from fusedm.dmsetup.fields import fields_text
from fusedm.dmsetup.grammar import Call, Help, read_call, usage_text
from fusedm.host.interrupts import exit_code, interruptible
from fusedm.host.secrecy import keep_secrets
from fusedm.host.undoing import notes

#: What carries out each; one that returns False has failed and said why.
VERBS: Mapping[str, Callable[[Command], bool | None]] = {
    "create": changing.create,
    "remove": changing.remove,
    "remove_all": changing.remove_all,
    "suspend": changing.suspend,
    "resume": changing.resume,
    "load": changing.load,
    "clear": changing.clear,
    "reload": changing.load,
    "wipe_table": changing.wipe_table,
    "rename": changing.rename,
    "measure": telling.status,
    "message": changing.message,
    "ls": telling.ls,
    "info": telling.info,
    "deps": telling.deps,
    "stats": changing.stats,
    "status": telling.status,
    "table": telling.table,
    "wait": telling.wait,
    "mknodes": changing.mknodes,
    "mangle": telling.mangle,
    "udevcreatecookie": udev.create_cookie,
    "udevreleasecookie": udev.release_cookie,
    "udevflags": udev.flags,
    "udevcomplete": udev.complete,
    "udevcomplete_all": udev.complete_all,
    "udevcookies": udev.cookies,
    "target-version": kinds.target_version,
    "targets": kinds.targets,
    "version": telling.version,
    "setgeometry": changing.setgeometry,
    "splitname": telling.splitname,
}


def main_dmsetup(arguments: Sequence[str], environ: Mapping[str, str] | None = None) -> int:
    """Carry out a command line on the streams of this process; its exit code.

    environ is the environment as the user gave it, where this process was started with another.
    """
    keep_secrets()
    code = 1
    try:
        with interruptible():
            code = run(arguments, Streams(sys.stdin, sys.stdout, sys.stderr, environ))
            sys.stdout.flush()
    except OSError as error:  # As of a reader that has gone, or a full file system.
        # What cannot be written goes nowhere, or Python would complain again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if not isinstance(error, BrokenPipeError):
            sys.stderr.write(f"{error.strerror}\nCommand failed.\n")
        code = 1
    except KeyboardInterrupt as interrupt:
        code = exit_code(interrupt)
    return code


def run(arguments: Sequence[str], streams: Streams) -> int:
    """Carry out a command line; its exit code: 0 done, 1 anything else."""
    try:
        call = read_call(arguments)
    except UsageError as error:
        streams.stderr.write(f"{error}\nCouldn't process command line.\n")
        return 1
    if call.help is not Help.NO:
        return _help(call, streams)
    try:
        if VERBS[call.verb](Command(call, streams)) is False:
            return 1
    except FusedmError as error:
        streams.stdout.flush()
        text = "\n".join([str(error), *notes(error)])
        streams.stderr.write((text + "\n" if text else "") + "Command failed.\n")
        return 1
    return 0


def _help(call: Call, streams: Streams) -> int:
    if call.complaint:
        streams.stderr.write(call.complaint + "\n")
    streams.stderr.write(usage_text())
    if call.help is Help.ASKED and call.options.has("columns"):
        streams.stderr.write(fields_text())
    return 0 if call.help is Help.ASKED else 1

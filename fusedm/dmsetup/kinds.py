"""The verbs of dmsetup that tell of target types: targets and target-version."""

import errno

from fusedm.block.errors import FusedmError, UsageError
from fusedm.dm import target_class, target_names
from fusedm.dmsetup.command import Command
from fusedm.dmsetup.device import ioctl_error, target_text

#: Targets that are part of device mapper itself, in the order in which `targets` ends.
BUILT_IN = ("striped", "linear", "error")


def targets(command: Command) -> None:
    """targets: every one and its version, those of device mapper itself last."""
    names = sorted(set(target_names()) - set(BUILT_IN), reverse=True)
    for name in (*names, *BUILT_IN):
        command.out(target_text(name, target_class(name).version))


def target_version(command: Command) -> None:
    """target-version: the versions of some."""
    for name in command.call.words:
        try:
            kind = target_class(name)
        except FusedmError:
            raise UsageError(ioctl_error("target-version", errno.EINVAL, name)) from None
        command.out(target_text(name, kind.version))

"""The verbs of dmsetup that tell of target types: targets and target-version."""

import errno

from fusedm.block.errors import StackError, UsageError
from fusedm.dmsetup.command import Command
from fusedm.dmsetup.device import ioctl_error, target_text

#: Targets that are part of device mapper itself, in the order in which `targets` ends.
BUILT_IN = ("striped", "linear", "error")


def targets(command: Command) -> None:
    """targets: every one and its version, those of device mapper itself last."""
    versions = _versions(command)
    names = sorted(set(versions) - set(BUILT_IN), reverse=True)
    for name in (*names, *BUILT_IN):
        command.out(target_text(name, versions[name]))


def target_version(command: Command) -> None:
    """target-version: the versions of some."""
    versions = _versions(command)
    for name in command.call.words:
        if name not in versions:
            raise UsageError(ioctl_error("target-version", errno.EINVAL, name))
        command.out(target_text(name, versions[name]))


def _versions(command: Command) -> dict[str, tuple[int, int, int]]:
    """Those of all targets, from the daemon if it is there: it has loaded them."""
    try:
        return dict(command.session.mapper.targets())
    except StackError as error:
        if error.errno != errno.ENXIO:
            raise
    from fusedm.dm import target_class, target_names

    return {name: target_class(name).version for name in target_names()}

"""The verbs of dmsetup that are about udev: there is none to wait for here."""

from fusedm.block.errors import UsageError
from fusedm.dmsetup.command import Command
from fusedm.dmsetup.device import udev_flags_text


def create_cookie(command: Command) -> None:
    """udevcreatecookie: no cookie, as where udev does not run."""


def release_cookie(command: Command) -> None:
    """udevreleasecookie."""
    if not command.call.words and "udevcookie" not in command.options.values:
        raise UsageError("No udev transaction cookie given.")


def flags(command: Command) -> None:
    """udevflags: the flags in a cookie."""
    command.out(udev_flags_text(_cookie(command)))


def complete(command: Command) -> None:
    """udevcomplete: nobody waits."""
    shown = f"{_cookie(command):#x}"
    command.out(f"DM_COOKIE_COMPLETED={shown:<12}\n")


def complete_all(command: Command) -> None:
    """udevcomplete_all: there is nothing to destroy."""
    if not command.options.has("yes"):
        command.error(
            "WARNING: This operation will destroy all semaphores with keys that have a prefix "
            "3405 (0xd4d)."
        )
        command.out("Do you really want to continue? [y/n]: ")
        if not command.streams.stdin.readline().startswith(("y", "Y")):
            command.out("\nSemaphores with keys prefixed by 3405 (0xd4d) NOT destroyed.\n")
            return
    command.out("0 semaphores with keys prefixed by 3405 (0xd4d) destroyed. 0 skipped.\n")


def cookies(command: Command) -> None:
    """udevcookies: the heading of a list that is empty."""
    command.out("Cookie       Semid      Value      Last semop time           Last change time\n")


def _cookie(command: Command) -> int:
    try:
        value = int(command.call.words[0], 0)
    except ValueError:
        value = 0
    if not 0 < value < 1 << 32:
        raise UsageError("Incorrect cookie value.")
    return value

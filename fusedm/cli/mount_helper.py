"""What mount(8) says: `fusedm STACK.toml MOUNTPOINT -o OPTIONS`, without a verb. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from fusedm.block.errors import UsageError
from fusedm.host.kernel_mount import MountOptions

#: Options that mount(8) deals with itself, or that say what is so anyway.
_IGNORED = frozenset(
    (
        *("defaults", "rw", "auto", "noauto", "user", "nouser", "users", "owner", "group"),
        *("_netdev", "nofail", "dev", "nodev", "suid", "nosuid", "exec", "noexec"),
        *("atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime"),
        *("strictatime", "lazytime", "sync", "async"),
    )
)


@dataclass(frozen=True, slots=True)
class MountCall:
    """What is to be mounted where."""

    stack_file: str
    mount_point: str
    options: MountOptions
    allow_core: bool = False


def parse_mount_call(arguments: Sequence[str]) -> MountCall:
    """The file, the directory and the options.

    Raises: UsageError for anything else.
    """
    stack_file, mount_point, *rest = arguments
    words: list[str] = []
    while rest:
        flag = rest.pop(0)
        if flag == "-o" and rest:
            words += rest.pop(0).split(",")
        elif flag not in ("-n", "-s", "-v"):
            raise UsageError(
                f"{arguments[0]!r} is not a verb, and {flag!r} not an option of a mount: "
                "see `fusedm --help`"
            )
    unknown = [word for word in words if word and not _is_known(word)]
    if unknown:
        raise UsageError(f"mount option {unknown[0]!r} is unknown")
    options = MountOptions(
        "allow_other" in words, "allow_root" in words, lane="no_lane" not in words
    )
    return MountCall(stack_file, mount_point, options, "allow_core" in words)


def _is_known(word: str) -> bool:
    return (
        word in _IGNORED
        or word in ("allow_other", "allow_root", "no_lane", "allow_core")
        or word.startswith(("x-", "X-", "comment="))
    )

"""Who uses a loop device, and who only passes by."""

import errno
import os
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from fusedm.block.errors import StackError
from fusedm.host.loop_control import SYS_BLOCK
from fusedm.host.loop_finding import LoopDevice
from fusedm.host.mounts import describe, device_of_node, holders_of_device, read_mounts
from fusedm.host.partitions import partitions

#: Who is seen to have a device open for so long uses it. Others pass by: udev looks at every device
#: that changes, and many a tool at all there are.
GRACE_SECONDS = 0.5
#: As often it must have been seen: a look takes long where much else is going on.
GRACE_LOOKS = 5
#: How long those may take who pass by one after the other, or whom nothing here shows: a mount that
#: is gone here lives on in every namespace that was made meanwhile, until that ends.
PASSING_SECONDS = 5.0
POLL_SECONDS = 0.02


class Patience:
    """How long the users of loop devices are waited for: all of one verb together, in seconds."""

    def __init__(self, seconds: float | None = None) -> None:
        self._end = time.monotonic() + (PASSING_SECONDS if seconds is None else seconds)
        self._seen: dict[str, tuple[float, int]] = {}

    def is_over(self, users: Iterable[str]) -> bool:
        """Whether those who are in the way now, as far as they are seen, have been waited for."""
        now = time.monotonic()
        before, self._seen = self._seen, {}
        for user in users:
            since, looks = before.get(user, (now, 0))
            self._seen[user] = since, looks + 1
        return now >= self._end or any(
            now >= since + GRACE_SECONDS and looks >= GRACE_LOOKS
            for since, looks in self._seen.values()
        )


@dataclass(frozen=True, slots=True)
class Use:
    """What keeps a device busy: the end of a sentence, and each of those who do."""

    reason: str
    users: Collection[str]


def refuse_busy(device: LoopDevice, patience: Patience | None = None) -> None:
    """Return if a loop device can be detached without anybody noticing, else say who uses it.

    Raises: StackError(EBUSY).
    """
    patience = patience or Patience()
    while (use := use_of(device)) is not None:
        if patience.is_over(use.users):
            raise StackError(f"{device.node} {use.reason}", errno.EBUSY)
        time.sleep(POLL_SECONDS)


def use_of(device: LoopDevice) -> Use | None:
    """What keeps a loop device from being detached; None if nothing.

    Users are found by whatever node they use, one below /dev/mapper too.
    """
    name = os.path.basename(device.node)
    use = _use_of_node(device.node, device_of_node(device.node) or "", SYS_BLOCK / name)
    if use is not None:
        return use
    for part in partitions(device.node):
        folder = SYS_BLOCK / name / os.path.basename(part.node)
        use = _use_of_node(part.node, part.number, folder)
        if use is not None:
            return Use(f"partition {part.index} {use.reason}", use.users)
    if is_claimed(device.node):
        return Use("is in use by the kernel, perhaps mounted in another namespace", ())
    return None


def busy_reason(device: LoopDevice) -> str | None:
    """The same, as the end of a sentence."""
    use = use_of(device)
    return use.reason if use is not None else None


def _use_of_node(node: str, number: str, folder: Path) -> Use | None:
    """What keeps one block device busy; folder is its own in sysfs."""
    mounts = [mount for mount in read_mounts() if mount.is_of(node, number)]
    if mounts:
        where = mounts[0].mount_point
        return Use(f"is mounted at {where}", [where])
    swaps = [line.split()[0] for line in Path("/proc/swaps").read_text().splitlines()[1:]]
    if any(swap == node or device_of_node(swap) == number for swap in swaps):
        return Use("is in use as swap", [node])
    holders = holders_of_device(number)
    if holders:
        return Use(f"is held by {describe(holders)}", [str(holder.pid) for holder in holders])
    stacked = _entries(folder / "holders")
    if stacked:
        return Use(f"is used by {', '.join(stacked)}", stacked)
    return None


def is_claimed(node: str) -> bool:
    """Whether a file system, swap or another block device has it, as seen in every namespace."""
    try:
        os.close(os.open(node, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        return error.errno == errno.EBUSY
    return False


def _entries(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []

"""The bad blocks of dust. Pure."""

import logging
from bisect import bisect_left

from fusedm.block.errors import StackError
from fusedm.block.units import MAX_SECTORS

#: How often writing to a bad block may be told to fail.
MAX_FAILS = 255

log = logging.getLogger(__name__)


class BadBlocks:
    """Which blocks of a device are bad, and how many more writes to each fail.

    Those from add on do what messages ask, and return their replies. Unless quiet, the log has what
    becomes bad and good.
    """

    def __init__(self, device: str, count: int) -> None:
        self.quiet = False
        self._device = device
        self._count = count
        self._fails: dict[int, int] = {}
        self._in_order: list[int] | None = None

    def __bool__(self) -> bool:
        return bool(self._fails)

    def fails(self, block: int) -> int | None:
        """How many more writes to a block fail; None for a good one."""
        return self._fails.get(block)

    def around(self, block: int) -> range:
        """The good blocks around a good one, or just a bad one."""
        if block in self._fails:
            return range(block, block + 1)
        if self._in_order is None:
            self._in_order = sorted(self._fails)
        index = bisect_left(self._in_order, block)
        begin = self._in_order[index - 1] + 1 if index else 0
        return range(begin, [*self._in_order[index : index + 1], MAX_SECTORS][0])

    def failed(self, block: int) -> None:
        """A write to a bad block has failed once less often to come."""
        self._fails[block] -= 1

    def written(self, block: int) -> None:
        """A bad block has become good."""
        del self._fails[block]
        self._changed(f"block {block} is good again, it was written")

    def add(self, block: int, fails: int = 0) -> str:
        """One more, of which some writes fail."""
        self._check(block)
        if fails > MAX_FAILS:
            raise StackError(f"dust: {fails} failures of writes is not in 0..{MAX_FAILS}")
        if block in self._fails:
            raise StackError(f"dust: block {block} is bad already")
        self._fails[block] = fails
        self._changed(f"block {block} is bad, {fails} writes to it fail")
        return ""

    def remove(self, block: int) -> str:
        """One less."""
        self._check(block)
        if self._fails.pop(block, None) is None:
            raise StackError(f"dust: block {block} is not bad")
        self._changed(f"block {block} is good again")
        return ""

    def query(self, block: int) -> str:
        """Whether it is one."""
        self._check(block)
        found = "found" if block in self._fails else "not found"
        return f"dust_query_block: block {block} {found} in badblocklist"

    def count(self) -> str:
        """How many there are."""
        return f"countbadblocks: {len(self._fails)} badblock(s) found"

    def clear(self) -> str:
        """None any more."""
        what = "badblocks cleared" if self._fails else "no badblocks found"
        self._fails.clear()
        self._in_order = None
        return f"dust_clear_badblocks: {what}"

    def list(self) -> str:
        """Which they are."""
        return "".join(f"{block}\n" for block in sorted(self._fails)) or "No blocks in badblocklist"

    def toggle_quiet(self) -> str:
        """Have the log say more, or less."""
        self.quiet = not self.quiet
        return ""

    def _changed(self, text: str) -> None:
        self._in_order = None
        if not self.quiet:
            log.info("dust over %s: %s", self._device, text)

    def _check(self, block: int) -> None:
        """The block after the last is let pass, as in the kernel; no bio ever gets there."""
        if block > self._count:
            raise StackError(f"dust: block {block} is past {self._device} ({self._count})")

"""Verbs on engines, their keyslots, and keys wrapped for them: a part of Commands."""

from dataclasses import asdict
from typing import Any

from fusedm.stack import Stack

Json = dict[str, Any]


class HardwareCommands:
    """The verbs of one stack that are about hardware."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    async def verb_disk_resetengine(self, name: str) -> Json:
        """Reset a disk's engine; the names of keys that are programmed anew, and that failed."""
        return asdict(await self._stack.reset_engine(name))

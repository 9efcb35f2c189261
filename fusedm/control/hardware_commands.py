"""Verbs on engines, their keyslots, and keys wrapped for them: a part of Commands."""

import base64
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import trio

from fusedm.block.errors import ControlError
from fusedm.stack import Stack

Json = dict[str, Any]


class HardwareCommands:
    """The verbs of one stack that are about hardware."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    async def verb_disk_resetengine(self, name: str) -> Json:
        """Reset a disk's engine; the names of keys that are programmed anew, and that failed."""
        return asdict(await self._stack.reset_engine(name))

    # Wrapped keys; keys and secrets are bytes in base64, name is the disk whose engine does it, or
    # a mapped device, of which the first disk does.

    async def verb_key_importwrapped(self, name: str, raw: str) -> str:
        """Wrap a raw key; its long-term form."""
        manager = self._stack.key_manager(name)
        return await _answer(manager.import_key, decode_bytes("key.importwrapped: raw", raw))

    async def verb_key_generatewrapped(self, name: str) -> str:
        """Make a key that nobody has seen; its long-term form."""
        return await _answer(self._stack.key_manager(name).generate_key)

    async def verb_key_prepare(self, name: str, key: str) -> str:
        """Prepare a long-term key for use until the daemon ends; its ephemeral form."""
        manager = self._stack.key_manager(name)
        return await _answer(manager.prepare_key, decode_bytes("key.prepare: key", key))

    async def verb_key_softwaresecret(self, name: str, key: str) -> str:
        """What software may have of a prepared key."""
        manager = self._stack.key_manager(name)
        return await _answer(manager.software_secret, decode_bytes("key.softwaresecret: key", key))


def decode_bytes(what: str, text: str) -> bytearray:
    """Bytes that came in base64.

    Raises: ControlError naming the argument.
    """
    try:
        return bytearray(base64.b64decode(text, validate=True))
    except ValueError:
        raise ControlError(f"{what} is not base64") from None


async def _answer(work: Callable[..., bytes], *given: bytearray) -> str:
    """What work makes of bytes, in base64; the bytes are overwritten then. It may read a file."""
    try:
        return base64.b64encode(await trio.to_thread.run_sync(work, *given)).decode()
    finally:
        for data in given:
            data[:] = bytearray(len(data))

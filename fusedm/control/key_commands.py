"""Verbs on keys, and on those that are wrapped for an engine."""

import base64
from collections.abc import Callable, Sequence
from typing import Any, Literal

import trio

from fusedm.block.errors import ControlError
from fusedm.stack import KeySpec, Stack, check_source

Json = dict[str, Any]


class KeyVerbs:
    """The verbs key.*; each public method is one."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    async def add(
        self,
        name: str,
        mode: str,
        data_unit_size: int,
        dun_bytes: int,
        source: str,
        raw: str | None = None,
        type: Literal["raw", "hw-wrapped"] = "raw",
        wrapped_by: str = "",
    ) -> None:
        """Add a key; raw is its bytes in base64, read from the source by the client.

        A hw-wrapped key is long-term and prepared by the engine of the device wrapped_by; without
        wrapped_by it is prepared already.
        """
        check_source(source)
        if raw is None and source != "random":
            # The environment and the descriptors that are meant are the client's.
            raise ControlError(f"key.add: raw is needed with source {source!r}")
        spec = KeySpec(name, mode, data_unit_size, dun_bytes, source, type, wrapped_by)
        given = _decode_bytes("key.add: raw", raw) if raw is not None else None
        await self._stack.add_key(spec, given)

    def list(self) -> Sequence[Json]:
        """Every key, without its bytes."""
        return [
            {
                "name": key.name,
                "type": key.config.key_type.value,
                "mode": key.config.mode,
                "data_unit_size": key.config.data_unit_size,
                "dun_bytes": key.config.dun_bytes,
                "views": [v.name for v in self._stack.system.views.values() if v.key is key],
            }
            for key in self._stack.system.keys.values()
        ]

    # Wrapped keys; keys and secrets are bytes in base64, name is the disk whose engine does it, or
    # a mapped device, of which the first disk does.

    async def importwrapped(self, name: str, raw: str) -> str:
        """Wrap a raw key; its long-term form."""
        manager = self._stack.key_manager(name)
        return await _answer(manager.import_key, _decode_bytes("key.importwrapped: raw", raw))

    async def generatewrapped(self, name: str) -> str:
        """Make a key that nobody has seen; its long-term form."""
        return await _answer(self._stack.key_manager(name).generate_key)

    async def prepare(self, name: str, key: str) -> str:
        """Prepare a long-term key for use until the daemon ends; its ephemeral form."""
        manager = self._stack.key_manager(name)
        return await _answer(manager.prepare_key, _decode_bytes("key.prepare: key", key))

    async def softwaresecret(self, name: str, key: str) -> str:
        """What software may have of a prepared key."""
        manager = self._stack.key_manager(name)
        return await _answer(manager.software_secret, _decode_bytes("key.softwaresecret: key", key))


def _decode_bytes(what: str, text: str) -> bytearray:
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

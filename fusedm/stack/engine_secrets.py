"""The engines of a stack, which of them share a key manager, and where its secret is.

Engines whose specs name the same source share a manager, as the engines of one chip do; so do all
that name none. Hence a key that one of them has wrapped can be used on all of them.
"""

import errno
from dataclasses import replace
from functools import partial
from pathlib import Path

import trio

from fusedm.block import BlockDevice, KeyType
from fusedm.block.crypt_ctx import MAX_WRAPPED_KEY_SIZE
from fusedm.block.errors import StackError
from fusedm.crypto import SECRET_SIZE, InlineEngine, KeyManager
from fusedm.disk import Disk
from fusedm.stack.engine_spec import EngineSpec
from fusedm.stack.key_sources import load_bytes, load_engine_secret, load_key

#: The file beside the stack file, made when it is needed first.
SECRET_FILE = "engine.secret"


class EngineSecrets:
    """The key managers of one stack; without a folder all secrets are of chance.

    Owns: them, until wipe().
    """

    def __init__(self, base_dir: Path | None) -> None:
        self._base_dir = base_dir
        self._managers: dict[str | None, KeyManager] = {}

    def default(self) -> KeyManager:
        """The manager of the engines that name no source."""
        if None not in self._managers:
            load = None
            if self._base_dir is not None:
                load = partial(load_engine_secret, self._base_dir / SECRET_FILE)
            self._managers[None] = KeyManager(load_secret=load)
        return self._managers[None]

    async def manager(self, source: str | None) -> KeyManager:
        """The manager whose secret comes from a source, which is read now, or from the usual file.

        Raises: StackError, CryptoError for a source that cannot be read or holds no secret.
        """
        if source is None or self._base_dir is None:
            return self.default()
        source = prefixed_source(source, self._base_dir)
        if source not in self._managers:
            secret = await trio.to_thread.run_sync(
                load_key, source, SECRET_SIZE, self._base_dir, abandon_on_cancel=True
            )
            self._managers.setdefault(source, KeyManager(secret))
        return self._managers[source]

    async def engine(self, spec: EngineSpec | None) -> InlineEngine | None:
        """An engine as a spec says, that can unwrap what it shares a manager for.

        Raises: StackError, CryptoError as manager, and for numbers that cannot be.
        """
        if spec is None:
            return None
        numbers = spec.numbers()
        manager = None
        if KeyType.HW_WRAPPED in numbers.key_types:
            manager = await self.manager(spec.secret)
        return InlineEngine(
            numbers.capabilities,
            numbers.keyslots,
            spec.program_latency_ms / 1000,
            key_manager=manager,
            faults=spec.faults,
        )

    async def wrapped_key(
        self, source: str, blob: bytes | bytearray | None, manager: KeyManager | None
    ) -> bytes | bytearray:
        """The form of a wrapped key that an engine takes: prepared by the manager, if one is given.

        Without a blob it is read from the source; random makes a new key.
        Raises: StackError, CryptoError as load_bytes and KeyManager.prepare_key.
        """
        if source == "random":
            manager = manager or self.default()
            blob = await trio.to_thread.run_sync(manager.generate_key)
        elif blob is None:
            base_dir = self._base_dir or Path.cwd()
            blob = await trio.to_thread.run_sync(
                load_bytes, source, MAX_WRAPPED_KEY_SIZE, base_dir, abandon_on_cancel=True
            )
        if manager is None:
            return blob
        return await trio.to_thread.run_sync(manager.prepare_key, blob)

    def located(self, spec: EngineSpec | None, prefix: Path) -> EngineSpec | None:
        """A spec that finds the same secret from where it is saved; prefix leads from there."""
        if spec is None or self._base_dir is None:
            return spec
        usual = self._base_dir / SECRET_FILE
        if spec.secret is not None:
            return replace(spec, secret=prefixed_source(spec.secret, prefix))
        is_used = None in self._managers and spec.takes_wrapped_keys and usual.exists()
        if is_used and prefix != Path():  # Beside the file it is found in any case.
            return replace(spec, secret=f"file:{prefix / SECRET_FILE}")
        return spec

    def wipe(self) -> None:
        """Overwrite every secret."""
        for manager in self._managers.values():
            manager.wipe()


def wrapping_engine(device: BlockDevice) -> tuple[str, KeyManager]:
    """Whose key manager wraps keys for a device: of a mapped one, that of the first disk below.

    Raises: StackError(EOPNOTSUPP) for a device that takes no wrapped keys natively all over.
    Source: dm_wrappedkey_op in drivers/md/dm-table.c.
    """
    if not isinstance(device, Disk):
        if KeyType.HW_WRAPPED not in device.capabilities.key_types:
            text = f"not all of {device.name!r} takes hardware-wrapped keys natively"
            raise StackError(text, errno.EOPNOTSUPP)
        return wrapping_engine(next(iter(device.underlying())))
    if device.engine is None:
        raise StackError(f"{device.name!r} has no inline engine", errno.EOPNOTSUPP)
    if device.engine.key_manager is None:
        text = f"the engine of {device.name!r} takes no hardware-wrapped keys"
        raise StackError(text, errno.EOPNOTSUPP)
    return device.name, device.engine.key_manager


def prefixed_source(source: str, folder: Path) -> str:
    """The same key source, with the folder in front of a file's path that is relative."""
    scheme, _, rest = source.partition(":")
    return f"file:{folder / rest}" if scheme == "file" else source

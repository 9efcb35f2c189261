"""A stack: a system built from a stack file, changed by verbs, saved as a stack file again.

This is the Python API; a mount shows the same object.

    async with Stack.from_toml("stack.toml") as stack:
        view = stack.system.view("home")
        await submit_bio(view.device, view.bio(Op.WRITE, 0, memoryview(bytes(4096))))
"""

import errno
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import trio

from fusedm.block import CryptoKey
from fusedm.block.errors import SpecError, StackError, StoreError
from fusedm.crypto import KeyManager, ResetResult
from fusedm.disk import Disk
from fusedm.dm import announced_keys, format_table
from fusedm.host.placement import check_creatable, check_not_on
from fusedm.stack.building import build, store_errors
from fusedm.stack.device_mapper import DeviceMapper
from fusedm.stack.engine_secrets import EngineSecrets, prefixed_source, wrapping_engine
from fusedm.stack.engine_spec import EngineSpec
from fusedm.stack.key_sources import load_key
from fusedm.stack.spec import (
    DiskSpec,
    KeySpec,
    MapperSpec,
    StackSpec,
    ViewSpec,
    parse_spec,
)
from fusedm.stores import (
    MemoryStore,
    Store,
    WaitingStore,
    open_store,
    prefixed_store,
    remove_created,
    store_path,
    store_size,
)
from fusedm.system import System, View

#: Opens the store of a disk.
StoreOpener = Callable[[DiskSpec], Awaitable[Store | WaitingStore]]


def read_spec(path: str | Path) -> StackSpec:
    """The spec in a stack file.

    Raises: SpecError, also for a file that cannot be read.
    """
    try:
        return parse_spec(Path(path).read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise SpecError(str(path), 0, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SpecError(str(path), 0, f"byte {error.start} is not UTF-8") from None


def check_stack(path: str | Path) -> None:
    """Check a stack file, tables included, without touching a store or a key.

    Raises: SpecError at the line of what cannot be built.
    Await:  runs a trio loop of its own, so it is not for async code: use Stack.check there.
    """
    trio.run(Stack.from_toml(path).check)


class Stack:
    """A system and how it came about.

    mount_point is where it will be seen, if anywhere: no store may lie there.
    Owns: its system, from entering until leaving the `async with` block.
    """

    def __init__(self, spec: StackSpec, base_dir: Path, mount_point: Path | None = None) -> None:
        self.system = System(strict=bool(spec.strict), hot_add=spec.hot_add)
        self._base_dir = base_dir.absolute()
        self._mount_point = mount_point
        self.dm = DeviceMapper(self, mount_point)
        self._to_build = spec
        self._secrets = EngineSecrets(self._base_dir)
        self._disks: dict[str, DiskSpec] = {}
        self._keys: dict[str, KeySpec] = {}

    @classmethod
    def from_toml(cls, path: str | Path, mount_point: Path | None = None) -> Self:
        """The stack of a stack file, to be entered.

        Raises: SpecError.
        """
        return cls(read_spec(path), Path(path).parent, mount_point)

    async def __aenter__(self) -> Self:
        """Build it; if anything fails, files it had created are removed.

        Raises: SpecError at the line of what cannot be built.
        """
        spec = self._to_build
        await self.check()
        try:
            await build(self, spec, spec.keys.values(), self._open_store)
            # Its tables may hold keys.
            self._to_build = StackSpec(strict=spec.strict, hot_add=spec.hot_add)
        except BaseException:
            await self._close()
            self.remove_created()
            raise
        return self

    def remove_created(self) -> None:
        """Remove the files that building it has created, as what it was built for has failed."""
        for disk in self.system.disks.values():
            remove_created(disk.store)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let targets write what they owe, close every store, overwrite every key and secret."""
        try:
            await self.system.settle(everything=True)
        finally:
            await self._close()

    async def _close(self) -> None:
        try:
            await self.system.close()
        finally:
            self._secrets.wipe()

    async def check(self) -> None:
        """Build it without touching a store or a key.

        Raises: SpecError at the line of what cannot be built.
        """
        dry = Stack._dry(self._to_build, self._base_dir)
        await build(dry, self._to_build, dry._to_build.keys.values(), self._dry_store)

    # Verbs. Each does all of its work or changes nothing.

    async def add_disk(self, spec: DiskSpec, opener: StoreOpener | None = None) -> Disk:
        """Open a store and add a disk over it.

        Raises: StoreError, StackError, CryptoError.
        """
        self.system.names.check_free("disk", spec.name)
        engine = await self._secrets.engine(spec.engine)
        try:
            store = await (opener or self._open_store)(spec)
        except ValueError as error:  # The host takes no such path: it has a NUL or half surrogate.
            raise StoreError(f"store {spec.store!r}: {error}") from None
        disk = Disk(spec.name, store, engine)
        try:
            self.system.add_disk(disk)
        except StackError:  # The name was taken while the store was being opened.
            await disk.close()
            remove_created(store)
            raise
        self._disks[spec.name] = spec
        return disk

    async def remove_disk(self, name: str, force: bool = False) -> None:
        """Flush a disk, remove it and close its store; a file stays.

        Forced, it goes also where it cannot be flushed, as when its server is gone.
        Raises: StackError(EBUSY) while it is in use; StoreError if it cannot be flushed.
        """
        disk = self.system.check_removable(name)
        if not force:
            with store_errors(name):
                await disk.flush()
        self.system.remove_disk(name)
        del self._disks[name]
        with suppress(OSError) if force else store_errors(name):
            await disk.close()

    async def lose_power(
        self, name: str, keep: Literal["nothing", "random", "everything"] = "random"
    ) -> None:
        """Have the volatile cache of a disk lose what was not flushed.

        Raises: StackError(EOPNOTSUPP) for a disk without one.
        """
        with store_errors(name):
            await self.system.disk(name).lose_power(keep)

    async def lose_engine(self, name: str) -> None:
        """Take the engine of a disk away under I/O: its fallback goes on.

        Raises: StackError(EOPNOTSUPP) for a disk without one; CryptoError as System.swap_engine.
        Await:  until the last bio on it has ended; cancelled, it is gone all the same.
        """
        if self.system.disk(name).engine is None:
            raise StackError(f"{name!r} has no engine to lose", errno.EOPNOTSUPP)
        await self._swap_engine(name, None)

    async def gain_engine(self, name: str, engine: EngineSpec) -> None:
        """Give a disk an engine under I/O.

        Raises: StackError(EEXIST) for a disk that has one; CryptoError, StackError for the engine.
        """
        if self.system.disk(name).engine is not None:
            raise StackError(f"{name!r} has an engine: lose it first", errno.EEXIST)
        await self._swap_engine(name, engine)

    async def _swap_engine(self, name: str, engine: EngineSpec | None) -> None:
        wait_ended = self.system.swap_engine(name, await self._secrets.engine(engine))
        self._disks[name] = replace(self._disks[name], engine=engine)
        await wait_ended()

    async def reset_engine(self, name: str) -> ResetResult:
        """Reset the engine of a disk: its keyslots lose their keys and are programmed anew.

        Bios in flight finish first; those that come wait.
        Raises: StackError(EOPNOTSUPP) for a disk without an engine; CryptoError(EBUSY) while it is
                being reset already.
        """
        engine = self.system.disk(name).engine
        if engine is None:
            raise StackError(f"{name!r} has no inline engine to reset", errno.EOPNOTSUPP)
        return await engine.reset()

    async def add_mapped(self, spec: MapperSpec) -> None:
        """Create a mapped device; a table, over devices of the stack, is loaded and made live.

        Raises: TableError, StackError; the device is not there then.
        """
        await self.dm.add(spec.name, spec.table, spec.uuid, spec.read_only, folder=None)

    async def add_key(self, spec: KeySpec, raw: bytes | bytearray | None = None) -> None:
        """Add a key; its bytes come from its source unless they are given.

        Raises: StackError, CryptoError.
        """
        config = spec.config
        if config.is_wrapped:
            manager = None
            if spec.wrapped_by:
                disk, manager = wrapping_engine(self.system.device(spec.wrapped_by))
                spec = replace(spec, wrapped_by=disk)
            raw = await self._secrets.wrapped_key(spec.source, raw, manager)
        elif raw is None:
            # A source may be a terminal, or a pipe that nobody writes to.
            raw = await trio.to_thread.run_sync(
                load_key, spec.source, config.key_size, self._base_dir, abandon_on_cancel=True
            )
        try:
            key = CryptoKey(spec.name, config, raw)
            try:
                self.system.add_key(key)
            except StackError:
                key.wipe()
                raise
        finally:
            if isinstance(raw, bytearray):
                raw[:] = bytes(len(raw))
        self._keys[spec.name] = spec

    def key_manager(self, name: str) -> KeyManager:
        """What wraps keys for the engine of a disk, or of the first disk below a mapped device.

        Raises: StackError: ENXIO, or EOPNOTSUPP where wrapped keys are not taken.
        """
        return wrapping_engine(self.system.device(name))[1]

    def remove_key(self, name: str) -> None:
        """Remove a key.

        Raises: StackError(EBUSY) while a view uses it.
        """
        self.system.remove_key(name)
        del self._keys[name]

    def add_view(self, spec: ViewSpec) -> View:
        """Add a view.

        Raises: StackError, CryptoError.
        """
        return self.system.add_view(
            spec.name, spec.device, spec.key, spec.dun_base, spec.start, spec.size
        )

    def spec(self, folder: Path | None = None) -> StackSpec:
        """What would build the stack as it is now, from a file in a folder; key bytes are in none.

        Relative paths lead from the folder to the same files; without one all are absolute.
        """
        prefix = self._base_dir
        if folder is not None:
            way = os.path.relpath(os.path.realpath(self._base_dir), os.path.realpath(folder))
            prefix = Path(way)
        disks = {
            name: replace(
                disk,
                store=prefixed_store(disk.store, prefix),
                engine=self._secrets.located(disk.engine, prefix),
            )
            for name, disk in self._disks.items()
        }
        mapper = {
            name: MapperSpec(
                name,
                format_table(mapped.live) + "\n" if mapped.live is not None else "",
                mapped.uuid,
                mapped.is_table_read_only,
            )
            for name, mapped in self.system.mapped.items()
        }
        views = {
            view.name: ViewSpec(
                view.name, view.device.name, view.key.name, view.dun_base, view.start, view.length
            )
            for view in self.system.views.values()
            if view.key is not None
        }
        keys = {
            name: replace(key, source=prefixed_source(key.source, prefix))
            for name, key in self._keys.items()
        }
        return replace(self._to_build, disks=disks, mapper=mapper, keys=keys, views=views)

    @classmethod
    def _dry(cls, spec: StackSpec, base_dir: Path) -> "Stack":
        """A stack of the same shape that touches no file: keys and secrets are of chance."""
        keys = {name: replace(key, source="random") for name, key in spec.keys.items()}
        dry = cls(replace(spec, keys=keys), base_dir)
        dry.system.read_table = partial(dry.system.read_table, read_keys=announced_keys)
        dry._secrets = EngineSecrets(None)
        dry.system.is_dry = True
        return dry

    async def _dry_store(self, spec: DiskSpec) -> Store:
        """Memory of the size the disk will have; nothing is created."""
        store_path(spec.store, self._base_dir)
        size = spec.size
        if size is None:
            size = await store_size(spec.store, self._base_dir)
        return MemoryStore(size, read_only=spec.read_only)

    async def _open_store(self, spec: DiskSpec) -> Store | WaitingStore:
        path = store_path(spec.store, self._base_dir)
        if path is not None:
            await trio.to_thread.run_sync(self._check_place, path)
        return await open_store(spec.store, spec.size, self._base_dir, read_only=spec.read_only)

    def _check_place(self, path: Path) -> None:
        check_creatable(path)
        if self._mount_point is not None:
            check_not_on(path, self._mount_point)

"""Keys, disks, mapped devices and data in one line each."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from random import Random

from fusedm.block import (
    Bio,
    BlockDevice,
    Capabilities,
    CryptContext,
    CryptoConfig,
    CryptoKey,
    KeyType,
)
from fusedm.block.plan import KeyslotSource
from fusedm.crypto import InlineEngine, KeyManager, PatchBlock, start_using_key, submit_bio
from fusedm.crypto.profile import ProgramHook
from fusedm.disk import Disk
from fusedm.dm import MappedDevice, parse_table
from fusedm.stores import FileStore, MemoryStore, Store
from tests.helpers.devices import lookup_in

MODE = "AES-256-XTS"


def make_key(name: str = "k", unit: int = 512, dun_bytes: int = 8, mode: str = MODE) -> CryptoKey:
    """A key whose bytes follow from its name."""
    config = CryptoConfig(mode, unit, dun_bytes)
    raw = hashlib.sha512(name.encode()).digest()
    return CryptoKey(name, config, raw[: config.key_size])


def make_disk(
    name: str = "d0",
    sectors: int = 1024,
    *,
    slots: int | None = None,
    units: Iterable[int] = (512, 4096),
    block: int = 512,
    store: Store | None = None,
    latency: float = 0.0,
    before_program: ProgramHook | None = None,
    dun_bytes: int = 8,
    key_types: Iterable[KeyType] = (KeyType.RAW,),
    key_manager: KeyManager | None = None,
) -> Disk:
    """A disk in memory; slots None is no engine, 0 an engine that takes keys with each request."""
    engine = None
    if slots is not None:
        capabilities = Capabilities.of({MODE: units}, dun_bytes, key_types)
        engine = InlineEngine(capabilities, slots, latency, before_program, key_manager)
    return Disk(name, store or MemoryStore(sectors * 512, block), engine)


def memory_file(size: int, read_only: bool = False) -> FileStore:
    """A file store in the machine's memory, whose file can be sealed."""
    fd = os.memfd_create("store", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    return FileStore(fd, Path("store"), size, read_only)


async def make_mapped(
    text: str, *devices: BlockDevice, name: str = "dm0", keys: Iterable[CryptoKey] = ()
) -> MappedDevice:
    """A mapped device with a live table, ready for the keys."""
    mapped = MappedDevice(name)
    await load(mapped, text, *devices)
    await mapped.resume()
    for key in keys:
        start_using_key(mapped, key)
    return mapped


async def load(mapped: MappedDevice, text: str, *devices: BlockDevice) -> None:
    """Put a table into the inactive slot; its flakey targets are always at second 0."""
    mapped.load(parse_table(text, lookup_in(*devices), lambda: 0.0))


def pattern(length: int, seed: int = 0) -> bytearray:
    """Bytes that follow from a seed."""
    return bytearray(Random(seed).randbytes(length))


def write_bio(sector: int, data: bytes, key: CryptoKey | None = None, dun: int = 0) -> Bio:
    """A WRITE, under a key if there is one."""
    crypt = CryptContext(key, dun) if key is not None else None
    return Bio.write(sector, memoryview(data), crypt)


def read_bio(
    sector: int, length: int, key: CryptoKey | None = None, dun: int = 0
) -> tuple[Bio, bytearray]:
    """A READ, and the buffer it will fill."""
    data = bytearray(length)
    crypt = CryptContext(key, dun) if key is not None else None
    return Bio.read(sector, memoryview(data), crypt), data


async def write(
    device: BlockDevice, sector: int, data: bytes, key: CryptoKey | None = None, dun: int = 0
) -> None:
    """Write data to a device."""
    await submit_bio(device, write_bio(sector, data, key, dun))


async def read(
    device: BlockDevice, sector: int, length: int, key: CryptoKey | None = None, dun: int = 0
) -> bytes:
    """Read length bytes of a device."""
    bio, data = read_bio(sector, length, key, dun)
    await submit_bio(device, bio)
    return bytes(data)


def contents(store: Store, sector: int = 0, length: int | None = None) -> bytes:
    """What a store holds."""
    data = bytearray(store.size - sector * 512 if length is None else length)
    store.pread_into(sector * 512, memoryview(data))
    return bytes(data)


def medium(disk: Disk, sector: int = 0, length: int | None = None) -> bytes:
    """What a disk's store holds, without going through the disk."""
    return contents(disk.store, sector, length)


async def prime(source: KeyslotSource, key: CryptoKey) -> None:
    """Have a key programmed, so that a bio with it need not wait."""
    (await source.take(key)).release()


def patch(
    sector: int, size: int, offset: int, payload: bytes, key: CryptoKey | None = None, dun: int = 0
) -> PatchBlock:
    """A read-modify-write of one block of size bytes."""
    buffer = memoryview(bytearray(size))
    crypt = CryptContext(key, dun) if key is not None else None
    read_it, write_it = Bio.read(sector, buffer, crypt), Bio.write(sector, buffer, crypt)
    return PatchBlock(read_it, write_it, offset, memoryview(payload))


def assert_nothing_is_held(*devices: Disk | MappedDevice) -> None:
    """No bio is in flight, and no keyslot or range is held or waited for."""
    for device in devices:
        assert device.stats.in_flight == 0
        engine = getattr(device, "engine", None)
        profiles = [device.fallback._profile, engine.slots if engine else None]
        for profile in (each for each in profiles if each is not None and each.slot_count):
            profile.slots.check_invariants()
            assert not any(slot.users for slot in profile.slots.slots)
            assert not profile._waiters
        if isinstance(device, Disk):
            assert not device.range_locks._holds

"""Carrying out plans: the waiting way and the way on the spot.

There is nothing to decide here. can_carry_out_now says whether a plan has anything to wait for;
since it looks and carry_out_now acts within one synchronous step, looking is as good as reserving.

Order on the waiting way: first all range locks of the plan, in one global order; then, leaf by
leaf, a keyslot. Whoever holds a keyslot waits for its own worker thread only. Hence no circle.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import trio

from fusedm.block import Bio, Op, RangeLocks
from fusedm.block.errors import BlockIOError, CryptoError, WouldBlock
from fusedm.block.plan import (
    Cipher,
    Completed,
    Concat,
    Delayed,
    Failed,
    Hooked,
    KeyslotSource,
    LeafIO,
    Node,
    Patch,
    Route,
    Scripted,
    SlotHold,
    SoftwareCrypt,
    Transformed,
)
from fusedm.block.range_locks import Extent, Hold, merged
from fusedm.crypto.ciphers import is_slow
from fusedm.crypto.data_units import decrypt_data


def can_carry_out_now(node: Node) -> bool:
    """Whether nothing in the plan has to wait; nothing changes."""
    match node:
        case LeafIO(leaf, bio, _, slots):
            if leaf.may_block(bio.op):
                return False
            return slots is None or _can_transform_now(slots, bio)
        case SoftwareCrypt(slots=slots, bio=bio, child=child):
            return _can_transform_now(slots, bio) and can_carry_out_now(child)
        case Transformed(cipher=cipher, bounce=bounce, child=child):
            return not cipher.is_slow(len(bounce)) and can_carry_out_now(child)
        case Concat(parts):
            return all(can_carry_out_now(part) for part in parts)
        case Hooked(_, _, child):
            return can_carry_out_now(child)
        case Patch(read, _, _, _, write):
            return can_carry_out_now(read) and can_carry_out_now(write)
        case Delayed() | Scripted():
            return False
        case Completed() | Failed():
            return True


def carry_out_now(node: Node) -> None:
    """Carry a plan out on the spot; only after can_carry_out_now, in the same synchronous step.

    Raises: BlockIOError.
    """
    match node:
        case LeafIO(leaf, bio, route, slots):
            if slots is None:
                leaf.perform(bio, None)
            else:
                _count_native(route)
                hold = _take_now(slots, bio, leaf.name)
                try:
                    leaf.perform(bio, hold.cipher)
                finally:
                    hold.release()
        case SoftwareCrypt(slots, bio, bounce, child, route, device_name):
            _count_fallback(route)
            if bio.op is Op.READ:
                carry_out_now(child)
            hold = _take_now(slots, bio, device_name)
            try:
                transform(hold.cipher, bio, bounce)
            finally:
                hold.release()
            if bio.op is Op.WRITE:
                carry_out_now(child)
        case Transformed(bio=bio, child=child):
            if bio.op is Op.READ:
                carry_out_now(child)
            _transform_sectors(node)
            if bio.op is Op.WRITE:
                carry_out_now(child)
        case Concat(parts):
            _raise_first([_error_now(part) for part in parts])
        case Hooked(end_io, bio, child):
            _raise_first([end_io(bio, _error_now(child))])
        case Patch(read, block, offset, payload, write):
            carry_out_now(read)
            block[offset : offset + len(payload)] = payload
            carry_out_now(write)
        case Completed(bio):
            complete(bio)
        case Failed(error):
            raise error
        case Delayed() | Scripted():
            raise WouldBlock


async def carry_out(node: Node) -> None:
    """Carry a plan out, waiting where it must; the plan's range locks are held by the caller.

    Raises: BlockIOError.
    """
    match node:
        case LeafIO(leaf, bio, route, slots):
            if slots is None:
                await _perform(node, None, False)
            else:
                _count_native(route)
                hold = await _take(slots, bio, leaf.name)
                try:
                    await _perform(node, hold.cipher, _is_slow(bio))
                finally:
                    hold.release()
        case SoftwareCrypt(slots, bio, bounce, child, route, device_name):
            _count_fallback(route)
            if bio.op is Op.READ:
                await carry_out(child)
            hold = await _take(slots, bio, device_name)
            try:
                await _transform(hold.cipher, bio, bounce)
            finally:
                hold.release()
            if bio.op is Op.WRITE:
                await carry_out(child)
        case Transformed(cipher, _, bio, bounce, child):
            if bio.op is Op.READ:
                await carry_out(child)
            if cipher.is_slow(len(bounce)):
                await trio.to_thread.run_sync(_transform_sectors, node)
            else:
                _transform_sectors(node)
            if bio.op is Op.WRITE:
                await carry_out(child)
        case Concat(parts):
            await _carry_out_all(parts)
        case Delayed(seconds, child, hurry, note):
            await _delay(seconds, hurry, note)
            await carry_out(child)
        case Scripted(_, run):
            await run()
        case Hooked(end_io, bio, child):
            _raise_first([end_io(bio, await _error(child))])
        case Patch(read, block, offset, payload, write):
            await carry_out(read)
            block[offset : offset + len(payload)] = payload
            await carry_out(write)
        case Completed() | Failed():
            carry_out_now(node)


@asynccontextmanager
async def locked(extents: Sequence[Extent]) -> AsyncIterator[None]:
    """Hold ranges of leaf sectors, taken in the one global order."""
    held: list[tuple[RangeLocks, Hold]] = []
    try:
        for locks, ranges in merged(extents):
            granted = trio.Event()
            hold = locks.take(ranges, granted.set)
            held.append((locks, hold))
            if not hold.granted:
                await granted.wait()
        yield
    finally:
        for locks, hold in held:
            locks.release(hold)


def transform(cipher: Cipher, bio: Bio, bounce: memoryview) -> None:
    """Encrypt a WRITE's data into bounce, or decrypt a READ's data in place."""
    assert bio.crypt is not None, "only for bios with a context"
    if bio.op is Op.WRITE:
        cipher.encrypt(bio.crypt.dun, bio.data, bounce)
    else:
        decrypt_data(cipher, bio.crypt, bio.data)


def _transform_sectors(node: Transformed) -> None:
    """The same for sectors that a target encrypts."""
    if node.bio.op is Op.WRITE:
        node.cipher.encrypt(node.number, node.bio.data, node.bounce)
    else:
        node.cipher.decrypt(node.number, node.bounce, node.bounce)


def complete(bio: Bio) -> None:
    """End a bio without a device: a READ gets zeros."""
    if bio.op is Op.READ:
        bio.data[:] = bytes(len(bio.data))


async def _delay(
    seconds: float, hurry: Callable[[], Awaitable[None]], note: Callable[[int], None] | None
) -> None:
    if note is not None:
        note(1)
    try:
        with trio.move_on_after(seconds):
            await hurry()
    finally:
        if note is not None:
            note(-1)


def _can_transform_now(slots: KeyslotSource, bio: Bio) -> bool:
    assert bio.crypt is not None, "only for bios with a context"
    return not _is_slow(bio) and slots.is_ready(bio.crypt.key)


def _is_slow(bio: Bio) -> bool:
    """Whether transforming its data belongs in a worker thread."""
    assert bio.crypt is not None, "only for bios with a context"
    return is_slow(bio.crypt.key.config.mode, len(bio.data))


def _take_now(slots: KeyslotSource, bio: Bio, device_name: str) -> SlotHold:
    """A keyslot that is ready; a key that hardware without slots refuses fails the bio."""
    assert bio.crypt is not None, "only for bios with a context"
    try:
        return slots.take_now(bio.crypt.key)
    except CryptoError as error:
        raise BlockIOError(error.errno, device_name, f"{bio}: {error}") from error


async def _take(slots: KeyslotSource, bio: Bio, device_name: str) -> SlotHold:
    """A keyslot for a bio; a slot that cannot be programmed fails the bio with its errno."""
    assert bio.crypt is not None, "only for bios with a context"
    try:
        return await slots.take(bio.crypt.key)
    except CryptoError as error:
        raise BlockIOError(error.errno, device_name, f"{bio}: {error}") from error


async def _perform(node: LeafIO, cipher: Cipher | None, slow: bool) -> None:
    if slow or node.leaf.may_block(node.bio.op):
        await node.leaf.run_in_thread(lambda: node.leaf.perform(node.bio, cipher))
    else:
        node.leaf.perform(node.bio, cipher)


async def _transform(cipher: Cipher, bio: Bio, bounce: memoryview) -> None:
    if _is_slow(bio):
        await trio.to_thread.run_sync(transform, cipher, bio, bounce)
    else:
        transform(cipher, bio, bounce)


async def _carry_out_all(parts: Sequence[Node]) -> None:
    errors: list[BlockIOError | None] = [None] * len(parts)

    async def one(index: int, part: Node) -> None:
        errors[index] = await _error(part)

    async with trio.open_nursery() as nursery:
        for index, part in enumerate(parts):
            nursery.start_soon(one, index, part)
    _raise_first(errors)


async def _error(node: Node) -> BlockIOError | None:
    try:
        await carry_out(node)
    except BlockIOError as error:
        return error
    return None


def _error_now(node: Node) -> BlockIOError | None:
    try:
        carry_out_now(node)
    except BlockIOError as error:
        return error
    return None


def _raise_first(errors: Sequence[BlockIOError | None]) -> None:
    for error in errors:
        if error is not None:
            raise error


def _count_native(route: Route) -> None:
    for counts in route:
        counts.native += 1


def _count_fallback(route: Route) -> None:
    for counts in route:
        counts.fallback += 1

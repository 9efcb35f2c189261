"""Carrying out plans: on the spot where nothing has to wait, else waiting, by the same code.

There is nothing to decide here. can_carry_out_now says whether a plan has anything to wait for;
since it looks and carry_out_now acts within one synchronous step, looking is as good as reserving:
carry_out then comes to its end without a wait.

Order of waiting: first all range locks of the plan, in one global order; then, leaf by leaf, a
keyslot. Whoever holds a keyslot waits for its own worker thread only. Hence no circle.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import trio

from fusedm.block import Bio, Op, RangeLocks
from fusedm.block.errors import BlockIOError, CryptoError, DeviceSuspended
from fusedm.block.plan import (
    Cipher,
    Completed,
    Concat,
    Delayed,
    Failed,
    Hooked,
    InOrder,
    KeyslotSource,
    LeafIO,
    Legs,
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
        case LeafIO():
            if node.leaf.may_block(node.bio.op):
                return False
            return node.slots is None or _can_transform_now(node.slots, node.bio)
        case SoftwareCrypt():
            return _can_transform_now(node.slots, node.bio) and can_carry_out_now(node.child)
        case Transformed(cipher=cipher, bounce=bounce, child=child):
            return not cipher.is_slow(len(bounce)) and can_carry_out_now(child)
        case Concat(parts) | InOrder(parts):
            return all(can_carry_out_now(part) for part in parts)
        case Hooked():
            return can_carry_out_now(node.child)
        case Patch(read, _, _, _, write):
            return can_carry_out_now(read) and can_carry_out_now(write)
        case Legs() | Delayed() | Scripted():
            return False  # What comes of legs may make more I/O necessary.
        case Completed() | Failed():
            return True


def carry_out_now(node: Node) -> None:
    """Carry a plan out on the spot; only after can_carry_out_now, in the same synchronous step.

    Raises: BlockIOError.
    """
    try:
        carry_out(node).send(None)
    except StopIteration:
        return
    raise AssertionError(f"{node} had something to wait for")


async def carry_out(node: Node) -> None:
    """Carry a plan out, waiting where it must; the plan's range locks are held by the caller.

    Raises: BlockIOError; DeviceSuspended from a script that is to be planned anew.
    """
    match node:
        case LeafIO():
            leaf, bio, slots, hold, cipher = node.leaf, node.bio, node.slots, None, None
            blocks = leaf.may_block(bio.op)
            if slots is not None:
                _count_native(node.route)
                hold = await _take(slots, bio, leaf.name)
                cipher, blocks = hold.cipher, blocks or _is_slow(bio)
            try:
                if blocks:
                    await leaf.perform_waiting(bio, cipher)
                else:
                    leaf.perform(bio, cipher)
            finally:
                if hold is not None:
                    hold.release()
        case SoftwareCrypt(slots, bio, bounce, child, route, device_name):
            _count_fallback(route)
            if bio.op is Op.READ:
                await carry_out(child)
            hold = await _take(slots, bio, device_name)
            try:
                if _is_slow(bio):
                    await trio.to_thread.run_sync(transform, hold.cipher, bio, bounce)
                else:
                    transform(hold.cipher, bio, bounce)
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
        case Hooked():
            _raise(node.end_io(node.bio, await _error(carry_out(node.child))))
        case Concat(parts):
            raise_first(await _carry_out_all(parts))
        case InOrder(parts):
            for part in parts:
                await carry_out(part)
        case Legs(_, parts, then):
            work = then(await _carry_out_all(parts))
            if work is not None:
                await work
        case Patch(read, block, offset, payload, write):
            await carry_out(read)
            block[offset : offset + len(payload)] = payload
            await carry_out(write)
        case Scripted(_, run):
            await run()
        case Delayed(seconds, child, hurry, note):
            await _delay(seconds, hurry, note)
            await carry_out(child)
        case Completed(bio):
            if bio.op is Op.READ:
                bio.data[:] = bytes(len(bio.data))
        case Failed():
            raise node.error()


async def carry_out_locked(node: Node, extents: Sequence[Extent]) -> None:
    """The same with ranges of leaf sectors held, taken in the one global order.

    Raises: BlockIOError.
    """
    held: list[tuple[RangeLocks, Hold]] = []
    try:
        for locks, ranges in merged(extents):
            hold = locks.take(ranges)
            held.append((locks, hold))
            if not hold.granted:
                granted = trio.Event()
                hold.wake = granted.set
                await granted.wait()
        await carry_out(node)
    finally:
        for locks, hold in held:
            locks.release(hold)


async def _carry_out_all(parts: Sequence[Node]) -> list[BlockIOError | None]:
    """Carry out parts that are independent of each other; what each fails with, in their order."""
    waiting = len(parts) - sum(map(can_carry_out_now, parts))
    return await do_all([partial(carry_out, part) for part in parts], at_once=waiting > 1)


async def do_all(
    works: Sequence[Callable[[], Awaitable[None]]], at_once: bool
) -> list[BlockIOError | None]:
    """Do several things, each to its end: at the same time, or one after the other.

    Returns: what each fails with, or None.
    Raises: DeviceSuspended if some has to be planned anew; all have come to their end then.
    """
    errors: list[BlockIOError | None] = [None] * len(works)
    suspended: list[DeviceSuspended] = []

    async def do(index: int) -> None:
        try:
            errors[index] = await _error(works[index]())
        except DeviceSuspended as error:
            suspended.append(error)

    if at_once:
        async with trio.open_nursery() as nursery:
            for index in range(1, len(works)):
                nursery.start_soon(do, index)
            await do(0)
    else:
        for index in range(len(works)):
            await do(index)
    if suspended:
        raise suspended[0]
    return errors


def raise_first(errors: list[BlockIOError | None]) -> None:
    """Raise the first of some errors, if there is any; none of them is kept."""
    while errors:
        _raise(errors.pop(0))


async def _error(work: Awaitable[None]) -> BlockIOError | None:
    """What work fails with; None if it does not."""
    try:
        await work
    except BlockIOError as error:
        return error
    return None


def _raise(error: BlockIOError | None) -> None:
    """Raise an error if there is one; no variable keeps it, which its traceback would keep."""
    if error is not None:
        try:
            raise error
        finally:
            del error


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


async def _take(slots: KeyslotSource, bio: Bio, device_name: str) -> SlotHold:
    """A keyslot for a bio; one that cannot be programmed, or a refused key, fails the bio."""
    assert bio.crypt is not None, "only for bios with a context"
    key = bio.crypt.key
    try:
        return slots.take_now(key) if slots.is_ready(key) else await slots.take(key)
    except CryptoError as error:
        raise BlockIOError(error.errno, device_name, f"{bio}: {error}") from error


def _count_native(route: Route) -> None:
    for counts in route:
        counts.native += 1


def _count_fallback(route: Route) -> None:
    for counts in route:
        counts.fallback += 1

"""The one door through which bios enter devices.

submit_bio waits where it must; submit_bio_nowait carries the bio out on the spot or raises
WouldBlock before any effect. Both plan with the same code and carry out the same plan, so there is
no rule that one of them knows and the other does not.

A plan is checked and then begun within one synchronous step: nothing can be suspended, swapped or
locked in between. From then on its bio counts as in flight on every device it passes.
"""

import errno
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from fusedm.block import Bio, BlockDevice, CryptoKey, Op
from fusedm.block.crypt_ctx import check_dun_range
from fusedm.block.errors import BlockIOError, CryptoError, DeviceSuspended, Status, WouldBlock
from fusedm.block.plan import Concat, Node, Patch, Plan, PlanBuilder, Route, Trace
from fusedm.block.units import SECTOR_SHIFT, SECTOR_SIZE
from fusedm.block.value import value
from fusedm.crypto.carry_out import can_carry_out_now, carry_out_locked, carry_out_now
from fusedm.crypto.ciphers import make_cipher, make_software


@value
class PatchBlock:
    """A write of less than a block: read it, put payload at offset, write it back.

    Shapes: read.data and write.data are the same buffer, of whole blocks.
    """

    read: Bio
    write: Bio
    offset: int
    payload: memoryview


Request = Bio | PatchBlock

#: What has to be awaited.
Submitted = Coroutine[Any, Any, None]


def submit_bio(device: BlockDevice, bio: Bio, route: Route = (), waits: bool = True) -> Submitted:
    """Have a device complete a bio; a READ's buffer is filled.

    route: what it has passed already, for a bio that a target sends on its own.
    Raises: BlockIOError; DeviceSuspended unless it waits for that.
    Await:  for a suspended device, overlapping writes, keyslots, worker threads and delays.
    """
    return submit_made(device, lambda: (bio,), route, waits)


def submit_bio_nowait(device: BlockDevice, bio: Bio) -> None:
    """The same on the spot.

    Raises: BlockIOError; WouldBlock, before any effect, if there is anything to wait for.
    """
    submit_nowait(device, (bio,))


def submit(device: BlockDevice, requests: Sequence[Request]) -> Submitted:
    """Have a device complete several requests as one: they are planned together, against one table.

    Raises: BlockIOError, the first; the other requests may have been carried out.
    """
    return submit_made(device, lambda: requests)


async def submit_made(
    device: BlockDevice,
    make: Callable[[], Sequence[Request]],
    route: Route = (),
    waits: bool = True,
) -> None:
    """The same for requests that depend on the device's size or limits: made when they are planned.

    A device may have another table when a wait for its resume is over; make is then called again.
    Raises: BlockIOError, also from make.
    """
    while True:
        try:
            await _carry_out(make_plan(device, make(), route=route))
            return
        except DeviceSuspended as suspended:
            if not waits:
                raise
            wait = suspended.wait
        await wait()


async def _carry_out(plan: Plan) -> None:
    """Carry a plan out whole.

    Raises: BlockIOError; DeviceSuspended from a script: everything is to be planned anew.
    """
    began = plan.begin()
    try:
        if _can_carry_out_now(plan):
            carry_out_now(plan.root)
        else:
            await carry_out_locked(plan.root, plan.extents)
    finally:
        plan.end(began)


def submit_nowait(device: BlockDevice, requests: Sequence[Request]) -> None:
    """Several requests on the spot; see submit and submit_bio_nowait."""
    plan = make_plan(device, requests)
    if not _can_carry_out_now(plan):
        raise WouldBlock
    began = plan.begin()
    try:
        carry_out_now(plan.root)
    finally:
        plan.end(began)


def make_plan(
    device: BlockDevice,
    requests: Sequence[Request],
    trace: Trace | None = None,
    route: Route = (),
) -> Plan:
    """What is to be done for the requests.

    Raises: BlockIOError, WouldBlock.
    """
    builder = PlanBuilder(trace=trace)
    nodes = [_plan_request(device, request, builder, route) for request in requests]
    root = nodes[0] if len(nodes) == 1 else Concat(tuple(nodes))
    return Plan(root, builder.visits, builder.extents)


def plan_bio(device: BlockDevice, bio: Bio, builder: PlanBuilder, route: Route = ()) -> Node:
    """Check a bio and ask the device for its plan; mapped devices come here for those below.

    Raises: BlockIOError, WouldBlock.
    """
    if bio.op is Op.FLUSH:
        _check_flush(device, bio)
    else:
        _check(device, bio)
    node = device.plan(bio, builder, route)
    if builder.trace is not None:
        builder.trace(device, bio, node)
    return node


def start_using_key(device: BlockDevice, key: CryptoKey) -> None:
    """Ready every software path that bios with this key may need on the device or below it.

    Every path is readied even where an engine does the work today, so that a later change of table
    or engine never has to refuse a bio. A wrapped key has no software path.
    Raises: CryptoError for a key its mode or an engine refuses, before anything has changed. In
            strict mode an XTS key of equal halves is started: hardware takes it, and software fails
            its first bio.
    Source: blk_crypto_start_using_key.
    """
    if key.config.is_wrapped:
        check_wrapped_key(device, key)
    elif not device.strict:
        make_cipher(key)
    elif not device.capabilities.supports(key.config):
        make_software(key)
    device.start_using_key(key)


def check_wrapped_key(device: BlockDevice, key: CryptoKey) -> None:
    """Refuse a wrapped key that cannot be used natively all over a device.

    Raises: CryptoError: EOPNOTSUPP, or EBADMSG if an engine below cannot unwrap it.
    """
    if not device.capabilities.supports(key.config):
        text = (
            f"key {key.name!r} is hardware-wrapped, which no software can use, and not all of "
            f"{device.name!r} can do {key.config} with such a key natively"
        )
        raise CryptoError(text, errno.EOPNOTSUPP)
    below = [device]
    for each in below:  # A leaf changes nothing when it readies a wrapped key, it only looks.
        below.extend(each.underlying())
        # Where no bio with the key can come, as to metadata, an engine need not know it.
        if not list(each.underlying()) and each.capabilities.supports(key.config):
            each.start_using_key(key)


def evict_key(device: BlockDevice, key: CryptoKey) -> None:
    """Forget a key in every engine and fallback on which it was started through this device.

    Raises: KeyBusy while any of them uses it; then nothing has changed.
    Source: blk_crypto_evict_key; devices of replaced tables are reached too.
    """
    holders = list(dict.fromkeys(device.key_users(key)))
    for holder in holders:
        holder.check_evictable(key)
    for holder in holders:
        holder.evict(key)


def not_native(device_name: str, bio: Bio) -> BlockIOError:
    """The error of a bio with a context that a mapped device sent where it cannot be honoured.

    Source: submit_bio_noacct in Linux 7.2, in strict mode only; in 6.12 the fallback of that device
    does it.
    """
    assert bio.crypt is not None, "only for bios with a context"
    text = f"{bio} with a context for {bio.crypt.key.config}, which is not native here"
    return BlockIOError(Status.NOTSUPP, device_name, text)


def _plan_request(
    device: BlockDevice, request: Request, builder: PlanBuilder, route: Route
) -> Node:
    if isinstance(request, Bio):
        return plan_bio(device, request, builder, route)
    return Patch(
        plan_bio(device, request.read, builder, route),
        request.read.data,
        request.offset,
        request.payload,
        plan_bio(device, request.write, builder, route),
    )


def _can_carry_out_now(plan: Plan) -> bool:
    for locks, begin, end in plan.extents:
        if not locks.is_free(begin, end):
            return False
    return can_carry_out_now(plan.root)


def _check(device: BlockDevice, bio: Bio) -> None:
    """What every device may rely on; the errnos are the kernel's.

    Source: submit_bio_noacct and bio_split_io_at; unless strict a read-only device gives EROFS, not
            EIO.
    """
    if bio.sector < 0 or bio.sector_count <= 0 or bio.end_sector > device.sector_count:
        text = f"{bio} is not within the device ({device.sector_count} sectors)"
        raise BlockIOError(Status.IOERR, device.name, text)
    if bio.op.changes_medium and device.read_only:
        status = Status.IOERR if device.strict else errno.EROFS
        raise BlockIOError(status, device.name, f"{bio} on a read-only device")
    if not bio.op.has_data and not _takes(device, bio.op):
        raise BlockIOError(Status.NOTSUPP, device.name, f"{bio}: it takes no such bios")
    block_sectors = device.limits.logical_block_size // SECTOR_SIZE
    if (bio.sector | bio.sector_count) % block_sectors:
        text = f"{bio} is not aligned to {device.limits.logical_block_size}-byte logical blocks"
        raise BlockIOError(Status.INVAL, device.name, text)
    length = bio.sector_count << SECTOR_SHIFT
    wanted = length if bio.op.has_data else 0
    if len(bio.data) != wanted:
        text = f"{bio} needs {wanted} bytes of data, {len(bio.data)} given"
        raise BlockIOError(Status.INVAL, device.name, text)
    if bio.crypt is not None:
        _check_context(device, bio, length)


def _takes(device: BlockDevice, op: Op) -> bool:
    """Whether a device takes bios of an operation without data."""
    return device.limits.discard if op is Op.DISCARD else device.limits.write_zeroes


def _check_flush(device: BlockDevice, bio: Bio) -> None:
    """A flush that brings anything would be acknowledged without being carried out as asked."""
    if bio.crypt is not None:
        raise _context_without_data(device, bio)
    if bio.sector or bio.sector_count or bio.data:
        raise BlockIOError(Status.INVAL, device.name, f"{bio}: a flush has no sectors or data")


def _context_without_data(device: BlockDevice, bio: Bio) -> BlockIOError:
    return BlockIOError(Status.IOERR, device.name, f"{bio} has a context but no data")


def _check_context(device: BlockDevice, bio: Bio, length: int) -> None:
    assert bio.crypt is not None, "only for bios with a context"
    if not bio.op.has_data:
        raise _context_without_data(device, bio)
    unit = bio.crypt.key.config.data_unit_size
    if length % unit:
        text = f"{bio} is {length} bytes, not a multiple of the data unit size {unit}"
        raise BlockIOError(Status.INVAL, device.name, text)
    problem = check_dun_range(bio.crypt, length)
    if problem is not None:
        raise BlockIOError(Status.INVAL, device.name, f"{bio}: {problem}")

"""The way of one request, from the bytes of a file to the bytes of the media. Pure.

What is planned here is what the data path would plan now; nothing of it is carried out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from fusedm.block import NO_DATA, Bio, BlockDevice, Op
from fusedm.block.errors import BlockIOError, StackError, WouldBlock
from fusedm.block.units import SECTOR_SHIFT
from fusedm.crypto import Request, can_carry_out_now, make_plan
from fusedm.dm import MappedDevice
from fusedm.files import claimed, obstacles, path_of, read_requests, write_requests
from fusedm.fuse import MAX_DATA_SIZE
from fusedm.inspect.walk import Walk
from fusedm.system import System, View

Json = dict[str, Any]

NO_LANE = "the stack is up with --no-lane, so libfuse answers"
COMPILED, ON_THE_SPOT, WAITS, FAILS = "compiled loop", "on the spot", "waits", "fails"


def explain(
    system: System,
    name: str,
    offset: int,
    length: int,
    write: bool = False,
    stores: Mapping[str, str] | None = None,
    has_lane: bool = True,
) -> Json:
    """What a READ or WRITE of a disk, mapped device or view would do.

    Units:  bytes; stores gives the words of the disks' stores, by name. Without a lane libfuse
            answers everything.
    Raises: StackError for a name that is not there, or a range that is none.
    """
    view = system.view(name)
    check_range(offset, length)
    told: Json = {
        "name": name,
        "op": "write" if write else "read",
        "offset": offset,
        "length": length,
        "size": view.size,
        "block_size": view.block_size,
        "data_unit_size": view.key.config.data_unit_size if view.key is not None else None,
        "key": view.key.name if view.key is not None else None,
        "requests": [],
        "stores": dict(stores or {}),
    }
    walk = Walk()
    try:
        requests = make_requests(view, offset, length, write)
        told["requests"] = [_blocks(view, request) for request in requests]
        plan = make_plan(view.device, requests, walk.trace)
    except BlockIOError as error:
        return told | {"answered": FAILS, "fails": str(error), "waits_on": [], "not_compiled": []}
    except WouldBlock:
        waits = [f"the resume of {name}, which is suspended" for name in _suspended(view.device)]
        return told | {"answered": WAITS, "waits_on": waits, "not_compiled": waits}
    nodes = getattr(plan.root, "parts", ()) if len(requests) != 1 else (plan.root,)
    for request, node in zip(told["requests"], nodes, strict=True):
        request["steps"] = walk.steps(node)
    locks = [
        f"a lock on sectors {begin}..{end} of the disk below, which a write holds"
        for locks, begin, end in plan.extents
        if not locks.is_free(begin, end)
    ]
    waits = [*locks, *walk.waits_on]
    assert can_carry_out_now(plan.root) != bool(walk.waits_on), f"it waits for {waits}"
    not_compiled = why_not_compiled(view, offset, length, write) if has_lane else [NO_LANE]
    # What Python would wait for, a store or a slow cipher, workers wait for themselves.
    in_python = WAITS if waits else ON_THE_SPOT
    return told | {
        "answered": in_python if not_compiled else COMPILED,
        "waits_on": waits,
        "not_compiled": not_compiled,
    }


def check_range(offset: int, length: int) -> None:
    """Refuse what is no range of one request.

    Raises: StackError with the numbers.
    """
    if offset < 0:
        raise StackError(f"offset {offset} is negative")
    if not 1 <= length <= MAX_DATA_SIZE:
        raise StackError(f"length {length} is not in 1..{MAX_DATA_SIZE}, one request of the kernel")


def make_requests(view: View, offset: int, length: int, write: bool) -> Sequence[Request]:
    """What the file would make of a range; a write brings zeros.

    Raises: BlockIOError(ENOSPC) for a write beyond the end.
    """
    if write:
        return write_requests(view, offset, memoryview(bytearray(length)))
    return read_requests(view, offset, length)[0]


def why_not_compiled(view: View, offset: int, length: int, write: bool) -> list[str]:
    """What keeps the compiled loop of the lane from answering a request; empty if nothing does.

    The rules are those of files/routes.py and of the loop itself; a test holds them together.
    Raises: BlockIOError, WouldBlock, where planning the request does.
    """
    if offset + length > view.size:
        return [f"it ends past the end of the file at {view.size}"]
    found = []
    if offset % view.block_size or length % view.block_size:
        found.append(f"it is not of whole blocks of {view.block_size} bytes")
    lies = path_of(view, offset)
    span, key = lies.span, view.key
    found += obstacles(view, span)
    if found:
        return found
    if lies.path is None:
        return ["a border cuts its block"]
    if not lies.begin <= offset <= offset + length <= lies.end:
        found.append(f"it reaches over a border: bytes {lies.begin}..{lies.end} lie together")
    for leg, point in zip(span.legs, lies.points, strict=key is not None):
        if key is not None and not point.slots.is_ready(key):
            found.append(f"key {key.name} is in no keyslot for {leg.leaf.name} yet")
    if write and view.device.read_only:
        found.append("a device on the way is read-only")
    elif (Op.WRITE if write else Op.READ) not in span.ops:
        found.append("a target on the way looks at each " + ("write" if write else "read"))
    if write and any(begin < offset + length and offset < end for begin, end in claimed(lies)):
        found.append("another write there is in flight")
    return found


def _blocks(view: View, request: Request) -> Json:
    """The blocks of the file that a request is about."""
    first = view.bio(Op.READ, 0, NO_DATA).sector
    bio = request if isinstance(request, Bio) else request.read
    begin = (bio.sector - first) << SECTOR_SHIFT
    told: Json = {"begin": begin, "end": begin + len(bio.data), "steps": []}
    if isinstance(request, Bio):
        return told | {"kind": bio.op.value}
    return told | {"kind": "patch", "offset": request.offset, "bytes": len(request.payload)}


def _suspended(device: BlockDevice) -> list[str]:
    """The devices from here on downwards that let no bio in."""
    own = [device.name] if isinstance(device, MappedDevice) and device.is_suspending else []
    below = [name for under in device.underlying() for name in _suspended(under)]
    return list(dict.fromkeys(own + below))

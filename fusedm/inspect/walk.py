"""A plan as steps that JSON can say: device by device, piece by piece, down to the medium. Pure.

The plan is the data path's own. A trace tells which devices were asked for each node; where the
pieces of a mapped device lie in its bio follows from their order, as they cover it.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from fusedm.block import Bio, BlockDevice, CryptoKey
from fusedm.block.plan import (
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
    Scripted,
    SoftwareCrypt,
    Transformed,
)
from fusedm.block.units import SECTOR_SHIFT
from fusedm.crypto import is_slow
from fusedm.dm import MappedDevice

Json = dict[str, Any]

#: A device and the bio it was given, the lowest first.
Chain = list[tuple[BlockDevice, Bio]]


class Walk:
    """Follows one plan; waits_on collects what carrying it out would have to wait for.

    Its trace method is to be shown the plan while it is made.
    """

    def __init__(self) -> None:
        self.waits_on: dict[str, None] = {}
        self._asked: dict[int, Chain] = defaultdict(list)

    def trace(self, device: BlockDevice, bio: Bio, node: Node) -> None:
        """Note who answered with a node; one that passes an answer on is noted after that one."""
        self._asked[id(node)].append((device, bio))

    def steps(self, node: Node) -> list[Json]:
        """What is done for a node, and below it."""
        return self._visit(node, self._asked[id(node)])

    def _visit(self, node: Node, chain: Chain) -> list[Json]:
        if not chain:
            return self._bare(node)
        device, bio = chain[-1]
        step = {"step": "device", "device": device.name, **_io(bio)}
        if isinstance(device, MappedDevice) and device.live is not None:
            step["steps"] = list(self._pieces(device, bio, node, chain[:-1]))
        else:
            step["steps"] = self._visit(node, chain[:-1])
        return [step]

    def _pieces(self, device: MappedDevice, bio: Bio, node: Node, chain: Chain) -> Iterator[Json]:
        """The pieces of a mapped device's bio, each with the target it is for."""
        assert device.live is not None, "it has planned"
        is_split = isinstance(node, Concat) and not chain
        parts = node.parts if isinstance(node, Concat) and is_split else (node,)
        sector = bio.sector
        for part in parts:
            entry = device.live.find(sector)
            count = _sector_count(part) or min(entry.end_sector, bio.end_sector) - sector
            step = {
                "step": "target",
                "target": entry.target.name,
                "start": entry.start_sector,
                "length": entry.sector_count,
                "sector": sector,
                "sectors": count,
            }
            below = self._asked[id(part)] if is_split else chain
            if isinstance(part, SoftwareCrypt) and not below:
                cut = entry.target.passes_crypto
                why = "a split cuts its data units" if cut else "it does not pass contexts"
                fallback = self._fallback(part, f"above {entry.target.name}: {why}")
                clear = part.bio.with_data(part.bounce)
                chain_below = self._asked[id(part.child)]
                fallback["steps"] = list(self._pieces(device, clear, part.child, chain_below))
                step["steps"] = [fallback]
            else:
                step["steps"] = self._visit(part, below)
            yield step
            sector += count

    def _bare(self, node: Node) -> list[Json]:
        match node:
            case LeafIO():
                return [self._leaf(node)]
            case SoftwareCrypt(child=child):
                step = self._fallback(node, "the disk cannot do it natively")
                return [step | {"steps": self.steps(child)}]
            case Transformed(cipher, _, bio, bounce, child):
                if cipher.is_slow(len(bounce)):
                    self.waits_on[f"a worker thread for {len(bounce)} bytes of a target's own"] = (
                        None
                    )
                return [{"step": "transform", "op": bio.op.value, "steps": self.steps(child)}]
            case Legs(_, parts):
                self.waits_on["what comes of each of its legs"] = None
                return [step for part in parts for step in self.steps(part)]
            case Concat(parts) | InOrder(parts):
                return [step for part in parts for step in self.steps(part)]
            case Delayed(seconds, child):
                self.waits_on[f"a delay of {seconds * 1000:g} ms"] = None
                return [{"step": "delay", "seconds": seconds, "steps": self.steps(child)}]
            case Scripted():
                self.waits_on["the I/O of a target's own"] = None
                return [{"step": "script"}]
            case Hooked(_, _, child):
                return [{"step": "hook", "steps": self.steps(child)}]
            case Completed(bio):
                return [{"step": "completed", "op": bio.op.value}]
            case Failed():
                return [{"step": "failed", "text": str(node.error())}]
            case Patch(read, _, _, _, write):
                return self.steps(read) + self.steps(write)

    def _fallback(self, node: SoftwareCrypt, why: str) -> Json:
        step = {"step": "fallback", "device": node.device_name, "why": why, **_io(node.bio)}
        return step | self._keyslot(node.slots, node.bio, f"the fallback of {node.device_name}")

    def _leaf(self, node: LeafIO) -> Json:
        leaf, bio = node.leaf, node.bio
        begin, end = bio.sector << SECTOR_SHIFT, bio.end_sector << SECTOR_SHIFT
        step = {"step": "leaf", "device": leaf.name, **_io(bio)}
        step |= {"begin_byte": begin, "end_byte": end, "native": bio.crypt is not None}
        if bio.crypt is not None:
            step |= self._keyslot(leaf.engine_slots, bio, f"the engine of {leaf.name}")
        if leaf.may_block(bio.op):
            self.waits_on[leaf.waits_on] = None
        return step

    def _keyslot(self, slots: KeyslotSource, bio: Bio, whose: str) -> Json:
        assert bio.crypt is not None, "a keyslot is for a key"
        key = bio.crypt.key
        if not slots.is_ready(key):
            self.waits_on[f"a keyslot of {whose}: {_why_no_slot(slots, key)}"] = None
        if is_slow(key.config.mode, len(bio.data)):
            units = len(bio.data) // key.config.data_unit_size
            self.waits_on[f"a worker thread for {units} data units in {whose}"] = None
        return {
            "key": key.name,
            "keyslot": slots.slot_of(key),
            "programmed": not slots.slot_count or slots.is_ready(key),
            "keyslots": slots.slot_count,
        }


def _why_no_slot(slots: KeyslotSource, key: CryptoKey) -> str:
    if slots.slot_of(key) is None:
        return f"none has key {key.name}, one would be programmed"
    return f"key {key.name} is being programmed, or others wait before it"


def _io(bio: Bio) -> Json:
    dun = None
    if bio.crypt is not None:
        count = (bio.sector_count << SECTOR_SHIFT) // bio.crypt.key.config.data_unit_size
        dun = [bio.crypt.dun, bio.crypt.dun + count - 1]
    return {"op": bio.op.value, "sector": bio.sector, "sectors": bio.sector_count, "dun": dun}


def _sector_count(node: Node) -> int:
    """The length of what a node does; 0 if it does not say."""
    match node:
        case (
            LeafIO(_, bio)
            | SoftwareCrypt(_, bio)
            | Transformed(bio=bio)
            | Hooked(_, bio)
            | Completed(bio)
            | Scripted(bio)
            | Legs(bio)
        ):
            return bio.sector_count
        case Delayed(_, child):
            return _sector_count(child)
        case Concat(parts):
            return sum(map(_sector_count, parts))
        case _:
            return 0

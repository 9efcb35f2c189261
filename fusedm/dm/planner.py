"""From a table and a bio to a plan: each piece is shown to its target, whose action becomes a node.

Pure, but for what the builder collects. A script becomes a node that knows how to run it; nothing
of it happens before.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial

from fusedm.block import Bio, BlockDevice, Op
from fusedm.block.errors import BlockIOError, Requeue, Status
from fusedm.block.plan import (
    Completed,
    Concat,
    Delayed,
    Failed,
    Hooked,
    Legs,
    Node,
    PlanBuilder,
    Route,
    Scripted,
    Transformed,
)
from fusedm.crypto import Fallback, plan_bio
from fusedm.dm.admission import Admission
from fusedm.dm.mapping import Piece, split_bio
from fusedm.dm.scripts import Turn, run_for_bio
from fusedm.dm.table import Table
from fusedm.dm.target import (
    Action,
    Complete,
    Defer,
    Each,
    Fail,
    Many,
    Remap,
    Script,
    Target,
    Transform,
)
from fusedm.dm.turns import Steps


class Planner:
    """Plans the bios of one mapped device.

    fallback transforms what a target must not see in clear; admission says how long bios may be
    delayed, and when one that is to be planned anew may come.
    """

    def __init__(
        self, name: str, fallback: Fallback, admission: Admission, is_strict: bool
    ) -> None:
        self.name = name
        self._is_strict = is_strict
        self.fallback = fallback
        self._admission = admission

    def plan_on(self, table: Table, bio: Bio, builder: PlanBuilder, route: Route) -> Node:
        """Split the bio, map each piece, and ask the devices below for their plans.

        Raises: BlockIOError, WouldBlock from below.
        """
        if bio.op is Op.FLUSH:
            return self._plan_flush(table, bio, builder, route)
        return _concat([self._plan_piece(table, p, builder, route) for p in split_bio(table, bio)])

    def plan_all_in_software(self, table: Table, bio: Bio, clear: Callable[[Bio], Node]) -> Node:
        """The whole bio through the fallback, whatever lies below; clear plans the rest."""
        entries = {id(piece.entry): piece.entry for piece in split_bio(table, bio)}
        touched = tuple(entry.counts for entry in entries.values())
        return self.fallback.plan(bio, touched, clear)

    def _plan_piece(self, table: Table, piece: Piece, builder: PlanBuilder, route: Route) -> Node:
        entry, bio, target = piece.entry, piece.bio, piece.entry.target
        below = (*route, entry.counts)
        if bio.crypt is not None and (piece.straddles or not target.passes_crypto):
            return self.fallback.plan(
                bio, below, lambda clear: self.plan_on(table, clear, builder, route)
            )
        own = bio.remap(bio.sector - entry.start_sector)
        return _hook(target, own, self._plan_action(target.map(own), own, builder, below))

    def _plan_action(self, action: Action, bio: Bio, builder: PlanBuilder, route: Route) -> Node:
        match action:
            case Remap():
                device, remapped = action.device, action.bio
                # In strict mode a context ends only where it entered; one that enters here may end
                # in the fallback of the device below.
                enters = device.strict and bio.crypt is None and remapped.crypt is not None
                return plan_bio(device, remapped, builder, () if enters else route)
            case Transform(cipher, number, Remap(device, clear)):
                is_write = clear.op is Op.WRITE
                bounce = memoryview(bytearray(len(clear.data))) if is_write else clear.data
                other = replace(clear, data=bounce, is_encrypted=False)
                child = plan_bio(device, other, builder, route)
                return Transformed(cipher, number, clear, bounce, child)
            case Complete(part):
                return self._plan_zeros(part or bio, route)
            case Fail(status):
                return Failed(status, self.name, bio)
            case Defer(seconds, then, note):
                child = self._plan_action(then, bio, builder, route)
                return Delayed(seconds, child, self._admission.wait_hurrying, note)
            case Many(actions):
                return _concat([self._plan_action(a, bio, builder, route) for a in actions])
            case Script(steps, locks, is_repeatable):
                builder.extents.extend(locks)
                if locks and builder.turn is None:
                    builder.turn = Turn()
                turn = builder.turn if locks else None
                return Scripted(bio, partial(self._run, bio, steps, route, turn, not is_repeatable))
            case Each(actions, then):
                parts = tuple(self._plan_leg(a, bio, builder, route) for a in actions)
                return Legs(bio, parts, partial(self._after_legs, bio, then, route))

    def _plan_leg(self, action: Action, bio: Bio, builder: PlanBuilder, route: Route) -> Node:
        """What is to be done for a leg; one that cannot be planned fails, and the others do not."""
        try:
            return self._plan_action(action, bio, builder, route)
        except BlockIOError as error:
            return Failed(error.errno, self.name, bio)

    def _plan_zeros(self, bio: Bio, route: Route) -> Node:
        """What is done without any device; a READ with a context finds zeros on a medium.

        Where these are holes to it, or nobody can decrypt them, it gets the zeros themselves.
        """
        crypt = bio.crypt
        if crypt is None or bio.op is not Op.READ or crypt.zeros_are_holes or self._is_strict:
            return Completed(bio)
        if crypt.key.config.is_wrapped:
            return Completed(bio)
        return self.fallback.plan(bio, route, Completed)

    async def _run(
        self,
        bio: Bio,
        make: Callable[[], Steps[None]],
        route: Route,
        turn: AbstractAsyncContextManager[object] | None = None,
        waits: bool = True,
    ) -> None:
        """Carry out the script of a bio.

        Raises: BlockIOError; DeviceSuspended for a bio that is to be planned anew.
        """
        try:
            await run_for_bio(make, route, turn, waits)
        except Requeue as again:
            if again.signal is not None:
                raise self._admission.until(again.signal) from None
            if not self._admission.is_hurrying:
                text = f"{bio} cannot go on, and no suspend is under way"
                raise BlockIOError(Status.IOERR, self.name, text) from None
            raise self._admission.refusal() from None

    def _after_legs(
        self,
        bio: Bio,
        then: Callable[[list[BlockIOError | None]], Steps[None] | None],
        route: Route,
        outcomes: list[BlockIOError | None],
    ) -> Awaitable[None] | None:
        steps = then(outcomes)
        return self._run(bio, lambda: steps, route) if steps is not None else None

    def _plan_flush(self, table: Table, bio: Bio, builder: PlanBuilder, route: Route) -> Node:
        """Every target gets the flush; a device that several merely pass it on to gets one."""
        direct: dict[BlockDevice, None] = {}
        nodes = []
        for entry in table.entries:
            target = entry.target
            action = target.map(bio)
            actions = action.actions if isinstance(action, Many) else (action,)
            if all(isinstance(one, Remap) for one in actions) and not target.has_hook:
                direct.update((one.device, None) for one in actions if isinstance(one, Remap))
            else:
                node = self._plan_action(action, bio, builder, route)
                nodes.append(_hook(target, bio, node))
        nodes += [plan_bio(device, bio, builder, route) for device in direct]
        return _concat(nodes)


def _hook(target: Target, bio: Bio, node: Node) -> Node:
    return Hooked(target.end_io, bio, node) if target.has_hook else node


def _concat(nodes: Sequence[Node]) -> Node:
    return nodes[0] if len(nodes) == 1 else Concat(tuple(nodes))

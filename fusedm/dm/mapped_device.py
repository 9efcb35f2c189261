"""A mapped device: a live table, an inactive one, and the order in which they change places.

Its targets say what should happen to a bio; this device turns that into a plan. Between two awaits
the state is ours; every change of state below is made in one synchronous step.

    suspended   no new bio is planned; those in flight are waited for
    load        checks a table and puts it into the inactive slot
    resume      makes the inactive table the live one, if there is one, and lets bios in again

What may change with a table: size, limits and capabilities. The system refreshes the limits of the
holders; capabilities are computed when they are asked for. Where each data unit is transformed is
decided bio by bio, and the ciphertext is the same wherever that is. So a table may have fewer
capabilities than the one before: every key in use has its software paths readied at load, before
anything changes. In strict mode it may not, and the choice is made once for a whole bio, as in the
kernel (fixed_profile.py).
"""

from collections.abc import Iterable, Sequence

import trio

from fusedm.block import (
    NO_CAPABILITIES,
    Bio,
    BlockDevice,
    Capabilities,
    CryptoKey,
    Generation,
    IoStats,
    KeyHolder,
    Limits,
    Op,
    Span,
)
from fusedm.block.errors import (
    BlockIOError,
    DeviceSuspended,
    StackError,
    Status,
    TableError,
)
from fusedm.block.plan import Completed, Concat, Delayed, Failed, Hooked, Node, PlanBuilder, Route
from fusedm.crypto import Fallback, not_native, plan_bio
from fusedm.dm.fixed_profile import FixedProfile, check_writable
from fusedm.dm.mapping import Piece, split_bio
from fusedm.dm.stacking import stack_capabilities, stack_limits
from fusedm.dm.started_keys import StartedKeys
from fusedm.dm.table import Table, TableEntry, check_table
from fusedm.dm.target import Action, Complete, Defer, Fail, Many, Remap, Target


class MappedDevice:
    """A device made of a table.

    Owns: its tables and its fallback, not the devices below. Lives: until the stack removes it.
    """

    def __init__(self, name: str, uuid: str = "", strict: bool = False) -> None:
        self.name = name
        self.uuid = uuid
        self.live: Table | None = None
        self.inactive: Table | None = None
        self.suspended = False
        self.stats = IoStats()
        self.holders: dict[BlockDevice, None] = {}
        self.fallback = Fallback(name)
        #: Whether the live table was loaded read-only.
        self.is_table_read_only = False
        #: Whether it was, or some device below was read-only when it became live.
        self.read_only = False
        self._inactive_read_only = False
        self._limits = Limits()
        self._generation = Generation()
        self._fixed = FixedProfile() if strict else None
        self._keys = StartedKeys()
        self._changing = trio.Lock()
        self._suspending = trio.Event()
        self._resumed = trio.Event()

    @property
    def sector_count(self) -> int:
        """The size of the live table; 0 without one."""
        return self.live.sector_count if self.live is not None else 0

    @property
    def limits(self) -> Limits:
        """The limits of the live table, as of the last refresh."""
        return self._limits

    @property
    def strict(self) -> bool:
        """Whether the kernel's decisions are followed to the letter."""
        return self._fixed is not None

    @property
    def capabilities(self) -> Capabilities:
        """The intersection of what lies below, as it is now; in strict mode as it was at load."""
        if self._fixed is not None:
            return self._fixed.capabilities
        return stack_capabilities(self.live) if self.live is not None else NO_CAPABILITIES

    @property
    def told_modes(self) -> frozenset[str] | None:
        """In strict mode those of the first table."""
        return self._fixed.told_modes if self._fixed is not None else None

    @property
    def is_suspending(self) -> bool:
        """Whether no new bio is let in: suspended, or on the way there."""
        return self._suspending.is_set()

    def underlying(self) -> list[BlockDevice]:
        """The devices of both tables, each once: what this device holds."""
        tables = [table for table in (self.live, self.inactive) if table is not None]
        return list(dict.fromkeys(device for table in tables for device in table.devices()))

    # Planning: pure, but for what the builder collects.

    def plan(self, bio: Bio, builder: PlanBuilder, route: Route) -> Node:
        """Split the bio, map each piece, and ask the devices below for their plans.

        Raises: BlockIOError without a live table; DeviceSuspended.
        """
        live = self._table_for(bio)
        if self._fixed is not None and bio.crypt is not None:
            config = bio.crypt.key.config
            if not self._fixed.capabilities.supports(config):
                if route:
                    raise not_native(self.name, bio)
                entries = {id(piece.entry): piece.entry for piece in split_bio(live, bio)}
                touched = tuple(entry.counts for entry in entries.values())
                return self.fallback.plan(
                    bio, touched, lambda clear: plan_bio(self, clear, builder)
                )
        builder.visits.append((self.stats, bio.op, bio.sector_count))
        return self._plan_on(live, bio, builder, route)

    def span(self, sector: int) -> Span:
        """Where the target of a sector sends its neighbours, as far as all go the same way.

        Raises: BlockIOError without a live table; DeviceSuspended.
        """
        live = self._table_for("a search")
        entry = live.find(sector)
        own = sector - entry.start_sector
        begin, end = entry.start_sector, entry.end_sector
        chunk = entry.target.max_io_sectors
        if chunk is not None:
            begin = sector - own % chunk
            end = min(end, begin + chunk)
        action = entry.target.map(Bio(Op.READ, own, 1)) if entry.target.is_steady else Complete()
        guard = (self._generation, self._generation.number)
        if not isinstance(action, Remap):
            return Span(begin, end, guards=(guard,))
        below = action.device.span(action.bio.sector)
        shift = action.bio.sector - sector
        return Span(
            begin=max(begin, below.begin - shift),
            end=min(end, below.end - shift),
            leaf=below.leaf,
            shift=shift + below.shift,
            is_writable=below.is_writable and not self.read_only,
            passes_crypto=below.passes_crypto and entry.target.passes_crypto,
            visits=(self.stats, *below.visits),
            route=(entry.counts, *below.route),
            guards=(guard, *below.guards),
            native=self._native_with(below.native),
        )

    def _native_with(self, below: Capabilities | None) -> Capabilities | None:
        """In strict mode what this device and those below all say they can do natively."""
        if self._fixed is None:
            return below
        own = self._fixed.capabilities
        return own if below is None else own.intersect(below)

    def _table_for(self, what: object) -> Table:
        """The live table, while bios are let in.

        Raises: BlockIOError without a live table; DeviceSuspended.
        """
        if self.is_suspending:
            raise DeviceSuspended(self._resumed.wait)
        if self.live is None:
            raise BlockIOError(Status.IOERR, self.name, f"{what} without a live table")
        return self.live

    def _plan_on(self, table: Table, bio: Bio, builder: PlanBuilder, route: Route) -> Node:
        if bio.op is Op.FLUSH:
            return self._plan_flush(table, bio, builder, route)
        return _concat([self._plan_piece(table, p, builder, route) for p in split_bio(table, bio)])

    def _plan_piece(self, table: Table, piece: Piece, builder: PlanBuilder, route: Route) -> Node:
        entry, bio = piece.entry, piece.bio
        below = (*route, entry.counts)
        if bio.crypt is not None and (piece.straddles or not entry.target.passes_crypto):
            return self.fallback.plan(
                bio, below, lambda clear: self._plan_on(table, clear, builder, route)
            )
        own = bio.remap(bio.sector - entry.start_sector)
        return self._hook(entry, own, self._plan_action(entry.target.map(own), own, builder, below))

    def _plan_action(self, action: Action, bio: Bio, builder: PlanBuilder, route: Route) -> Node:
        match action:
            case Remap(device, remapped):
                return plan_bio(device, remapped, builder, route)
            case Complete():
                return Completed(bio)
            case Fail(status):
                return Failed(BlockIOError(status, self.name, str(bio)))
            case Defer(seconds, then):
                child = self._plan_action(then, bio, builder, route)
                return Delayed(seconds, child, self._suspending.wait)
            case Many(actions):
                return _concat([self._plan_action(a, bio, builder, route) for a in actions])

    def _plan_flush(self, table: Table, bio: Bio, builder: PlanBuilder, route: Route) -> Node:
        """Every target gets the flush; a device that several merely pass it on to gets one."""
        direct: dict[BlockDevice, None] = {}
        nodes = []
        for entry in table.entries:
            action = entry.target.map(bio)
            actions = action.actions if isinstance(action, Many) else (action,)
            if all(isinstance(one, Remap) for one in actions) and not _has_hook(entry.target):
                direct.update((one.device, None) for one in actions if isinstance(one, Remap))
            else:
                node = self._plan_action(action, bio, builder, route)
                nodes.append(self._hook(entry, bio, node))
        nodes += [plan_bio(device, bio, builder, route) for device in direct]
        return _concat(nodes)

    def _hook(self, entry: TableEntry, bio: Bio, node: Node) -> Node:
        return Hooked(entry.target.end_io, bio, node) if _has_hook(entry.target) else node

    # Changing tables.

    def load(self, table: Table, read_only: bool = False) -> None:
        """Put a table into the inactive slot; one that was there is dropped.

        Raises: TableError(EINVAL) if this device would end up below itself; in strict mode also for
                less crypto capabilities, and EACCES for what lies below read-only. CryptoError for
                a key in use that could not be used on it. Nothing has changed then.
        """
        if self in _all_below(table.devices()):
            raise TableError(0, "", f"{self.name} would lie below itself (a cycle)")
        if self._fixed is None:
            self._keys.start_all(table.devices())
        else:
            if not read_only:
                check_writable(table)
            new = self._fixed.check(table)
            self._keys.start_all(table.devices())
            self._fixed.load(new)
        self._inactive_read_only = read_only
        self._set_tables(self.live, table)

    def clear(self) -> None:
        """Drop the inactive table, if there is one."""
        self._set_tables(self.live, None)

    async def suspend(self) -> None:
        """Let no new bio in and wait for those in flight; a delayed one goes on at once.

        A suspended device stays as it is.
        Await: until nothing is in flight; cancelled, the device goes on as before.
        """
        async with self._changing:
            await self._suspend()

    async def resume(self) -> None:
        """Make the inactive table live, if there is one, and let bios in.

        Raises: TableError if the inactive table no longer fits what lies below: then it is dropped
                and the device goes on with the live one. StackError(EINVAL) if there is no table.
        """
        async with self._changing:
            if self.inactive is not None:
                await self._suspend_and_swap()
            if self.live is None:
                raise StackError(f"{self.name} has no table: load one before resume")
            self._let_bios_in()

    def close(self) -> None:
        """Drop both tables; bios that wait for a resume fail."""
        self._set_tables(None, None)
        self._let_bios_in()

    def _set_tables(self, live: Table | None, inactive: Table | None) -> None:
        """Change tables, and hold the devices below them and no others."""
        before = self.underlying()
        self.live, self.inactive = live, inactive
        for device in before:
            device.holders.pop(self, None)
        for device in self.underlying():
            device.holders[self] = None

    def _let_bios_in(self) -> None:
        self.suspended = False
        self._generation.advance()
        # Delayed bios in flight wait for this event: it is only replaced once it has woken them.
        if self._suspending.is_set():
            self._suspending = trio.Event()
        self._resumed.set()

    async def _suspend(self) -> None:
        if self.suspended:
            return
        self._resumed = trio.Event()
        self._suspending.set()
        self._generation.advance()
        try:
            if self.stats.in_flight:
                drained = trio.Event()
                self.stats.on_idle = drained.set
                await drained.wait()
        except trio.Cancelled:
            self._let_bios_in()
            raise
        finally:
            self.stats.on_idle = None
        self.suspended = True

    async def _suspend_and_swap(self) -> None:
        was_suspended = self.suspended
        await self._suspend()
        # Another table may have been loaded meanwhile, or this one cleared.
        new, old = self.inactive, self.live
        if new is None:
            return
        try:
            check_table(new)
        except TableError:
            self._set_tables(old, None)
            # The kernel leaves the device suspended: a further resume brings the old table back.
            if not was_suspended and not self.strict:
                self._let_bios_in()
            raise
        self.is_table_read_only = self._inactive_read_only
        self._set_tables(new, None)
        if self._fixed is not None:
            self._fixed.swap()
        self.refresh()
        dropped = set(old.devices() if old is not None else ()) - set(self.underlying())
        self._keys.evict_from(dropped)

    def refresh(self) -> None:
        """Take over what has changed below: limits, and whether it may be written."""
        self._generation.advance()
        if self.live is not None:
            self._limits = stack_limits(self.live)
            below = self.live.devices()
            self.read_only = self.is_table_read_only or any(d.read_only for d in below)

    # Keys.

    def start_using_key(self, key: CryptoKey) -> None:
        """Ready the fallback here and every software path below, in both tables."""
        self.fallback.start(key.config.mode)
        self._keys.start(key, self.underlying())

    def prepare_change(self) -> None:
        """Ready what every key here may need once less can be done natively below.

        Raises: CryptoError; nothing has changed then.
        """
        for key in self._keys:
            self.fallback.start(key.config.mode)

    def key_users(self, key: CryptoKey) -> Iterable[KeyHolder]:
        """Everything here and below that may hold the key, devices of old tables included."""
        yield self.fallback
        yield from self._keys.users(key)


def _all_below(devices: Iterable[BlockDevice]) -> set[BlockDevice]:
    """The devices and everything under them."""
    found: set[BlockDevice] = set()
    to_visit = list(devices)
    while to_visit:
        device = to_visit.pop()
        if device not in found:
            found.add(device)
            to_visit.extend(device.underlying())
    return found


def _has_hook(target: Target) -> bool:
    return type(target).end_io is not Target.end_io


def _concat(nodes: Sequence[Node]) -> Node:
    return nodes[0] if len(nodes) == 1 else Concat(tuple(nodes))

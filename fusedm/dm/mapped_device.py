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

import logging
from collections.abc import Iterable
from dataclasses import replace

import trio

from fusedm.block import (
    FLUSH,
    NO_CAPABILITIES,
    PREFLUSH,
    Bio,
    Capabilities,
    CryptoKey,
    Generation,
    IoStats,
    KeyHolder,
    Limits,
    Span,
)
from fusedm.block.errors import (
    BlockIOError,
    FusedmError,
    StackError,
    Status,
    TableError,
)
from fusedm.block.plan import InOrder, Node, PlanBuilder, Route
from fusedm.block.span import own_span
from fusedm.crypto import Fallback, not_native, plan_bio
from fusedm.dm.admission import Admission
from fusedm.dm.fixed_profile import FixedProfile, check_writable
from fusedm.dm.lifecycle import (
    open_targets,
    postsuspend_targets,
    preresume_targets,
    presuspend_targets,
    resume_targets,
    start_targets,
)
from fusedm.dm.planner import Planner
from fusedm.dm.scripts import run_script
from fusedm.dm.slots import TableSlots
from fusedm.dm.spans import flush_through, span_through
from fusedm.dm.stacking import all_below, check_superset, stack_capabilities, stack_limits
from fusedm.dm.started_keys import StartedKeys
from fusedm.dm.table import Table, check_table, check_types

log = logging.getLogger(__name__)


class MappedDevice(TableSlots):
    """A device made of a table.

    Owns: its tables and its fallback, not the devices below. Lives: until the stack removes it.
    """

    def __init__(
        self, name: str, uuid: str = "", strict: bool = False, takes_weaker: bool = True
    ) -> None:
        super().__init__()
        self.name = name
        self.uuid = uuid
        self.suspended = False
        #: Whether it is only tried how a stack will be; its media are empty then.
        self.is_dry = False
        self.stats = IoStats()
        self.fallback = Fallback(name)
        #: Whether the live table was loaded read-only.
        self.is_table_read_only = False
        #: Whether it was, or some device below was read-only when it became live.
        self.read_only = False
        self._inactive_read_only = False
        #: The limits of the live table, as of the last refresh.
        self.limits = Limits()
        self._generation = Generation()
        self._fixed = FixedProfile() if strict else None
        #: Whether a table may add a device with fewer capabilities than those have that stay.
        self._takes_weaker = takes_weaker
        self._keys = StartedKeys()
        self._admission = Admission(self.stats, self._generation)
        self._planner = Planner(name, self.fallback, self._admission, strict)
        self._changing = trio.Lock()
        #: Whether it is to go as soon as nobody uses it.
        self.deferred_remove = False

    @property
    def sector_count(self) -> int:
        """The size of the live table; 0 without one."""
        return self.live.sector_count if self.live is not None else 0

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
    def told(self) -> Capabilities | None:
        """In strict mode those of the first table."""
        return self._fixed.told if self._fixed is not None else None

    @property
    def is_suspending(self) -> bool:
        """Whether no new bio is let in: suspended, or on the way there."""
        return self._admission.is_closed

    def rename(self, name: str) -> None:
        """Go by another name from now on."""
        self.name = self._planner.name = self.fallback.device_name = name

    # Planning: pure, but for what the builder collects.

    def plan(self, bio: Bio, builder: PlanBuilder, route: Route) -> Node:
        """Split the bio, map each piece, and ask the devices below for their plans.

        Raises: BlockIOError without a live table; DeviceSuspended.
        """
        live = self._table_for(bio)
        if bio.flags & PREFLUSH:
            data = replace(bio, flags=bio.flags & ~PREFLUSH)
            return InOrder(tuple(plan_bio(self, each, builder, route) for each in (FLUSH, data)))
        if self._fixed is not None and bio.crypt is not None:
            config = bio.crypt.key.config
            if not self._fixed.capabilities.supports(config):
                if route:
                    raise not_native(self.name, bio)
                return self._planner.plan_all_in_software(
                    live, bio, lambda clear: plan_bio(self, clear, builder)
                )
        builder.visits.append((self.stats, bio.op, bio.sector_count))
        return self._planner.plan_on(live, bio, builder, route)

    def span(self, sector: int) -> Span:
        """Where the target of a sector sends its neighbours, as far as all go the same way."""
        return span_through(self._table_for("a search").find(sector), sector, self._own_span())

    def flush_span(self) -> Span | None:
        """Which leaves a FLUSH reaches, if that is all that comes of it."""
        return flush_through(self._table_for("a flush"), self._own_span())

    def _own_span(self) -> Span:
        native = self._fixed.capabilities if self._fixed is not None else None
        more = {"native": native, "fallback": self.fallback}
        return own_span(self.stats, self._generation, self.read_only, **more)

    def _table_for(self, what: object) -> Table:
        """The live table, while bios are let in.

        Raises: BlockIOError without a live table; DeviceSuspended.
        """
        self._admission.check()
        if self.live is None:
            raise BlockIOError(Status.IOERR, self.name, f"{what} without a live table")
        return self.live

    # Changing tables.

    def load(self, table: Table, read_only: bool = False) -> None:
        """Put a table into the inactive slot; one that was there is dropped.

        Targets that read what lies below do so before, by open_targets, or else at its resume.
        Raises: TableError(EINVAL) if this device would end up below itself; in strict mode also for
                less crypto capabilities, and EACCES for what lies below read-only. CryptoError for
                a key in use that could not be used on it. Nothing has changed then.
        """
        new = self.check_load(table, read_only)
        self._keys.start_all(table)
        start_targets(table, self)
        if self._fixed is not None:
            self._fixed.load(new)
        self._inactive_read_only = read_only
        self._set_inactive(table)

    def check_load(self, table: Table, read_only: bool = False) -> Capabilities:
        """Refuse a table that load would, as far as one can tell; what its capabilities are.

        Raises: TableError as load.
        """
        if self in all_below(table.devices()):
            raise TableError(0, "", f"{self.name} would lie below itself (a cycle)")
        check_types(self.live, table, read_only)
        self._keys.check_wrapped(table)
        if self.live is not None and not self._takes_weaker:
            check_superset(self.name, self.live, table)
        if self._fixed is None:
            return NO_CAPABILITIES
        if not read_only:
            check_writable(table)
        return self._fixed.check(table)

    async def prepare_suspend(self) -> None:
        """Have what a suspend would wait for go on, and nothing more be delayed.

        Raises: FusedmError of a target that does not let itself be suspended.
        """
        if not self._admission.is_hurrying:
            self._admission.hurry()
            try:
                if self.live is not None:
                    await presuspend_targets(self.live)
            except BaseException:
                self.give_up_suspend()
                raise

    def give_up_suspend(self) -> None:
        """Go on as before prepare_suspend, if nothing more has happened since."""
        if self._admission.is_hurrying and not self.suspended:
            self._admission.delay_again()
            if self.live is not None:
                resume_targets(self.live, self.name, self._quiesce)

    async def suspend(self) -> None:
        """Let no new bio in and wait for those in flight; a delayed one goes on at once.

        Raises: FusedmError of a target that cannot write what it owes: all goes on as before.
        Await: until nothing is in flight, unless suspended; cancelled, all goes on as before.
        """
        async with self._changing:
            await self._suspend()

    async def resume(self) -> None:
        """Make the inactive table live, if there is one, and let bios in.

        Raises: TableError if the inactive table does not fit what lies below or a wrapped key that
                is used by now, or its targets cannot be opened or go on: it is dropped, the live
                one stays. StackError(EINVAL) if there is no table; that of a target that cannot go
                on, after which the device stays suspended.
        """
        async with self._changing:
            was_suspended = self.suspended
            if self.inactive is not None:
                await self._suspend()
            # Another table may have been loaded meanwhile, or this one cleared.
            if self.inactive is not None:
                await self._swap(self.inactive, was_suspended)
            elif self.live is None:
                if not was_suspended:
                    self._let_bios_in()
                raise StackError(f"{self.name} has no table: load one before resume")
            elif self.suspended:
                await preresume_targets(self.live)
            self._let_bios_in()

    def close(self) -> None:
        """Drop both tables; bios that wait for a resume fail, who waits for an event is woken."""
        self._set_tables(None, None)
        self._let_bios_in()
        self.raise_event()

    async def end(self) -> None:
        """Drop both tables once nothing is in flight, and let their targets write what they owe."""
        async with self._changing:
            try:
                await self._suspend()
            except FusedmError as error:
                log.warning("%s: at its end: %s", self.name, error)
            self.close()
            await self.settle()

    def changed(self) -> None:
        """What was found out about the way of bios does not hold any more."""
        self._generation.advance()

    async def _quiesce(self) -> None:
        """Wait until all bios have ended that were planned before, and let no others overtake."""
        async with self._changing, self._admission.closed():
            """Nothing is in flight now."""

    def _let_bios_in(self) -> None:
        self.suspended = False
        self.give_up_suspend()
        self._admission.open()

    async def _suspend(self) -> None:
        if self.suspended:
            return
        try:
            await self.prepare_suspend()
            await self._admission.close()
        except BaseException:
            self._let_bios_in()
            raise
        try:
            if self.live is not None:
                await postsuspend_targets(self.live)
        except BaseException:
            await self._go_on(self.live)
            raise
        self.suspended = True

    async def _go_on(self, live: Table | None) -> None:
        """Let bios in again although a change was to be made; it was cancelled perhaps.

        Raises: FusedmError of a target that cannot go on: the device stays suspended.
        """
        self.suspended = True
        if live is not None:
            with trio.CancelScope(shield=True):
                await preresume_targets(live)
        self._let_bios_in()

    async def _swap(self, new: Table, was_suspended: bool) -> None:
        old, read_only, self._incoming = self.live, self._inactive_read_only, new
        try:
            check_table(new)
            self._keys.check_wrapped(new)
            await open_targets(new, self)
            if not self.strict:
                await preresume_targets(new)
        except BaseException:
            self._end_swap(old)
            # The kernel leaves the device suspended: a further resume brings the old table back.
            if not was_suspended and not self.strict:
                await self._go_on(old)
            await self.settle()
            raise
        self.is_table_read_only = read_only
        self._end_swap(new)
        if self._fixed is not None:
            self._fixed.swap()
        self.refresh()
        dropped = set(old.devices() if old is not None else ()) - set(self.underlying())
        self._keys.evict_from(dropped)
        await self.settle()
        if self.strict:  # There the new table is live already when it turns out not to go on.
            await preresume_targets(new)

    def refresh(self) -> None:
        """Take over what has changed below: limits, and whether it may be written."""
        self._generation.advance()
        if self.live is not None:
            self.limits = stack_limits(self.live)
            below = self.live.data_devices()
            self.read_only = self.is_table_read_only or any(d.read_only for d in below)

    # Messages.

    async def message(self, sector: int, words: list[str]) -> str:
        """Give a message to the target of a sector of the live table; returns its reply.

        Raises: StackError(EINVAL), or what the target says; BlockIOError if its I/O fails.
        """
        if not words:
            raise StackError("a message has at least one word")
        if self.live is None and self.strict:
            return ""  # As in the kernel, where nobody hears it then.
        if self.live is None:
            raise StackError(f"{self.name} has no live table to give a message to")
        if not 0 <= sector < self.sector_count:
            text = f"sector {sector} is not within {self.name} ({self.sector_count} sectors)"
            raise StackError(text)
        reply = self.live.find(sector).target.message(words)
        return reply if isinstance(reply, str) else await run_script(reply)

    # Keys.

    def start_using_key(self, key: CryptoKey) -> None:
        """Ready the fallback here and every software path below, in both tables."""
        self.fallback.start(key.config.mode)
        self._keys.start(key, self._held_tables())

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

"""What happens to a target in its life, and the scripts by which it reads and writes on its own."""

from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from fusedm.dm.target import Step

T = TypeVar("T")

#: I/O of a target's own, step by step: each step is carried out and waited for before the next is
#: asked for, every bio entering the device below by the front door. One that fails is thrown in,
#: as a BlockIOError. Between two steps nobody else runs.
Steps = Generator["Step", Any, T]


class Host(Protocol):
    """The mapped device that a target belongs to."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def is_dry(self) -> bool:
        """Whether it is only tried how a stack will be: media below are as empty as new ones."""

    def raise_event(self) -> None:
        """Count an event and wake those who wait for one."""

    def changed(self) -> None:
        """Bios may go another way from now on."""


class _Nobody:
    """The host of a target that no device has yet."""

    name = ""
    is_dry = False

    def raise_event(self) -> None:
        """Nobody waits for it."""

    def changed(self) -> None:
        """Nobody has been told anything."""


class Turns:
    """What happens to a target in its life, in this order; nothing to do is the rule.

    Where a table takes the place of another: presuspend of the old one, the end of all bios,
    postsuspend, then preresume of the new one, closing of the old one, resumed, bios, stop of the
    old one. Steps may fail: up to preresume of the new one the old one goes on then.
    Source: dm_swap_table and do_resume in the kernel's device mapper.
    """

    #: The device that it belongs to, from opening on.
    host: Host = _Nobody()

    def opening(self) -> Steps[None]:
        """What is to be read below before the table can be loaded.

        Raises: BlockIOError, StackError: then the table is refused.
        """
        yield from ()

    def start(self) -> None:
        """Its table has been loaded.

        Raises: FusedmError: then the table is refused.
        """

    def preresume(self) -> Steps[None]:
        """Bios are about to be let in, for the first time or again.

        Raises: BlockIOError, StackError: a new table is dropped and the old one goes on, but in
                strict mode; without one the device stays suspended.
        """
        yield from ()

    def resumed(self) -> None:
        """Bios come, or go on coming since a suspend has been given up."""

    def background(self) -> Iterable[Steps[None]]:
        """Scripts that run from the first time that bios come until the table is dropped.

        While the device is suspended none is given its next turn. What they lock they lock by a
        Script of their own; so there is no step between which something is locked. One that fails
        is logged, and is not begun again.
        """
        return ()

    def presuspend(self) -> Steps[None]:
        """A suspend begins, bios still come: let those go on that wait for something.

        Raises: BlockIOError, StackError: then it is given up.
        """
        yield from ()

    def postsuspend(self) -> Steps[None]:
        """No bio is in flight, none comes: write what is owed.

        Raises: BlockIOError, StackError: then the suspend is given up.
        """
        yield from ()

    def closing(self) -> Steps[None]:
        """Its table is not used any more, nor is the next one yet; errors change nothing."""
        yield from ()

    def stop(self) -> None:
        """Its table has been dropped, after a start."""

    def forget(self) -> None:
        """It is no more, whether it was ever loaded or not: overwrite what must not be left."""

    def raise_event(self) -> None:
        """Count an event of the device and wake those who wait for one."""
        self.host.raise_event()

    def changed(self) -> None:
        """What was said of how bios go (steady) does not hold any more."""
        self.host.changed()

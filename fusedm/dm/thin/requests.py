"""Blocks that bios want, given out in the order of what they are for. Pure."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusedm.dm.target import Script, Wait
from fusedm.dm.thin.mode import Mode
from fusedm.dm.turns import Steps

if TYPE_CHECKING:
    from fusedm.dm.thin.pool import Pool


@dataclass(eq=False, slots=True)
class Request:
    """A data block for a block of a thin device; data is the one it was given, if any."""

    number: int
    block: int
    data: int | None = None
    is_answered: bool = False
    is_over: bool = False


class Requests:
    """What is wanted of one pool: whoever asks gives out for all who have asked by then.

    So what belongs together lies together, as in the kernel, whose worker sorts what has come.
    """

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._wanted: list[Request] = []

    def ask(self, number: int, block: int) -> Steps[int]:
        """A data block for a block of a thin device.

        Raises: BlockIOError, Requeue as the pool's no_room.
        """
        pool = self._pool
        while pool.mode is Mode.WRITE:
            request = Request(number, block)
            self._wanted.append(request)
            try:
                # The other parts of the bio have begun in the first turn, and asked by the second.
                yield Wait(seconds=0)
                yield Wait(seconds=0)
                if not request.is_answered:
                    yield Script(self._give_out, pool.lock)
                data, request.data = request.data, None
                if data is not None:
                    return data
            finally:
                request.is_over = True
                if request.data is not None:
                    pool.give_back(request.data, request.data + 1)
            if not pool.metadata.can_allocate:
                break
        raise pool.no_room()

    def _give_out(self) -> Steps[None]:
        wanted, self._wanted = self._wanted, []
        wanted.sort(key=lambda one: (one.number, one.block))
        try:
            while wanted:
                request = wanted[0]
                if not request.is_over:
                    request.data = yield from self._pool.allocate()
                    if request.is_over and request.data is not None:
                        self._pool.give_back(request.data, request.data + 1)
                request.is_answered = True
                del wanted[0]
        finally:
            # Who has been given up leaves them to the next.
            self._wanted += wanted

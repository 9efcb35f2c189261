"""What a pool is told to do: its messages.

Source: pool_message in the kernel's drivers/md/dm-thin.c.
"""

import errno
from collections.abc import Callable

from fusedm.block.errors import StackError
from fusedm.dm.target import Script
from fusedm.dm.thin.mode import Mode
from fusedm.dm.thin.pool import Pool
from fusedm.dm.turns import Steps
from fusedm.tables import whole_number

MAX_THIN_ID = (1 << 24) - 1


def carry_out(pool: Pool, words: list[str]) -> Steps[str]:
    """Do what a message asks, and commit.

    Raises: StackError: EOPNOTSUPP if the pool is read-only or has failed, EINVAL for words it does
            not know, EEXIST, ENODATA, EBUSY.
    """
    if pool.mode >= Mode.OUT_OF_METADATA_SPACE:
        text = f"the pool is {pool.mode.word}, and takes no messages"
        raise StackError(text, errno.EOPNOTSUPP)
    verb, *arguments = words
    names, steps = _VERBS.get(verb.lower(), ((), None))
    if steps is None:
        raise StackError(f"thin-pool takes no message {verb!r}")
    if len(arguments) != len(names):
        wanted = " ".join((verb, *names))
        raise StackError(f"message {wanted}: takes {len(names)} numbers, {len(arguments)} given")
    numbers = [_number(*pair) for pair in zip(names, arguments, strict=True)]
    yield Script(lambda: steps(pool, numbers), pool.lock, is_repeatable=True)
    # One that fails makes the pool read-only, and the message has been carried out.
    yield Script(pool.commit, pool.lock, is_repeatable=True)
    return ""


def _number(name: str, word: str) -> int:
    number = whole_number(word)
    if number is None:
        raise StackError(f"{name}: {word!r} is not a number")
    if name != "transaction_id" and number > MAX_THIN_ID:
        raise StackError(f"{name}: {word} is not in 0..{MAX_THIN_ID}")
    return number


Do = Callable[[Pool, list[int]], Steps[None]]


def _create_thin(pool: Pool, numbers: list[int]) -> Steps[None]:
    pool.metadata.create_thin(*numbers)
    yield from ()


def _create_snap(pool: Pool, numbers: list[int]) -> Steps[None]:
    pool.metadata.create_snap(*numbers)
    pool.note_shared(numbers[1])
    yield from ()


def _delete(pool: Pool, numbers: list[int]) -> Steps[None]:
    if pool.is_open(*numbers):
        raise StackError(f"thin device {numbers[0]} is in use", errno.EBUSY)
    pool.metadata.delete(*numbers)
    yield from ()


def _set_transaction_id(pool: Pool, numbers: list[int]) -> Steps[None]:
    pool.metadata.set_transaction_id(*numbers)
    yield from ()


def _reserve(pool: Pool, numbers: list[int]) -> Steps[None]:
    yield from pool.commit()
    yield from pool.metadata.reserve_metadata_snap()


def _release(pool: Pool, numbers: list[int]) -> Steps[None]:
    pool.metadata.release_metadata_snap()
    yield from ()


_VERBS: dict[str, tuple[tuple[str, ...], Do | None]] = {
    "create_thin": (("id",), _create_thin),
    "create_snap": (("id", "origin_id"), _create_snap),
    "delete": (("id",), _delete),
    "set_transaction_id": (("transaction_id", "transaction_id"), _set_transaction_id),
    "reserve_metadata_snap": ((), _reserve),
    "release_metadata_snap": ((), _release),
}

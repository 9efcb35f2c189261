"""Undoing what was made, so that what fails then never hides what had failed before."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fusedm.block.errors import FusedmError


@contextmanager
def undone_by(undo: Callable[[], object]) -> Iterator[None]:
    """Undo something after a with block, whatever ends that.

    An error of the block is what is raised; what fails in undoing is a note to it, told after it.
    Raises: what undo raises, if nothing had failed before.
    """
    try:
        yield
    except BaseException as error:
        try:
            undo()
        except (FusedmError, OSError) as later:
            error.add_note(f"and then: {later}")
        raise
    undo()


def notes(error: BaseException) -> list[str]:
    """What is to be told after an error."""
    return list(getattr(error, "__notes__", ()))

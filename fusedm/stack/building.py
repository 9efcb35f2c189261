"""Building a stack from its spec, and errors that say where in the stack file they come from."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fusedm.block.errors import FusedmError, SpecError, StoreError, TableError
from fusedm.stack.spec import KeySpec, StackSpec, creation_order

if TYPE_CHECKING:
    from fusedm.stack.stack import Stack, StoreOpener


async def build(
    stack: "Stack", spec: StackSpec, keys: Iterable[KeySpec], opener: "StoreOpener"
) -> None:
    """Everything a spec names, in an order in which each finds what it needs."""
    for disk in spec.disks.values():
        with _located(spec, ("disks", disk.name, "store")):
            await stack.add_disk(disk, opener)
    for name in creation_order(spec):
        try:
            with _located(spec, ("mapper", name)):
                await stack.add_mapped(spec.mapper[name])
        except TableError as error:
            raise spec.table_error(name, error) from None
    for key in keys:
        with _located(spec, ("keys", key.name, "source")):
            await stack.add_key(key)
    for view in spec.views.values():
        with _located(spec, ("views", view.name)):
            stack.add_view(view)


@contextmanager
def store_errors(name: str) -> Iterator[None]:
    """Give what a store raises a name and a class of ours; its errno is kept."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{name}: {error.strerror}", error.errno) from None


@contextmanager
def _located(spec: StackSpec, path: tuple[str, ...]) -> Iterator[None]:
    """Give an error its place in the stack file; its errno is kept."""
    try:
        yield
    except (SpecError, TableError):
        raise
    except FusedmError as error:
        located = spec.error(path, str(error))
        located.errno = error.errno
        raise located from None

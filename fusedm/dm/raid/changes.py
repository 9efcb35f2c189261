"""What to read for a column, and what sums make of it. Pure.

New parity is a sum of new data and of what members had before. There are two ways to it: by all
data, where what is not written is read (md's reconstruct-write), and by the difference, where what
is replaced is read, and the old parity (read-modify-write). What of that is lost is itself a sum of
what is there (syndromes.py), so that parity comes out of either way while members are missing too;
the way that reads less is taken.
"""

from collections.abc import Iterable
from functools import lru_cache

from fusedm.block.value import value
from fusedm.dm.raid.layouts import Row
from fusedm.dm.raid.syndromes import factors_of, multiply, sums

#: Factors of the old contents of members.
Old = dict[int, int]


@value
class Change:
    """New parity, as sums.

    reads: whose old contents count. targets: whose new contents come out.
    factors: of each target, first those of the new data, in the order they were asked for, then
    those of the old contents.
    """

    reads: tuple[int, ...]
    targets: tuple[int, ...]
    factors: tuple[bytes, ...]


@value
class Regain:
    """What members should have, as sums of what those in reads have."""

    reads: tuple[int, ...]
    targets: tuple[int, ...]
    factors: tuple[bytes, ...]


@lru_cache(maxsize=1 << 12)
def regain(row: Row, lost: frozenset[int], wanted: tuple[int, ...]) -> Regain | None:
    """Some of the lost members from those that are there; None where too many are lost."""
    if len(lost) > len(row.parities):
        return None if wanted else Regain((), (), ())
    solved = sums(row, lost)
    reads, factors = _together([dict(solved[member]) for member in wanted])
    return Regain(reads, wanted, factors)


@lru_cache(maxsize=1 << 12)
def compare(row: Row, lost: frozenset[int]) -> Regain:
    """Those members whose contents the others tell as well, and what is to be added to them.

    That is nothing where all agree. Each lost member takes one of the sums that parity is made by.
    """
    spare = max(len(row.parities) - len(lost), 0)
    told = tuple(member for member in reversed(row.parities) if member not in lost)[:spare]
    if not told:
        return Regain((), (), ())
    solved = sums(row, lost.union(told))
    reads, factors = _together([{**solved[member], member: 1} for member in told])
    return Regain(reads, told, factors)


@lru_cache(maxsize=1 << 12)
def change(
    row: Row,
    lost: frozenset[int],
    written: tuple[int, ...],
    targets: tuple[int, ...],
    trusted: bool,
) -> Change | None:
    """How the new parity of a column is made; None where too much is lost.

    written: the members of new data. trusted: the old parity is that of the old data.
    """
    ways = [_by_all(row, lost, written, targets)]
    if trusted:
        ways.append(_by_difference(row, lost, written, targets))
    there = [way for way in ways if way is not None]
    return min(there, key=lambda way: len(way.reads), default=None)


def _by_all(
    row: Row, lost: frozenset[int], written: tuple[int, ...], targets: tuple[int, ...]
) -> Change | None:
    factors = factors_of(row)
    kept = [member for member in row.data if member not in written]
    old = [{member: factors[target][member] for member in kept} for target in targets]
    return _change(row, lost, written, targets, old)


def _by_difference(
    row: Row, lost: frozenset[int], written: tuple[int, ...], targets: tuple[int, ...]
) -> Change | None:
    factors = factors_of(row)
    old = [
        {target: 1, **{member: factors[target][member] for member in written}} for target in targets
    ]
    return _change(row, lost, written, targets, old)


def _change(
    row: Row,
    lost: frozenset[int],
    written: tuple[int, ...],
    targets: tuple[int, ...],
    old: list[Old],
) -> Change | None:
    """The change with these factors of old contents, those of lost members by the others."""
    if any(not lost.isdisjoint(each) for each in old):
        if len(lost) > len(row.parities):
            return None
        solved = sums(row, lost)
        old = [_without_lost(each, solved) for each in old]
    reads, of_old = _together(old)
    new = factors_of(row)
    factors = (
        bytes(new[target][member] for member in written) + rest
        for target, rest in zip(targets, of_old, strict=True)
    )
    return Change(reads, targets, tuple(factors))


def _without_lost(old: Old, solved: dict[int, Old]) -> Old:
    found: Old = {}
    for member, factor in old.items():
        for other, count in solved.get(member, {member: 1}).items():
            found[other] = found.get(other, 0) ^ multiply(factor, count)
    return found


def _together(olds: Iterable[Old]) -> tuple[tuple[int, ...], tuple[bytes, ...]]:
    """Which members count in any of some sums, and their factors in each."""
    olds = list(olds)
    reads = tuple(sorted({member for old in olds for member in old if old[member]}))
    return reads, tuple(bytes(old.get(member, 0) for member in reads) for old in olds)

"""Where the chunks of an array with parity lie on its members. Pure.

A *stripe* is one chunk of each member, at the same place of all: the data chunks that follow each
other in the array, P, and with two parities Q. Which member has which changes from stripe to
stripe, and comes back after a *period* of stripes; who has what in one of them is a Row.

Source: raid5_compute_sector, raid6_d0 and raid6_idx_to_slot of the kernel's raid5.c, and the types
of its dm-raid.c, where raid4 has P on the first member.
"""

from collections.abc import Callable

from fusedm.block.value import value


@value
class Row:
    """Who has what in a stripe.

    data: the member of each data chunk, in the order of the array.
    exponents: for each data chunk, which power of 2 it is multiplied with in Q; none without Q.
    """

    data: tuple[int, ...]
    p: int
    q: int | None = None
    exponents: tuple[int, ...] = ()

    @property
    def parities(self) -> tuple[int, ...]:
        """The members that have P and Q."""
        return (self.p,) if self.q is None else (self.p, self.q)


#: The row of a stripe: asked for the number of members, and that of the stripe.
MakeRow = Callable[[int, int], Row]


@value
class Layout:
    """How the rows of an array follow each other.

    number: what md calls it in superblocks.
    left_out: how many members take no part when parity goes from one to the next with each stripe;
    None where it stays.
    """

    number: int
    parities: int
    row: MakeRow
    left_out: int | None = 0

    def period(self, members: int) -> int:
        """After how many stripes rows come again."""
        return 1 if self.left_out is None else members - self.left_out


def _asymmetric(members: int, first: int, count: int) -> tuple[int, ...]:
    """The members that have data in their own order: all but count ones from first, in a circle."""
    parities = {(first + index) % members for index in range(count)}
    return tuple(member for member in range(members) if member not in parities)


def _symmetric(members: int, first: int, count: int) -> tuple[int, ...]:
    """The members that have data, in a circle from the first one after count ones from first."""
    return tuple((first + count + index) % members for index in range(members - count))


#: Of so many members, which has the first parity of a stripe.
Turn = Callable[[int, int], int]
#: Of so many members, which have data: all but some ones from a first.
Order = Callable[[int, int, int], tuple[int, ...]]


def _left(members: int, stripe: int) -> int:
    return members - 1 - stripe % members


def _right(members: int, stripe: int) -> int:
    return stripe % members


def _first(members: int, stripe: int) -> int:
    return 0


def _last(members: int, stripe: int) -> int:
    return members - 1


def _one_parity(turn: Turn, order: Order) -> MakeRow:
    def row(members: int, stripe: int) -> Row:
        p = turn(members, stripe)
        return Row(order(members, p, 1), p)

    return row


def _q_on_the_last(turn: Turn, order: Order) -> MakeRow:
    """As with one parity, and Q on a member more; the powers count members, without P."""
    one = _one_parity(turn, order)

    def row(members: int, stripe: int) -> Row:
        inner = one(members - 1, stripe)
        exponents = tuple(member - (member > inner.p) for member in inner.data)
        return Row(inner.data, inner.p, members - 1, exponents)

    return row


def _ddf(turn: Turn, order: Order, ahead: int = 0, q_is_first: bool = False) -> MakeRow:
    """P and Q side by side; the powers count all members, as DDF has it."""

    def row(members: int, stripe: int) -> Row:
        p = turn(members, stripe + ahead)
        q = (p + (-1 if q_is_first else 1)) % members
        data = order(members, q if q_is_first else p, 2)
        return Row(data, p, q, exponents=data)

    return row


#: By the types of dm-raid's tables.
LAYOUTS = {
    "raid4": Layout(4, 1, _one_parity(_first, _asymmetric), None),
    "raid5_n": Layout(5, 1, _one_parity(_last, _asymmetric), None),
    "raid5_ls": Layout(2, 1, _one_parity(_left, _symmetric)),
    "raid5_rs": Layout(3, 1, _one_parity(_right, _symmetric)),
    "raid5_la": Layout(0, 1, _one_parity(_left, _asymmetric)),
    "raid5_ra": Layout(1, 1, _one_parity(_right, _asymmetric)),
    "raid6_zr": Layout(8, 2, _ddf(_right, _asymmetric)),
    "raid6_nr": Layout(9, 2, _ddf(_left, _asymmetric, ahead=1)),
    "raid6_nc": Layout(10, 2, _ddf(_left, _symmetric, q_is_first=True)),
    "raid6_n_6": Layout(5, 2, _q_on_the_last(_last, _asymmetric), None),
    "raid6_ls_6": Layout(18, 2, _q_on_the_last(_left, _symmetric), 1),
    "raid6_rs_6": Layout(19, 2, _q_on_the_last(_right, _symmetric), 1),
    "raid6_la_6": Layout(16, 2, _q_on_the_last(_left, _asymmetric), 1),
    "raid6_ra_6": Layout(17, 2, _q_on_the_last(_right, _asymmetric), 1),
}


@value
class Place:
    """A chunk of data: its stripe, which one it is there, its member, and where on that it begins.

    Units: sectors of the member.
    """

    stripe: int
    index: int
    member: int
    sector: int


class Geometry:
    """An array of so many members with a layout, in chunks of so many sectors."""

    def __init__(self, layout: Layout, members: int, chunk_sectors: int) -> None:
        self.members = members
        self.chunk_sectors = chunk_sectors
        self.data_members = members - layout.parities
        #: The sectors of the array in a stripe.
        self.stripe_sectors = self.data_members * chunk_sectors
        self._rows = [layout.row(members, stripe) for stripe in range(layout.period(members))]

    def row(self, stripe: int) -> Row:
        """Who has what in a stripe."""
        return self._rows[stripe % len(self._rows)]

    def place(self, sector: int) -> Place:
        """Where the chunk of data that holds a sector of the array lies."""
        stripe, index = divmod(sector // self.chunk_sectors, self.data_members)
        return Place(stripe, index, self.row(stripe).data[index], stripe * self.chunk_sectors)

    def array_sector(self, member: int, sector: int) -> int | None:
        """What a sector of a member is in the array; None for parity."""
        stripe, within = divmod(sector, self.chunk_sectors)
        data = self.row(stripe).data
        if member not in data:
            return None
        return stripe * self.stripe_sectors + data.index(member) * self.chunk_sectors + within

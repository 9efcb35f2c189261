"""Layouts of parity against tables drawn by hand, and there and back."""

import pytest

from fusedm.dm.raid.layouts import LAYOUTS, Geometry

#: What each member of 4 (of 5, with two parities) has in stripe after stripe: numbers are chunks.
DRAWN = {
    "raid4": ["P 0 1 2", "P 3 4 5", "P 6 7 8"],
    "raid5_n": ["0 1 2 P", "3 4 5 P", "6 7 8 P"],
    "raid5_la": ["0 1 2 P", "3 4 P 5", "6 P 7 8", "P 9 10 11", "12 13 14 P"],
    "raid5_ra": ["P 0 1 2", "3 P 4 5", "6 7 P 8", "9 10 11 P", "P 12 13 14"],
    "raid5_ls": ["0 1 2 P", "4 5 P 3", "8 P 6 7", "P 9 10 11", "12 13 14 P"],
    "raid5_rs": ["P 0 1 2", "5 P 3 4", "7 8 P 6", "9 10 11 P", "P 12 13 14"],
    "raid6_zr": [
        "P Q 0 1 2",
        "3 P Q 4 5",
        "6 7 P Q 8",
        "9 10 11 P Q",
        "Q 12 13 14 P",
        "P Q 15 16 17",
    ],
    "raid6_nr": [
        "0 1 2 P Q",
        "3 4 P Q 5",
        "6 P Q 7 8",
        "P Q 9 10 11",
        "Q 12 13 14 P",
        "15 16 17 P Q",
    ],
    "raid6_nc": [
        "0 1 2 Q P",
        "4 5 Q P 3",
        "8 Q P 6 7",
        "Q P 9 10 11",
        "P 12 13 14 Q",
        "15 16 17 Q P",
    ],
    "raid6_n_6": ["0 1 2 P Q", "3 4 5 P Q"],
    "raid6_la_6": ["0 1 2 P Q", "3 4 P 5 Q", "6 P 7 8 Q", "P 9 10 11 Q", "12 13 14 P Q"],
    "raid6_ra_6": ["P 0 1 2 Q", "3 P 4 5 Q", "6 7 P 8 Q", "9 10 11 P Q", "P 12 13 14 Q"],
    "raid6_ls_6": ["0 1 2 P Q", "4 5 P 3 Q", "8 P 6 7 Q", "P 9 10 11 Q", "12 13 14 P Q"],
    "raid6_rs_6": ["P 0 1 2 Q", "5 P 3 4 Q", "7 8 P 6 Q", "9 10 11 P Q", "P 12 13 14 Q"],
}

#: The powers of 2 that members count with in Q, in the stripes of DRAWN; "-" for parity.
POWERS = {
    "raid6_zr": ["- - 2 3 4", "0 - - 3 4", "0 1 - - 4", "0 1 2 - -", "- 1 2 3 -"],
    "raid6_nr": ["0 1 2 - -", "0 1 - - 4", "0 - - 3 4", "- - 2 3 4", "- 1 2 3 -"],
    "raid6_nc": ["0 1 2 - -", "0 1 - - 4", "0 - - 3 4", "- - 2 3 4", "- 1 2 3 -"],
    "raid6_n_6": ["0 1 2 - -"],
    "raid6_la_6": ["0 1 2 - -", "0 1 - 2 -", "0 - 1 2 -", "- 0 1 2 -"],
    "raid6_ra_6": ["- 0 1 2 -", "0 - 1 2 -", "0 1 - 2 -", "0 1 2 - -"],
    "raid6_ls_6": ["0 1 2 - -", "0 1 - 2 -", "0 - 1 2 -", "- 0 1 2 -"],
    "raid6_rs_6": ["- 0 1 2 -", "0 - 1 2 -", "0 1 - 2 -", "0 1 2 - -"],
}

#: What md's headers and dm-raid's table of types say.
NUMBERS = {
    "raid4": 4,
    "raid5_la": 0,
    "raid5_ra": 1,
    "raid5_ls": 2,
    "raid5_rs": 3,
    "raid5_n": 5,
    "raid6_zr": 8,
    "raid6_nr": 9,
    "raid6_nc": 10,
    "raid6_n_6": 5,
    "raid6_la_6": 16,
    "raid6_ra_6": 17,
    "raid6_ls_6": 18,
    "raid6_rs_6": 19,
}


def geometry(name: str, chunk_sectors: int = 8) -> Geometry:
    return Geometry(LAYOUTS[name], len(DRAWN[name][0].split()), chunk_sectors)


def drawn(name: str, stripe: int) -> str:
    """A stripe as it is in DRAWN."""
    made = geometry(name)
    row = made.row(stripe)
    words = {row.p: "P", row.q: "Q"}
    words |= {m: str(stripe * len(row.data) + index) for index, m in enumerate(row.data)}
    return " ".join(words[member] for member in range(made.members))


@pytest.mark.parametrize("name", LAYOUTS)
def test_chunks_lie_as_drawn_by_hand(name):
    assert [drawn(name, stripe) for stripe in range(len(DRAWN[name]))] == DRAWN[name]


@pytest.mark.parametrize("name", POWERS)
def test_q_counts_each_member_with_its_power(name):
    for stripe, powers in enumerate(POWERS[name]):
        row = geometry(name).row(stripe)
        found = dict(zip(row.data, row.exponents, strict=True))
        assert " ".join(str(found.get(m, "-")) for m in range(5)) == powers


@pytest.mark.parametrize("name", LAYOUTS)
def test_md_knows_each_layout_by_its_number(name):
    assert LAYOUTS[name].number == NUMBERS[name]


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("members", [4, 5, 7])
def test_a_sector_is_found_there_and_back(name, members):
    made = Geometry(LAYOUTS[name], members, 16)
    for sector in range(0, 40 * made.stripe_sectors, 5):
        place, within = made.place(sector), sector % 16
        assert made.array_sector(place.member, place.sector + within) == sector
        assert made.row(place.stripe).data[place.index] == place.member


@pytest.mark.parametrize("name", LAYOUTS)
def test_parity_is_no_sector_of_the_array(name):
    made = geometry(name)
    for stripe in range(40):
        for member in made.row(stripe).parities:
            assert made.array_sector(member, stripe * 8 + 3) is None


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_member_of_a_stripe_has_one_thing(name):
    made = Geometry(LAYOUTS[name], 6, 8)
    for stripe in range(30):
        row = made.row(stripe)
        assert sorted((*row.data, *row.parities)) == list(range(6))
        assert len(set(row.exponents)) == (len(row.data) if row.q is not None else 0)

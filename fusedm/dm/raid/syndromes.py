"""What a member of a stripe is as a sum of the others. Pure.

All of a stripe, data and P, sum up to zero. With Q there is a second sum that is zero, in which
each chunk of data counts with its own factor. So whatever is lost, at most as many members as there
are parities, is a sum of what is there, each times a factor: found here by elimination, for each
kind of row once. Arithmetic is that of gf.pyx, on numbers.
"""

from functools import lru_cache

from fusedm.dm.raid.layouts import Row

#: x^8 + x^4 + x^3 + x^2 + 1.
POLYNOMIAL = 0x11D

#: The factor of each member in a sum; the others do not count.
Factors = dict[int, int]


@lru_cache(maxsize=1 << 16)
def multiply(a: int, b: int) -> int:
    """The product of two numbers of the field."""
    product = 0
    while b:
        if b & 1:
            product ^= a
        a, b = a << 1, b >> 1
        if a & 0x100:
            a ^= POLYNOMIAL
    return product


@lru_cache(maxsize=1 << 8)
def power_of_two(exponent: int) -> int:
    """2 multiplied with itself."""
    power = 1
    for _ in range(exponent):
        power = multiply(power, 2)
    return power


@lru_cache(maxsize=1 << 8)
def inverse(a: int) -> int:
    """What gives 1 when multiplied with a, which is not 0."""
    return next(b for b in range(1, 256) if multiply(a, b) == 1)


@lru_cache(maxsize=1 << 10)
def factors_of(row: Row) -> dict[int, Factors]:
    """For each parity the factors of the members with data."""
    factors = {row.p: dict.fromkeys(row.data, 1)}
    if row.q is not None:
        powers = map(power_of_two, row.exponents)
        factors[row.q] = dict(zip(row.data, powers, strict=True))
    return factors


@lru_cache(maxsize=1 << 12)
def sums(row: Row, lost: frozenset[int]) -> dict[int, Factors]:
    """Each of the lost members as a sum of those that are there; P is asked before Q.

    Shapes: at most as many are lost as the row has parities.
    """
    equations = [{**of_data, parity: 1} for parity, of_data in factors_of(row).items()]
    assert len(lost) <= len(equations), f"{len(lost)} lost of a row with {len(equations)} parities"
    solved: dict[int, Factors] = {}
    free = list(equations)
    for member in sorted(lost, key=row.parities.__contains__):
        equation = next(each for each in free if each.get(member))
        free.remove(equation)
        _eliminate(equations, equation, member)
        solved[member] = equation
    return {
        member: {m: factor for m, factor in equation.items() if factor and m != member}
        for member, equation in solved.items()
    }


def _eliminate(equations: list[Factors], chosen: Factors, member: int) -> None:
    """Make a member's factor 1 in one equation, and 0 in the others."""
    one = inverse(chosen[member])
    for each, factor in chosen.items():
        chosen[each] = multiply(factor, one)
    for equation in equations:
        factor = equation.get(member, 0)
        if equation is not chosen and factor:
            for each in chosen:
                equation[each] = equation.get(each, 0) ^ multiply(factor, chosen[each])

"""P and Q, obvious: the second opinion on parity.

A byte is a polynomial over two: bit n stands for x^n. Products are by pencil and paper: all pairs
of bits first, then what is above x^7 is taken out by x^8 + x^4 + x^3 + x^2 + 1.
"""

from collections.abc import Sequence
from functools import cache


@cache
def product(a: int, b: int) -> int:
    """The product of two bytes as polynomials."""
    wide = 0
    for i in range(8):
        for j in range(8):
            if a >> i & 1 and b >> j & 1:
                wide ^= 1 << i + j
    for bit in range(14, 7, -1):
        if wide >> bit & 1:
            wide ^= 0b100011101 << bit - 8
    return wide


def p_of(data: Sequence[bytes]) -> bytes:
    """The bytes of P for chunks of data."""
    total = 0
    for chunk in data:
        total ^= int.from_bytes(chunk)
    return total.to_bytes(len(data[0]))


def q_of(data: Sequence[bytes], exponents: Sequence[int]) -> bytes:
    """The bytes of Q for chunks of data, which count with these powers of 2."""
    products = []
    for chunk, exponent in zip(data, exponents, strict=True):
        factor = 1
        for _ in range(exponent):
            factor = product(factor, 2)
        products.append(chunk.translate(bytes(product(byte, factor) for byte in range(256))))
    return p_of(products)

"""XChaCha with numpy: the keystreams of many data units at once. Pure.

`cryptography` has ChaCha with 20 rounds only, one nonce a call. A state is 16 words of 32 bits,
four rows of four. Here a row is an array of four lines with a column for each block, so that a step
of the cipher is one call for all blocks of all data units.

Source: ChaCha of D. J. Bernstein with its 64-bit counter and 64-bit nonce; XChaCha of the
Adiantum paper (Crowley and Biggers 2018), section 2.
"""

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]

BLOCK_BYTES = 64
#: Of the variant that blk-crypto has; dm-crypt knows one with 20 too.
ROUNDS = 12
_CONSTANTS = np.frombuffer(b"expand 32-byte k", "<u4").astype(np.uint32)
#: How far each row but the first is turned, to bring diagonals into columns and back.
_TURNS = tuple(np.roll(np.arange(4), -lines) for lines in range(4))


def hchacha(key: Words, nonces: Words, rounds: int = ROUNDS) -> Words:
    """A key for each nonce: the first and last row after the rounds.

    Shapes: key is 8 words, nonces (n, 4) words; the result is (n, 8) words.
    """
    shape = (4, len(nonces))
    a, b, c, d = (np.empty(shape, np.uint32) for _ in range(4))
    a[:] = _CONSTANTS[:, None]
    b[:], c[:] = key.reshape(2, 4, 1)
    d[:] = nonces.T
    a, _, _, d = _permuted(rounds, a, b, c, d)
    return np.concatenate((a, d)).T


def chacha(keys: Words, nonces: Words, block_count: int, rounds: int = ROUNDS) -> Words:
    """The blocks 0 to block_count - 1 under each pair of key and nonce.

    Shapes: keys are (n, 8) words, nonces (n, 2) words; the result is (n, 16 * block_count) words.
    """
    shape = (4, len(keys), block_count)
    constants = np.broadcast_to(_CONSTANTS[:, None, None], shape)
    upper = np.broadcast_to(keys.T[:4, :, None], shape)
    lower = np.broadcast_to(keys.T[4:, :, None], shape)
    inputs = np.empty(shape, np.uint32)
    inputs[0] = np.arange(block_count, dtype=np.uint32)
    inputs[1] = 0
    inputs[2:] = nonces.T[:, :, None]
    start = (constants, upper, lower, inputs)
    blocks = np.empty((len(keys), block_count, 4, 4), "<u4")
    rows = _permuted(rounds, *(row.reshape(4, -1).copy() for row in start))
    for index, (first, row) in enumerate(zip(start, rows, strict=True)):
        blocks[:, :, index] = np.moveaxis(row.reshape(shape) + first, 0, 2)
    return blocks.reshape(len(keys), -1)


def _permuted(
    rounds: int, a: Words, b: Words, c: Words, d: Words
) -> tuple[Words, Words, Words, Words]:
    """The rows after the rounds; those given are worked in and hold nothing of use afterwards."""
    spare = np.empty_like(a)
    for _ in range(rounds // 2):
        for turns in ((1, 2, 3), (3, 2, 1)):
            _quarter_rounds(a, b, c, d, spare)
            b, spare = _turned(b, turns[0], spare), b
            c, spare = _turned(c, turns[1], spare), c
            d, spare = _turned(d, turns[2], spare), d
    return a, b, c, d


def _quarter_rounds(a: Words, b: Words, c: Words, d: Words, spare: Words) -> None:
    """A quarter round of each column, in place."""
    for left, right, mixed, distance in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        left += right
        mixed ^= left
        np.right_shift(mixed, 32 - distance, out=spare)
        mixed <<= distance
        mixed |= spare


def _turned(row: Words, lines: int, into: Words) -> Words:
    """The row with line i + lines, round the corner, as line i."""
    return row.take(_TURNS[lines], axis=0, out=into, mode="wrap")

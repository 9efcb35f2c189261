"""Adiantum again, from the paper: a second opinion. Pure, and shares no line with the data path.

Words of all ChaCha blocks are kept side by side in one long number, each in 64 bits, so that a
round is done for all blocks at once; the rest is plain arithmetic.
Source: Crowley and Biggers, "Adiantum: length-preserving encryption for entry-level processors";
        RFC 8439 for ChaCha and Poly1305, with 12 rounds instead of 20.
"""

from collections.abc import Callable, Sequence
from operator import mul
from struct import pack, unpack

_BLOCK = 16
_CHACHA_BLOCK = 64
_DOUBLE_ROUNDS = 6
_CONSTANTS = unpack("<4I", b"expand 32-byte k")
_QUARTERS = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)  # fmt: skip

#: NH: bytes of a message hashed at once, how often, and the words between two keys of that.
_NH_CHUNK = 1024
_NH_PASSES = 4
_NH_STRIDE = 4
_NH_KEY = _NH_CHUNK + 4 * _NH_STRIDE * (_NH_PASSES - 1)

_POLY_PRIME = (1 << 130) - 5
_POLY_CLAMP = 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
_WORD = (1 << 32) - 1
_LONG = (1 << 64) - 1
_BLOCK_MASK = (1 << 128) - 1

#: (key, block, whether to encrypt) to the block, by AES-256.
BlockCipher = Callable[[bytes, bytes, bool], bytes]


def adiantum(aes: BlockCipher, raw: bytes, dun: int, data: bytes, forward: bool) -> bytes:
    """One data unit under XChaCha12, AES-256, NH and Poly1305; the tweak is the DUN in 32 bytes."""
    derived = _xchacha(raw, (1).to_bytes(24, "little"), 32 + 2 * _BLOCK + _NH_KEY)
    block_key, tweak_key, message_key = derived[:32], derived[32:48], derived[48:64]
    nh_key = unpack(f"<{_NH_KEY // 4}I", derived[64:])
    head = (8 * (len(data) - _BLOCK)).to_bytes(16, "little") + dun.to_bytes(32, "little")
    of_tweak = _poly(tweak_key, head)

    def hashed(left: bytes) -> int:
        return of_tweak + _poly(message_key, _nh(nh_key, left))

    left, right = data[:-_BLOCK], _number(data[-_BLOCK:])
    outer = _bytes(right + hashed(left))
    inner = aes(block_key, outer, forward)
    nonce = (inner if forward else outer) + (1).to_bytes(8, "little")
    stream = _xchacha(raw, nonce, len(left))
    left = (_number(left) ^ _number(stream)).to_bytes(len(left), "little")
    return left + _bytes(_number(inner) - hashed(left))


def _xchacha(key: bytes, nonce: bytes, length: int) -> bytes:
    """The first bytes of the keystream of XChaCha12 for a nonce of 24 bytes."""
    state = [*_CONSTANTS, *unpack("<8I", key), *unpack("<4I", nonce[:16])]
    mixed = _mix(state, _WORD)
    subkey = mixed[:4] + mixed[12:]
    count = -(-length // _CHACHA_BLOCK)
    ones = sum(1 << (64 * index) for index in range(count))
    counters = sum(index << (64 * index) for index in range(count))
    words = [*_CONSTANTS, *subkey]
    start = [word * ones for word in words] + [counters, 0]
    start += [word * ones for word in unpack("<2I", nonce[16:])]
    mask = _WORD * ones
    stream = bytearray(_CHACHA_BLOCK * count)
    for index, (before, after) in enumerate(zip(start, _mix(start, mask), strict=True)):
        lanes = ((before + after) & mask).to_bytes(8 * count, "little")
        for byte in range(4):
            stream[4 * index + byte :: _CHACHA_BLOCK] = lanes[byte::8]
    return bytes(stream[:length])


def _mix(state: Sequence[int], mask: int) -> list[int]:
    """The rounds of ChaCha12 on 16 words, each of one block or of many side by side."""
    words = list(state)
    for _ in range(_DOUBLE_ROUNDS):
        for a, b, c, d in _QUARTERS:
            for to, by, turned, bits in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
                words[to] = (words[to] + words[by]) & mask
                word = words[turned] ^ words[to]
                words[turned] = (word << bits | word >> (32 - bits)) & mask
    return words


def _nh(key: Sequence[int], data: bytes) -> bytes:
    """NH of each chunk, 32 bytes a chunk; the last is filled up with zeros to whole blocks."""
    result = b""
    for at in range(0, len(data), _NH_CHUNK):
        chunk = data[at : at + _NH_CHUNK]
        chunk += bytes(-len(chunk) % _BLOCK)
        words = unpack(f"<{len(chunk) // 4}I", chunk)
        for shift in range(0, _NH_STRIDE * _NH_PASSES, _NH_STRIDE):
            sums = [(word + own) & _WORD for word, own in zip(words, key[shift:], strict=False)]
            products = sum(map(mul, sums[::4], sums[2::4])) + sum(map(mul, sums[1::4], sums[3::4]))
            result += pack("<Q", products & _LONG)
    return result


def _poly(key: bytes, data: bytes) -> int:
    """Poly1305 as a hash of whole blocks: without the number that is added at its end."""
    factor, result = _number(key) & _POLY_CLAMP, 0
    for at in range(0, len(data), _BLOCK):
        block = _number(data[at : at + _BLOCK]) + (1 << 128)
        result = (result + block) * factor % _POLY_PRIME
    return result


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _bytes(number: int) -> bytes:
    return (number & _BLOCK_MASK).to_bytes(_BLOCK, "little")

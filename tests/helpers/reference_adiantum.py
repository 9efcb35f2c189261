"""Adiantum (XChaCha12 or XChaCha20, AES-256) from its definition in integers: slow, obvious.

It shares no code with fusedm, and takes data units of any length from 16 bytes on.
Source: the Adiantum paper (Crowley and Biggers 2018); RFC 8439 for the quarter round and Poly1305.
"""

from functools import cache

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

BLOCK = 16
NH_CHUNK = 1024
NH_KEY = NH_CHUNK + 3 * 16
PRIME = 2**130 - 5


def encrypt(key: bytes, unit: int, dun: int, data: bytes) -> bytes:
    """Data of whole units, the first of them numbered dun; the tweak is the DUN in 32 bytes."""
    return _units(key, unit, dun, data, True)


def decrypt(key: bytes, unit: int, dun: int, data: bytes) -> bytes:
    """The inverse of encrypt."""
    return _units(key, unit, dun, data, False)


def _units(key: bytes, unit: int, dun: int, data: bytes, forward: bool) -> bytes:
    result = b""
    for at in range(0, len(data), unit):
        tweak = (dun + at // unit).to_bytes(32, "little")
        result += one_unit(key, tweak, data[at : at + unit], forward)
    return result


@cache
def _derived(key: bytes, rounds: int) -> bytes:
    """The keys of AES, of both polynomials, and of NH."""
    return xchacha(key, b"\x01" + bytes(23), 32 + 16 + 16 + NH_KEY, rounds)


def one_unit(key: bytes, tweak: bytes, data: bytes, forward: bool, rounds: int = 12) -> bytes:
    """One data unit under a tweak of 32 bytes."""
    derived = _derived(key, rounds)
    aes = Cipher(algorithms.AES(derived[:32]), modes.ECB())
    left, right = data[:-BLOCK], data[-BLOCK:]
    middle = _add(right, _hash(derived[32:], tweak, left), 1)
    other = (aes.encryptor() if forward else aes.decryptor()).update(middle)
    nonce = (other if forward else middle) + b"\x01" + bytes(7)
    stream = xchacha(key, nonce, len(left), rounds)
    left = bytes(a ^ b for a, b in zip(left, stream, strict=True))
    return left + _add(other, _hash(derived[32:], tweak, left), -1)


def _add(block: bytes, number: int, sign: int) -> bytes:
    total = int.from_bytes(block, "little") + sign * number
    return (total % 2**128).to_bytes(BLOCK, "little")


def _hash(keys: bytes, tweak: bytes, message: bytes) -> int:
    length = (8 * len(message)).to_bytes(16, "little")
    padded = message + bytes(-len(message) % 16)
    chunks = [padded[at : at + NH_CHUNK] for at in range(0, len(padded), NH_CHUNK)]
    of_chunks = b"".join(nh(keys[32:], chunk) for chunk in chunks)
    return poly1305(keys[:16], length + tweak) + poly1305(keys[16:32], of_chunks)


def poly1305(key: bytes, message: bytes) -> int:
    """Poly1305 before its second key is added, modulo 2^128; for whole blocks."""
    point = int.from_bytes(key, "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for at in range(0, len(message), 16):
        total = (total + int.from_bytes(message[at : at + 16] + b"\x01", "little")) * point % PRIME
    return total % 2**128


def nh(key: bytes, message: bytes) -> bytes:
    """Four sums of products of words, each with the key moved on by 16 bytes."""
    words = _words(message)
    result = b""
    for number in range(4):
        keyed = [
            (word + key_word) % 2**32
            for word, key_word in zip(words, _words(key[16 * number :]), strict=False)
        ]
        total = sum(
            keyed[at] * keyed[at + 2] + keyed[at + 1] * keyed[at + 3]
            for at in range(0, len(keyed), 4)
        )
        result += (total % 2**64).to_bytes(8, "little")
    return result


def xchacha(key: bytes, nonce: bytes, length: int, rounds: int = 12) -> bytes:
    """The keystream of a 24-byte nonce."""
    state = _rounds(_constants() + _words(key) + _words(nonce[:16]), rounds)
    subkey = state[:4] + state[12:]
    stream = b""
    counter = 0
    while len(stream) < length:
        start = _constants() + subkey + [counter, 0] + _words(nonce[16:])
        total = [(a + b) % 2**32 for a, b in zip(_rounds(start, rounds), start, strict=True)]
        stream += b"".join(word.to_bytes(4, "little") for word in total)
        counter += 1
    return stream[:length]


def _constants() -> list[int]:
    return _words(b"expand 32-byte k")


def _rounds(start: list[int], rounds: int) -> list[int]:
    state = list(start)
    for _ in range(rounds // 2):
        for column in range(4):
            _quarter(state, column, column + 4, column + 8, column + 12)
        for column in range(4):
            _quarter(
                state,
                column,
                4 + (column + 1) % 4,
                8 + (column + 2) % 4,
                12 + (column + 3) % 4,
            )
    return state


def _quarter(s: list[int], a: int, b: int, c: int, d: int) -> None:
    for left, right, mixed, distance in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        s[left] = (s[left] + s[right]) % 2**32
        s[mixed] ^= s[left]
        s[mixed] = (s[mixed] << distance | s[mixed] >> 32 - distance) % 2**32


def _words(data: bytes) -> list[int]:
    return [int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data), 4)]

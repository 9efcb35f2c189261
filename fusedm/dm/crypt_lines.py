"""What the lines of crypt, inlinecrypt and default-key share: `cipher key iv_offset dev offset`."""

import errno
from binascii import unhexlify
from collections.abc import Iterable
from typing import NoReturn

from fusedm.block import CryptoConfig, CryptoKey
from fusedm.block.crypt_ctx import KeyType
from fusedm.block.errors import CryptoError, StackError
from fusedm.block.units import SECTOR_SIZE
from fusedm.dm.arguments import Arguments, KeyRing
from fusedm.dm.target import Segment, Word


class TargetKey:
    """The key of a line: its bytes, and the reference to a keyring if it came from there.

    Owns: its bytes, until wipe().
    """

    __slots__ = ("_raw", "reference")

    def __init__(self, raw: bytes | bytearray, reference: str = "") -> None:
        self._raw = bytearray(raw)
        self.reference = reference

    @property
    def raw(self) -> memoryview:
        """The bytes, read-only."""
        return memoryview(self._raw).toreadonly()

    def word(self) -> str:
        """How a line has it."""
        return self.reference or self._raw.hex() or "-"

    def masked_word(self) -> str:
        """The same without showing it: as many zeros as digits, as dmsetup masks it."""
        return self.reference or "0" * (2 * len(self._raw)) or "-"

    def wipe(self) -> None:
        """Overwrite the bytes and forget where they came from."""
        self._raw[:] = bytearray(len(self._raw))
        self.reference = ""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TargetKey):
            return NotImplemented
        return (self._raw, self.reference) == (other._raw, other.reference)

    __hash__ = None  # type: ignore[assignment]  # its bytes may change

    def __repr__(self) -> str:
        return f"TargetKey({len(self._raw)} bytes)"


def make_key(word: str, ring: KeyRing) -> TargetKey:
    """The key of a word that has been read: `-`, hexadecimal digits, or a name in a keyring.

    ring has what is in the keyrings under such names (key_rings.py).
    Raises: CryptoError: EINVAL for another size, ENOKEY, or what the keyring said.
    """
    if word == "-":
        return TargetKey(b"")
    if not word.startswith(":"):
        # Of an odd number of digits crypt takes no notice of the last, and others there is none.
        return TargetKey(unhexlify(word[: len(word) & ~1]))  # bytes.fromhex leaves it on the stack.
    size, name = split_reference(word)
    raw = ring.get(word, CryptoError(f"key {name!r} has not been read", errno.ENOKEY))
    if isinstance(raw, CryptoError):
        raise raw
    if len(raw) != size:
        held = f"more than {size}" if len(raw) > size else str(len(raw))
        raise CryptoError(f"key {name!r} has {held} bytes, the line says {size}")
    return TargetKey(raw, word)


def split_reference(word: str) -> tuple[int, str]:
    """The size and description of a key of a keyring, :size:user:description."""
    _, size, _, description = word.split(":", 3)
    return int(size), description


def key_of(line: Arguments) -> TargetKey:
    """The key of a line.

    Raises: TableError.
    """
    try:
        return make_key(line.word("key"), line.ring)
    except CryptoError as error:
        line.refuse("key", str(error), error.errno)


def options_of(line: Arguments, order: Iterable[str]) -> tuple[str, ...]:
    """The options of a line as `table` prints them, in an order; the usual sector size is none."""
    return tuple(word for word in line.features(order) if word != f"sector_size:{SECTOR_SIZE}")


def format_line(
    cipher: str, key: str, iv_offset: int, segment: Segment, options: tuple[str, ...]
) -> list[Word]:
    """The words of a line."""
    words: list[Word] = [cipher, key, str(iv_offset), *segment.params()]
    return [*words, str(len(options)), *options] if options else words


def make_context_key(line: Arguments, key: TargetKey, mode: str, key_type: KeyType) -> CryptoKey:
    """The key of the contexts that a line's bios get, with just as many DUN bytes as they need.

    Source: inlinecrypt_ctr in Linux 7.2, which computes 0 bytes where the highest number is 0, and
            is refused by blk_crypto_init_key.
    """
    device, size = line.device(), line.number("sector_size", SECTOR_SIZE)
    highest = (line.number("iv_offset") + line.sector_count - 1) * SECTOR_SIZE // size
    needed = (highest.bit_length() + 7) // 8
    config = CryptoConfig(mode, size, max(needed, 1), key_type)
    return CryptoKey(f"{line.target} on {device.name}", config, key.raw)


def refuse_message(name: str, words: list[str]) -> NoReturn:
    """Refuse a message without repeating it: it may hold a key.

    Raises: StackError(EINVAL).
    """
    raise StackError(f"{name}: a message of {len(words)} words that is not known")

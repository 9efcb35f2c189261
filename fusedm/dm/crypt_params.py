"""What the lines of crypt, inlinecrypt and default-key share: `cipher key iv_offset dev offset`.

Words that may be keys are never quoted in an error.
"""

import errno
import re
from binascii import unhexlify
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn

from fusedm.block import CryptoConfig, CryptoKey
from fusedm.block.crypt_ctx import KeyType
from fusedm.block.errors import CryptoError, StackError
from fusedm.block.units import SECTOR_SIZE, is_power_of_two
from fusedm.dm.target import KeyRing, Params, Segment, Word, whole_number

USAGE = "cipher key iv_offset dev offset [n option...]"

#: A sector and the offset of its IV are added in 64 bits.
MAX_IV_OFFSET = (1 << 64) - 1
MAX_SECTOR_SIZE = 4096

#: Bytes of keys from a keyring: the largest payload of a user key.
MAX_KEY_SIZE = 32767

_SECRET = re.compile(r"[0-9A-Fa-f]{32,}")
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2})+")
_REFERENCE = re.compile(r":(?P<size>[0-9]{1,5}):(?P<type>[^:]*):(?P<description>.*)", re.DOTALL)
_UNREADABLE = ("logon", "encrypted", "trusted")


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


@dataclass(frozen=True, slots=True)
class KeyReference:
    """A user key of the kernel's keyrings, of so many bytes."""

    size: int
    description: str


def parse_key(word: str, ring: KeyRing) -> TargetKey:
    """The key that a word writes out in hexadecimal or names in a keyring; `-` is none.

    ring has what is in the keyrings under such names (key_rings.py).
    Raises: CryptoError: EINVAL, ENOKEY, or what the keyring said.
    """
    if word == "-":
        return TargetKey(b"")
    if word.startswith(":"):
        return _from_keyring(word, ring)
    if _HEX.fullmatch(word) is None:
        text = f"{len(word)} characters are not an even number of hexadecimal digits"
        raise CryptoError(f"{text}, nor - or :size:type:description")
    if not word.strip("0"):
        text = "it is all zeros, which stand for a key that was not shown: give the key itself"
        raise CryptoError(f"{text} (dmsetup table prints it with --showkeys)")
    return TargetKey(unhexlify(word))  # bytes.fromhex leaves its result on the stack.


def parse_key_of_crypt(word: str, ring: KeyRing) -> TargetKey:
    """The same as crypt reads it: half a byte at the end of the digits is not looked at.

    Source: crypt_set_key in the kernel's drivers/md/dm-crypt.c.
    """
    is_odd = len(word) > 1 and len(word) % 2 == 1 and not word.startswith(":")
    return parse_key(word[:-1] if is_odd else word, ring)


def key_word_size(word: str) -> int:
    """How many bytes of key a word announces, without looking at them."""
    reference = _REFERENCE.fullmatch(word)
    if reference is not None:
        return int(reference["size"])
    return 0 if word == "-" else len(word) // 2


def parse_reference(word: str) -> KeyReference:
    """The key of a keyring that a word names, if it is one that can be read.

    Raises: CryptoError: EINVAL, ENOKEY.
    """
    found = _REFERENCE.fullmatch(word)
    if found is None:
        raise CryptoError("a key of a keyring is written :size:type:description")
    size, kind, description = int(found["size"]), found["type"], found["description"]
    if not description or re.search(r"\s", description):
        raise CryptoError("the description of a key is one word without blanks, and not empty")
    if not 0 < size <= MAX_KEY_SIZE:
        raise CryptoError(f"a key of {size} bytes: the size is in 1..{MAX_KEY_SIZE}")
    if kind in _UNREADABLE:
        text = f"a {kind} key can be read by the kernel only, not by fusedm: add it as a user key"
        raise CryptoError(text, errno.ENOKEY)
    if kind != "user":
        raise CryptoError(f"key type {kind!r} is unknown: use user")
    return KeyReference(size, description)


def _from_keyring(word: str, ring: KeyRing) -> TargetKey:
    reference = parse_reference(word)
    name, size = reference.description, reference.size
    raw = ring.get(word, CryptoError(f"key {name!r} has not been read", errno.ENOKEY))
    if isinstance(raw, CryptoError):
        raise raw
    if len(raw) != size:
        held = f"more than {size}" if len(raw) > size else str(len(raw))
        raise CryptoError(f"key {name!r} has {held} bytes, the line says {size}")
    return TargetKey(raw, word)


@dataclass(frozen=True, slots=True)
class CryptArguments:
    """A line of any of the three targets, its options not yet looked at but for the sector size."""

    cipher: str
    key: TargetKey
    iv_offset: int
    segment: Segment
    options: Mapping[str, str]

    @property
    def sector_size(self) -> int:
        """Bytes that are encrypted together."""
        return int(self.options.get("sector_size", SECTOR_SIZE))


def parse_arguments(
    params: Params,
    flags: tuple[str, ...],
    valued: tuple[str, ...],
    read_key: Callable[[str, KeyRing], TargetKey] = parse_key,
) -> "CryptArguments":
    """Read a line whole; flags are the options without, valued those with a value.

    Raises: TableError.
    """
    _check_places(params)
    cipher = params.word()
    word = params.word()
    try:
        key = read_key(word, params.ring)
    except CryptoError as error:
        raise params.argument_error("key", str(error), error.errno) from None
    iv_offset = params.integer("iv_offset", maximum=MAX_IV_OFFSET)
    segment = params.segment(params.sector_count)
    options = _parse_options(params, flags, valued)
    arguments = CryptArguments(cipher, key, iv_offset, segment, options)
    sectors = arguments.sector_size // SECTOR_SIZE
    for name, number in (("iv_offset", iv_offset), ("length", params.sector_count)):
        if number % sectors:
            text = f"{name} {number} is not a multiple of {sectors} sectors"
            raise params.error(f"{text} (sector_size:{arguments.sector_size})")
    return arguments


def _check_places(params: Params) -> None:
    """Refuse a short line, and one whose key stands where errors would quote it."""
    if params.left < 5:
        raise params.count_error()
    for index, word in enumerate(params.words):
        if index != 1 and _SECRET.search(word):
            raise params.error(f"argument {index + 1} looks like a key, which is argument 2")


def _parse_options(
    params: Params, flags: tuple[str, ...], valued: tuple[str, ...]
) -> dict[str, str]:
    count = params.integer("options", maximum=len(flags) + len(valued)) if params.left else 0
    if count != params.left:
        raise params.error(f"{count} options announced, {params.left} given")
    options: dict[str, str] = {}
    for _ in range(count):
        word = params.word()
        name, colon, value = word.partition(":")
        name = name.lower()
        if name not in (valued if colon else flags):
            known = ", ".join([*flags, *(f"{each}:" for each in valued)])
            raise params.argument_error("option", f"{word!r} is unknown: use {known}")
        if name in options:
            raise params.argument_error("option", f"{name} is given twice")
        if name == "sector_size":
            _check_sector_size(params, value)
        options[name] = value
    if options.get("sector_size") == str(SECTOR_SIZE):
        del options["sector_size"]
    return options


def _check_sector_size(params: Params, value: str) -> None:
    size = whole_number(value)
    if size is None or not is_power_of_two(size) or not SECTOR_SIZE <= size <= MAX_SECTOR_SIZE:
        text = f"{value!r} is not a power of two in {SECTOR_SIZE}..{MAX_SECTOR_SIZE}"
        raise params.argument_error("sector_size", text)


def format_arguments(
    cipher: str, key: str, iv_offset: int, segment: Segment, options: list[str]
) -> list[Word]:
    """The words of a line."""
    words: list[Word] = [cipher, key, str(iv_offset), *segment.params()]
    return [*words, str(len(options)), *options] if options else words


def format_options(options: Mapping[str, str], names: tuple[str, ...]) -> list[str]:
    """Those of some names that are given, in the order of the names."""
    given = [name for name in names if name in options]
    return [f"{name}:{options[name]}" if options[name] else name for name in given]


def make_context_key(
    params: Params, arguments: CryptArguments, mode: str, key_type: KeyType
) -> CryptoKey:
    """The key of the contexts that a line's bios get, with just as many DUN bytes as they need.

    Raises: TableError: large sectors not counted as such, a wrong size of key; and in strict mode
            where the highest data unit number is 0.
    Source: inlinecrypt_ctr in Linux 7.2, which computes 0 bytes then and is refused by
            blk_crypto_init_key.
    """
    device, size = arguments.segment.device, arguments.sector_size
    if size != SECTOR_SIZE and "iv_large_sectors" not in arguments.options:
        raise params.error(f"sector_size:{size} needs iv_large_sectors")
    highest = (arguments.iv_offset + params.sector_count - 1) * SECTOR_SIZE // size
    needed = (highest.bit_length() + 7) // 8
    if needed == 0 and device.strict:
        text = "the only data unit has number 0, which takes 0 DUN bytes, and the kernel refuses 0"
        raise params.error(text)
    config = CryptoConfig(mode, size, max(needed, 1), key_type)
    try:
        return CryptoKey(f"{params.target} on {device.name}", config, arguments.key.raw)
    except CryptoError as error:
        raise params.error(f"argument 2: {error}", error.errno) from None


def refuse_message(name: str, words: list[str]) -> NoReturn:
    """Refuse a message without repeating it: it may hold a key.

    Raises: StackError(EINVAL).
    """
    raise StackError(f"{name}: a message of {len(words)} words that is not known")

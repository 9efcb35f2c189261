"""inlinecrypt and default-key: encryption by contexts on bios, done by inline hardware."""

import errno

from fusedm.block.units import SECTOR_SIZE
from fusedm.tables.finding import Fusedm, Kernel
from fusedm.tables.grammar import Grammar
from fusedm.tables.keys import Key, OneKey, has_digits, has_equal_halves
from fusedm.tables.pieces import Choice, Device, Feature, Group, Offset, read_all
from fusedm.tables.reader import Reader
from fusedm.tables.sector_size import (
    IV_OFFSET,
    SECTOR_SIZE_OPTION,
    blocks_fit,
    iv_offset_fits,
    options_printed,
)
from fusedm.tables.words import Word, whole_number

#: Bytes of a raw key.
_KEY_SIZES = {"aes-xts-plain64": 64, "xchacha12,aes-adiantum-plain64": 32}

_MAX_KEY_BYTES = 128
#: What a wrapped key protects is no shorter.
_MIN_WRAPPED_BYTES = 32

#: The numbers by which the kernel prints key types.
_KEY_TYPE_NUMBERS = {"raw": "1", "hw-wrapped": "2"}


class _Ivs:
    """From iv_offset to offset; what the kernel prints has a number before them."""

    def read(self, line: Reader) -> bool:
        """Take three words, or four."""
        if self._is_printed(line):
            word = line.take("key type")
            assert word is not None, "it has been seen"
            kind = next((k for k, n in _KEY_TYPE_NUMBERS.items() if n == word.text), "raw")
            line.error(
                f"{line.quote(word)} is the key type: the kernel prints it here, but does not take "
                f"it: use the option keytype:{kind}",
                word,
                Kernel(errno.ENOENT, why="it takes iv_offset for the name of the device"),
            )
        return read_all((IV_OFFSET, Device(), Offset()), line)

    @staticmethod
    def _is_printed(line: Reader) -> bool:
        """Whether the words are number, number, device, number."""
        kinds = [_is_number(word) for word in line.arguments[line.position :][:4]]
        return kinds == [True, True, False, True]


def _is_number(word: Word) -> bool:
    return whole_number(word.text) is not None


def _key_fits(line: Reader) -> None:
    key, wanted = line.get("key"), _KEY_SIZES[line.text("cipher")]
    size = line.number("key")
    is_wrapped = line.text("keytype") == "hw-wrapped" or _has(line, "wrappedkey_v0")
    if not is_wrapped and size != wanted:
        line.error(f"key: {size} bytes: {line.text('cipher')} takes a raw key of {wanted}", key)
    elif size < _MIN_WRAPPED_BYTES:
        least = _MIN_WRAPPED_BYTES
        line.error(f"key: {size} bytes: a wrapped key has at least {least}", key)
    elif is_wrapped and has_digits(line) and size == wanted:
        line.warn(f"key: {size} bytes are the size of a raw key, but it is said to be wrapped", key)
    elif not is_wrapped and has_equal_halves(line):
        line.warn("key: its halves are equal, which makes XTS weak", key, Kernel(0))


def _sectors_fit(line: Reader) -> None:
    size = line.number("sector_size", SECTOR_SIZE)
    if size != SECTOR_SIZE and not _has(line, "iv_large_sectors"):
        line.error(f"sector_size {size} needs iv_large_sectors", line.get("sector_size"))
        return
    blocks_fit(line, size)
    iv_offset_fits(line)


def _has_a_dun(line: Reader) -> None:
    size = line.number("sector_size", SECTOR_SIZE)
    last = (line.number("iv_offset") + line.sector_count - 1) * SECTOR_SIZE // size
    if not last:
        line.error(
            "its only data unit has DUN 0, for which the kernel reserves 0 bytes of DUN: make it "
            "longer, or iv_offset larger",
            line.get("iv_offset"),
            fusedm=Fusedm(why="but not in strict mode", not_in_strict=True),
        )


def _has(line: Reader, feature: str) -> bool:
    return any(name == feature for name, _ in line.features)


def _options(line: Reader) -> list[str]:
    order = ("allow_discards", "sector_size:", "iv_large_sectors", "wrappedkey_v0")
    return options_printed(line, order)


def _words(line: Reader, *names: str) -> list[str]:
    return [found.printed for name in names for found in line.all(name)]


def _inlinecrypt_printed(line: Reader) -> list[str]:
    number = _KEY_TYPE_NUMBERS[line.text("keytype") or "raw"]
    ivs = _words(line, "iv_offset", "dev", "offset")
    return [*_words(line, "cipher", "key"), number, *ivs, *_options(line)]


def _default_key_printed(line: Reader) -> list[str]:
    ivs = _words(line, "iv_offset", "dev", "offset")
    return [*_words(line, "cipher"), "-", *ivs, *_options(line)]


GRAMMARS = [
    Grammar(
        "inlinecrypt",
        "cipher key iv_offset dev offset [n opt...]",
        (
            OneKey(),
            Choice("cipher", ("aes-xts-plain64",), kernel=Kernel(why="Unsupported cipher")),
            Key(("logon",), _MAX_KEY_BYTES),
            _Ivs(),
            Group(
                (
                    Feature("keytype:", (Choice("keytype", ("raw", "hw-wrapped")),)),
                    Feature("allow_discards"),
                    SECTOR_SIZE_OPTION,
                    Feature("iv_large_sectors"),
                ),
                maximum=4,
                name="options",
                ignore_case=True,
            ),
        ),
        (_key_fits, _sectors_fit, _has_a_dun),
        _inlinecrypt_printed,
    ),
    Grammar(
        "default-key",
        "cipher key iv_offset dev offset [n opt...]",
        (
            OneKey(),
            Choice("cipher", tuple(_KEY_SIZES)),
            Key((), _MAX_KEY_BYTES),
            IV_OFFSET,
            Device(),
            Offset(),
            Group(
                (
                    Feature("allow_discards"),
                    SECTOR_SIZE_OPTION,
                    Feature("iv_large_sectors"),
                    Feature("wrappedkey_v0"),
                ),
                maximum=4,
                name="options",
                ignore_case=True,
            ),
        ),
        (_key_fits, _sectors_fit),
        _default_key_printed,
    ),
]

"""The key of a line: hexadecimal digits, - for none, or :size:type:description of a keyring's."""

import errno
import re
from dataclasses import dataclass

from fusedm.block.errors import CryptoError
from fusedm.tables.finding import REFUSES_IT, TAKES_IT, Fusedm, Kernel
from fusedm.tables.lines import Line
from fusedm.tables.reader import Reader
from fusedm.tables.words import Word, whole_number

#: Where dmsetup prints a key unless it is asked to show it.
MASKED_TEXT = "the key is all zeros: this is a line that was printed with its key masked"

#: The type of keys that can be read outside the kernel.
FUSEDM_KEY_TYPE = "user"

#: fusedm refuses words that look like a key where errors would quote them.
_MISPLACED = re.compile(r"[0-9A-Fa-f]{32,}")

_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")


@dataclass(frozen=True)
class Key:
    """A key; its field's value is its size in bytes, 0 for none.

    key_types: of the keyring that the kernel lets be named. none: whether - is allowed. may_be_odd:
    half a byte at the end is not looked at.
    """

    key_types: tuple[str, ...]
    maximum: int
    none: bool = False
    may_be_odd: bool = False

    def read(self, line: Reader) -> bool:
        """Take one word."""
        word = line.take("key")
        if word is None:
            return False
        if word.text == "-":
            size = self._none(word, line)
        elif word.text.startswith(":"):
            size = self._reference(word, line)
        else:
            size = self._digits(word, line)
        if size is not None and size > self.maximum:
            line.error(f"key: {size} bytes is more than {self.maximum}", word)
        line.add("key", word, size, "bytes", printed=self._looked_at(word), is_secret=True)
        return True

    def _none(self, word: Word, line: Reader) -> int | None:
        if not self.none:
            line.error(
                "key: '-' stands where a key was printed and left out: put the key there", word
            )
            return None
        return 0

    def _looked_at(self, word: Word) -> str:
        """The word without what the kernel does not look at."""
        is_odd = self.may_be_odd and len(word.text) % 2 and not word.text.startswith((":", "-"))
        return word.text[:-1] if is_odd else word.text

    def _digits(self, word: Word, line: Reader) -> int | None:
        text, count = self._looked_at(word), len(word.text)
        if not _HEX_DIGITS.issuperset(text):
            wrong = next(i for i, char in enumerate(text, 1) if char not in _HEX_DIGITS)
            line.error(f"key: character {wrong} of {count} is not a hexadecimal digit", word)
            return None
        if len(text) % 2 or not text:
            line.error(f"key: {count} digits: a byte is two of them, so one is missing", word)
            return None
        if len(text) < count:
            line.warn(
                f"key: {count} digits: a byte is two of them, so the last is not looked at", word
            )
        if not text.strip("0"):
            line.error(
                f"{MASKED_TEXT} (dmsetup table --showkeys prints it)",
                word,
                Kernel(0, why="it encrypts with a key of zeros, and what it reads is noise"),
                REFUSES_IT,
            )
        return count // 2

    def _reference(self, word: Word, line: Reader) -> int | None:
        parts = word.text.split(":", 3)
        known = ", ".join(self.key_types)
        if len(parts) < 4 or not parts[3]:
            line.error("key: a key of a keyring is named :size:type:description", word)
            return None
        size = whole_number(parts[1])
        if not size:
            line.error("key: the size in :size:type:description is not a number of bytes", word)
        if parts[2] not in self.key_types:
            wrong = f"is not one of {known}" if known else "is of no use: give the key itself"
            takes = TAKES_IT if parts[2] == FUSEDM_KEY_TYPE else None
            line.error(f"key: the type in :size:type:description {wrong}", word, fusedm=takes)
        elif parts[2] != FUSEDM_KEY_TYPE:
            line.warn(
                f"key: a {parts[2]} key can be read by the kernel only",
                word,
                fusedm=Fusedm(errno.ENOKEY, "ENOKEY, add it as a user key"),
            )
        if any(char.isspace() for char in parts[3]):
            line.error("key: the description in :size:type:description has a blank", word)
        return size or None


#: The key of crypt.
CRYPT_KEY = Key(("user", "logon", "encrypted", "trusted"), 4096, none=True, may_be_odd=True)


def read_key_word(key: Key, text: str) -> int:
    """How many bytes the key has that a word stands for, which is not in a table line.

    Raises: CryptoError.
    """
    reader = Reader(Line(0, text, (Word(text, 0, len(text)),)), "", "", first=0)
    key.read(reader)
    for found in reader.findings:
        if found.errno_of_fusedm():
            raise CryptoError(found.text, found.errno_of_fusedm())
    return reader.number("key")


class OneKey:
    """A word beside the key must not look like one; said before all else, which follows from it."""

    def read(self, line: Reader) -> bool:
        """Look at all words, and take none."""
        for index, word in enumerate(line.arguments):
            if index != 1 and _MISPLACED.search(word.text):
                may_be = Fusedm(errno.EINVAL, "it may be one")
                line.warn("looks like a key, which is argument 2", word, fusedm=may_be)
        return True


def has_digits(line: Reader) -> bool:
    """Whether the key is given in the line itself."""
    key = line.get("key")
    return key is not None and not key.word.text.startswith((":", "-"))


def has_equal_halves(line: Reader) -> bool:
    """Whether a key in the line is the same twice, which makes XTS weak."""
    key = line.get("key")
    if key is None or not has_digits(line):
        return False
    text = key.word.text.lower()
    return text[: len(text) // 2] == text[len(text) // 2 :]

"""The words of a table line, each with the columns it stands in."""

import re
from collections.abc import Iterator, Sequence

from fusedm.block.value import value

_WORD = re.compile(r"(?:\\.|\S)+")
_ESCAPED = re.compile(r"\\(.)")
_TO_ESCAPE = re.compile(r"[\\\s]")


@value
class Word:
    """A word as the device mapper reads it, its backslashes gone, and where it stands.

    Units:  begin and end are columns of its line, from 0.
    """

    text: str
    begin: int
    end: int

    def part(self, begin: int) -> "Word":
        """What follows its first characters; of a word with backslashes the place is the whole."""
        moved = begin if len(self.text) == self.end - self.begin else 0
        return Word(self.text[begin:], self.begin + moved, self.end)


def split_words(text: str, columns: Sequence[int] | None = None) -> tuple[Word, ...]:
    """The words of a text; columns says where each of its characters stands, if not in order."""
    if columns is not None:
        return tuple(
            Word(
                _ESCAPED.sub(r"\1", found[0]), columns[found.start()], columns[found.end() - 1] + 1
            )
            for found in _WORD.finditer(text)
        )
    words = [Word(found[0], found.start(), found.end()) for found in _WORD.finditer(text)]
    if "\\" in text:
        words = [Word(_ESCAPED.sub(r"\1", word.text), word.begin, word.end) for word in words]
    return tuple(words)


def source_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines of a text that say something, counted from 1: no blank one, and no comment."""
    for number, line in enumerate(text.split("\n"), 1):
        begin = line.lstrip()[:1]
        if begin and begin != "#":
            yield number, line


def escaped(word: str) -> str:
    """A word as a line has it: a backslash before what would end it."""
    return _TO_ESCAPE.sub(r"\\\g<0>", word)


def whole_number(text: str) -> int | None:
    """The number a word of decimal digits stands for; None for any other word.

    A number of more than 20 digits, which Python may refuse to convert, is cut to 20: that is more
    than anything may be.
    """
    if not (text.isascii() and text.isdigit()):
        return None
    return int(text.lstrip("0")[:20] or "0")

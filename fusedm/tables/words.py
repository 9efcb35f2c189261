"""The words of a table line, each with the columns it stands in."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_WORD = re.compile(r"(?:\\.|\S)+")
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class Line:
    """One table line: its words, and the line of the file it stands in, counted from 1.

    shown is that line as it may be printed, keys masked.
    """

    number: int
    shown: str
    words: tuple[Word, ...]


def split_words(text: str, columns: Sequence[int] | None = None) -> tuple[Word, ...]:
    """The words of a text; columns says where each of its characters stands, if not in order."""
    return tuple(
        Word(
            _ESCAPED.sub(r"\1", found[0]),
            columns[found.start()] if columns else found.start(),
            columns[found.end() - 1] + 1 if columns else found.end(),
        )
        for found in _WORD.finditer(text)
    )


def whole_number(text: str) -> int | None:
    """The number a word of decimal digits stands for; None for any other word.

    A number of more than 20 digits is cut to 20: that is more than anything may be.
    """
    if not (text.isascii() and text.isdigit()):
        return None
    return int(text.lstrip("0")[:20] or "0")

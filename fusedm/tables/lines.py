"""One table line: its words, and the text of it that may be shown."""

from collections.abc import Iterator

from fusedm.tables.masking import masked
from fusedm.tables.words import Word, source_lines, split_words


class Line:
    """The words of a table line, and the line of the text that it stands in, counted from 1.

    shown is that whole line as it may be printed, keys masked; it is made when it is asked for,
    unless it is known already.
    """

    __slots__ = ("_shown", "_source", "number", "words")

    def __init__(
        self, number: int, source: str, words: tuple[Word, ...], shown: str | None = None
    ) -> None:
        self.number = number
        self.words = words
        self._source = source
        self._shown = shown

    @property
    def shown(self) -> str:
        """The line of the text with stars for keys."""
        if self._shown is None:
            self._shown = masked(self._source, self.words)
        return self._shown


def table_lines(text: str) -> Iterator[Line]:
    """The lines of the table of one device."""
    for number, line in source_lines(text):
        yield Line(number, line, split_words(line))

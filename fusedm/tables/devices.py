"""Which devices a table names, by the grammars of its targets."""

from fusedm.tables.grammar import all_grammars
from fusedm.tables.lines import Line
from fusedm.tables.pieces import DEVICE, read_all
from fusedm.tables.reader import Reader
from fusedm.tables.words import split_words, whole_number


def devices_named(text: str) -> list[str]:
    """The words of a table's lines that stand for devices, each once, in the order of the text.

    Of a table that can be loaded those are the words its targets look up; any other text is read as
    far as it can be understood. A target without a grammar names none, nor does any message.
    """
    return list(dict.fromkeys(word for line in text.split("\n") for word in _of_line(line)))


def _of_line(text: str) -> list[str]:
    words = split_words(text)
    grammar = all_grammars().get(words[2].text) if len(words) > 2 else None
    if grammar is None or words[0].text.startswith("#"):
        return []
    # What is found fault with is not told: the text need not be masked.
    reader = Reader(Line(1, text, words), grammar.name, grammar.usage)
    reader.sector_count = whole_number(words[1].text) or 1
    read_all(grammar.pieces, reader)
    return [str(found.value) for found in reader.fields if found.unit == DEVICE]

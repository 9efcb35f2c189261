"""How the lines of a table must follow each other, and which targets go together."""

import difflib
from collections.abc import Sequence

from fusedm.block.units import MAX_SECTORS
from fusedm.tables.finding import REFUSES_IT, TAKES, Kernel, When
from fusedm.tables.grammar import Grammar, all_grammars
from fusedm.tables.lines import Line, table_lines
from fusedm.tables.pieces import ONLY_WITH_SMALL_BLOCKS, SECTORS_OF_4096
from fusedm.tables.reader import Reader, human
from fusedm.tables.words import Word, whole_number

#: Targets whose arguments no grammar here describes.
UNDESCRIBED = ("multipath", "zoned")

#: fusedm parses a table while nothing else runs; the kernel takes longer ones.
MAX_TABLE_TARGETS = 1 << 14

_GAP = Kernel(why="Gap in table")
_INVALID_FORMAT = Kernel(when=When.DMSETUP, why="Invalid format on line")


def read_lines(text: str, limits: bool = True, read_only: bool | None = None) -> list[Reader]:
    """The lines of a table that is to be loaded, each read by the grammar of its target.

    Without limits, what the kernel looks at with them is let pass. read_only: None if not known.
    Raises: TableError, for the first thing that fusedm refuses.
    """
    readers: list[Reader] = []
    end = 0
    for line in table_lines(text):
        reader = read_place(line, end, is_loading=True)
        reader.read_only = read_only
        if len(readers) == MAX_TABLE_TARGETS:
            _too_many(reader)
        reader.refuse(limits)
        grammar = all_grammars().get(reader.target)
        if grammar is not None:
            grammar.read(reader)
            reader.refuse(limits)
        end = reader.start_sector + reader.sector_count
        readers.append(reader)
    check_company(readers, read_only)
    for reader in readers:
        reader.refuse(limits)
    return readers


def read_place(line: Line, end_before: int | None, is_loading: bool = False) -> Reader:
    """Start, length and type of a line, as far as they are there.

    Units:  end_before is the end of the line before in sectors, None if that is not known.
    """
    words = line.words
    target = words[2].text if len(words) > 2 else ""
    grammar = all_grammars().get(target)
    usage = grammar.usage if grammar else ""
    known = target if grammar or target in UNDESCRIBED else ""
    reader = Reader(line, known, usage)
    reader.is_loading = is_loading
    if len(words) < 3:
        text = f"{reader.quote(reader.span(words))} is not `start length type arguments`"
        reader.error(text, kernel=_INVALID_FORMAT)
        return reader
    start = _number(reader, "start", words[0])
    length = _number(reader, "length", words[1])
    reader.start_sector, reader.sector_count = start or 0, length or 1
    _check_start(reader, start, end_before)
    _check_length(reader, length)
    if not known:
        _unknown(reader, words[2])
    return reader


def _number(reader: Reader, name: str, word: Word) -> int | None:
    number = whole_number(word.text)
    if number is None:
        kernel = _INVALID_FORMAT
        if name == "length" and word.text[:1].isdigit():
            kernel = Kernel(why="dmsetup takes the digits for the length, the rest for the type")
        reader.error(f"{name}: {reader.quote(word)} is not a number of sectors", word, kernel)
    return number


def _check_start(reader: Reader, start: int | None, end_before: int | None) -> None:
    if start is None or end_before is None or start == end_before:
        return
    word = reader.line.words[0]
    if not end_before:
        reader.error(f"start {start}: the first target must start at 0", word, _GAP)
    elif start > end_before:
        reader.error(
            f"start {start}: leaves a gap of {start - end_before} sectors "
            f"({human(start - end_before)}), the target before ends at {end_before}",
            word,
            _GAP,
        )
    else:
        reader.error(
            f"start {start}: overlaps the target before, which ends at {end_before}", word, _GAP
        )


def _check_length(reader: Reader, length: int | None) -> None:
    word, start = reader.line.words[1], reader.start_sector
    if length is None:
        return
    if not length:
        reader.error("length 0: a target has at least 1 sector", word)
    elif start + length > MAX_SECTORS:
        reader.error(
            f"length: {start} + {length} sectors ends past {MAX_SECTORS} sectors",
            word,
            Kernel(why="too large device"),
        )
    elif length % SECTORS_OF_4096:
        reader.warn(
            f"length {length}: is not a multiple of {SECTORS_OF_4096} sectors ({human(length)})",
            word,
            ONLY_WITH_SMALL_BLOCKS,
        )


def _unknown(reader: Reader, word: Word) -> None:
    names = [*all_grammars(), *UNDESCRIBED]
    near = difflib.get_close_matches(word.text, names, 1)
    meant = f": {near[0]} may be meant" if near else ""
    reader.error(
        f"target type {reader.quote(word)} is unknown{meant}",
        word,
        Kernel(why="unknown target type, and no module of that name"),
    )


def check_company(readers: Sequence[Reader], read_only: bool | None) -> None:
    """Some targets stand alone (and so never with another type), some not in a read-only table."""
    for reader in readers:
        grammar = all_grammars().get(reader.target)
        word = reader.line.words[2] if reader.target else None
        if len(readers) > 1 and _is_alone(reader.target, grammar):
            reader.error("must be the only target of its table", word)
        if read_only and grammar is not None and grammar.needs_writing:
            reader.error("cannot be in a read-only table", word)
    if len(readers) > MAX_TABLE_TARGETS:
        _too_many(readers[MAX_TABLE_TARGETS])


def _too_many(reader: Reader) -> None:
    text = f"a table of fusedm has at most {MAX_TABLE_TARGETS} targets"
    reader.error(text, kernel=TAKES, fusedm=REFUSES_IT)


def _is_alone(target: str, grammar: Grammar | None) -> bool:
    return target in UNDESCRIBED or (grammar is not None and grammar.is_alone)

"""TOML with places: where the keys and values of a text stand, which tomllib does not say.

tomllib reads the values and refuses what is not TOML; so the scanner below may take the text for
valid TOML and needs no checks of its own. Offsets count characters of the text.
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from json import dumps
from typing import Any, TypeVar

from fusedm.block.errors import FusedmError, SpecError

T = TypeVar("T")

#: The keys that lead to a value; in an array its index.
KeyPath = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_STRING = (
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})'
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:\\.|[^"\\])*"'
    r"|'[^']*'"
)
_QUOTED = re.compile(_STRING, re.DOTALL)
_KEY_PART = re.compile(_STRING + r"|[\w-]+", re.DOTALL)
_SCALAR = re.compile(_STRING + r"|[^,\]}#\n]+", re.DOTALL)

#: Within a string, by its quote: what ends a line or looks as if it did.
_STEP = {'"': re.compile(r"\\[ \t]*\n\s*|\\.|\n"), "'": re.compile(r"\n")}
_INDENT = {'"': re.compile(r"(?:[ \t]|\\[ \t]*\n\s*)*"), "'": re.compile(r"[ \t]*")}

_AT = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")

#: So many hexadecimal digits in a row may be a key, and are not shown.
_SECRET = re.compile(r"[0-9A-Fa-f]{32,}")

_KINDS: Mapping[type, str] = {
    bool: "true or false",
    int: "an integer",
    float: "a float",
    str: "a string",
    list: "an array",
    dict: "a table",
}


class SourceText:
    """The text of a TOML file, for errors that show the place they are about."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        # As tomllib does, so that both count the same.
        self.text = text.replace("\r\n", "\n")
        self._places = _Places("")

    def forget(self) -> None:
        """Forget the text: errors have no place from now on."""
        self.text = ""
        self._places = _Places("")

    def load(self) -> dict[str, Any]:
        """The values of the text.

        Raises: SpecError for what is not TOML.
        """
        try:
            values = tomllib.loads(self.text)
            self._places = _Places(self.text)
        except RecursionError:
            raise SpecError(self.file, 0, "not TOML: nested too deeply") from None
        except ValueError as error:
            raise self._toml_error(str(error)) from None
        return values

    def error(
        self, path: KeyPath, text: str, *, at_key: bool = False, hide: bool = False
    ) -> SpecError:
        """An error about the value at a path, or its key; where there is none, about what holds it.

        hide cuts the shown line off before the value, since it may be a secret.
        """
        text = f"{format_path(path)}: {text}" if path else text
        return self._error_at(self._offset(path, at_key), text, hide)

    def error_in_string(self, path: KeyPath, line: int, text: str) -> SpecError:
        """An error about one line, from 1, of the string at a path; line 0 means all of it."""
        text = f"{format_path(path)}: {text}"
        offset = self._offset(path)
        return self._error_at(self._line_in_string(offset, line) if line else offset, text)

    def line_of(self, path: KeyPath) -> int:
        """The line, from 1, on which the key of a path stands."""
        return self._line_and_column(self._offset(path, at_key=True))[0]

    def _offset(self, path: KeyPath, at_key: bool = False) -> int:
        places = [self._places.values, self._places.keys]
        if at_key:
            places.reverse()
        for length in range(len(path), 0, -1):
            for known in places:
                if path[:length] in known:
                    return known[path[:length]]
        return 0

    def _line_in_string(self, offset: int, line: int) -> int:
        """Offset of the first word of a line, at most the last, of the string at an offset."""
        found = _QUOTED.match(self.text, offset)
        if found is None:
            return offset
        raw, quote = found[0], found[0][0]
        at = 3 if raw.startswith(quote * 3) else 1
        at += raw.startswith("\n", at)
        for step in _STEP[quote].finditer(raw, at):
            if line > 1 and step[0] in ("\n", "\\n"):
                line -= 1
                at = step.end()
        return offset + _end(_INDENT[quote], raw, at)

    def _line_and_column(self, offset: int) -> tuple[int, int]:
        begin = self.text.rfind("\n", 0, offset) + 1
        return self.text.count("\n", 0, offset) + 1, offset - begin

    def _error_at(self, offset: int, text: str, hide: bool = False) -> SpecError:
        if not self.text:
            return SpecError(self.file, 0, text)
        line, column = self._line_and_column(offset)
        source = self.text.split("\n")[line - 1]
        shown = source[:column] + "..." if hide else source
        return SpecError(self.file, line, text, _printable(shown), column)

    def _toml_error(self, message: str) -> SpecError:
        found = _AT.search(message)
        if found is None:
            return SpecError(self.file, 0, f"not TOML: {message}")
        text = f"not TOML: {message[: found.start()]}"
        if found[1] is None:
            return self._error_at(len(self.text.rstrip()), text)
        lines = self.text.split("\n")[: int(found[1]) - 1]
        return self._error_at(sum(len(line) + 1 for line in lines) + int(found[2]) - 1, text)


class TomlTable:
    """The keys of one table of a text; what reads one says what is wrong with it, and where.

    Raises: every reader raises SpecError.
    """

    def __init__(self, source: SourceText, path: KeyPath, values: Mapping[Any, object]) -> None:
        self.source = source
        self.path = path
        self.values = values

    @property
    def line(self) -> int:
        """The line of the table's header or key."""
        return self.source.line_of(self.path)

    def error(self, key: str | int, text: str) -> SpecError:
        """An error about the value of a key."""
        return self.source.error((*self.path, key), text)

    def only(self, known: Sequence[str]) -> None:
        """Refuse every key but those known."""
        for key in self.values:
            if key not in known:
                text = f"unknown key{did_you_mean(key, known)}; known are {', '.join(known)}"
                raise self.source.error((*self.path, key), text, at_key=True)

    def get(self, key: str | int, kind: type[T]) -> T | None:
        """The value of a key, which must be of a kind; None where it is left out."""
        if key not in self.values:
            return None
        value = self.values[key]
        if isinstance(value, str) and "\0" in value:
            raise self.error(key, "the string contains a NUL character")
        # To Python a bool is an int, to TOML it is not.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            found = _KINDS.get(type(value), "a date or time")
            raise self.error(key, f"expected {_KINDS[kind]}, found {found}")
        return value

    def need(self, key: str | int, kind: type[T]) -> T:
        """The value of a key that must be there."""
        value = self.get(key, kind)
        if value is None:
            raise self.source.error(self.path, f"key {key!r} is missing")
        return value

    def table(self, key: str) -> "TomlTable":
        """A table in this one."""
        return TomlTable(self.source, (*self.path, key), self.need(key, dict))

    def array(self, key: str) -> "TomlTable":
        """An array in this table; its keys are the indexes."""
        return TomlTable(self.source, (*self.path, key), dict(enumerate(self.need(key, list))))

    def tables(self, key: str, make: "Callable[[str, TomlTable], T]") -> dict[str, T]:
        """What is made of the name and the table of each table in a table that may be left out."""
        if key not in self.values:
            return {}
        parent = self.table(key)
        return {name: make(name, parent.table(name)) for name in parent.values}

    @contextmanager
    def locating(
        self, key: str | int, *, at_key: bool = False, hide: bool = False
    ) -> Iterator[None]:
        """Make any refusal inside one about the value of a key."""
        try:
            yield
        except (FusedmError, ValueError) as error:
            path = (*self.path, key)
            raise self.source.error(path, str(error), at_key=at_key, hide=hide) from None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A question that offers the closest known word; nothing where none is close."""
    close = get_close_matches(word, list(known), 1)
    return f", did you mean {close[0]!r}?" if close else ""


def format_string(text: str) -> str:
    """A TOML string on one line."""
    return dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def format_key(key: str) -> str:
    """A TOML key, quoted where it has to be."""
    return key if _BARE_KEY.fullmatch(key) else format_string(key)


def format_path(path: KeyPath) -> str:
    """A path as TOML's dotted keys, an index in brackets."""
    words = (f"[{part}]" if isinstance(part, int) else f".{format_key(part)}" for part in path)
    return "".join(words).removeprefix(".")


def _printable(line: str) -> str:
    """A line as it may be shown: the same length, no control characters, nothing like a key."""
    line = "".join(char if char.isprintable() else " " for char in line)
    return _SECRET.sub(lambda found: "." * len(found[0]), line)


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    """Where a pattern that is known to match ends."""
    found = pattern.match(text, at)
    assert found is not None, f"unexpected text at {at}"
    return found.end()


class _Places:
    """The offset of every key and every value of a text that is valid TOML, first mention first."""

    def __init__(self, text: str) -> None:
        self.keys: dict[KeyPath, int] = {}
        self.values: dict[KeyPath, int] = {}
        self._text = text
        self._at = 0
        self._document()

    def _document(self) -> None:
        prefix: KeyPath = ()
        self._skip()
        while self._at < len(self._text):
            if self._take("["):
                self._take("[")
                prefix = self._key(())
                self._take("]")
                self._take("]")
            else:
                self._pair(prefix)
            self._skip()

    def _pair(self, prefix: KeyPath) -> None:
        path = self._key(prefix)
        self._take("=")
        self._value(path)

    def _key(self, path: KeyPath) -> KeyPath:
        while True:
            self._skip()
            begin, self._at = self._at, _end(_KEY_PART, self._text, self._at)
            part = self._text[begin : self._at]
            path = (*path, tomllib.loads(f"key = {part}")["key"] if part[0] in "\"'" else part)
            self.keys.setdefault(path, begin)
            if not self._take("."):
                return path

    def _value(self, path: KeyPath) -> None:
        self._skip()
        self.values[path] = self._at
        if self._take("["):
            index = 0
            while not self._take("]"):
                self._value((*path, index))
                self._take(",")
                index += 1
        elif self._take("{"):
            while not self._take("}"):
                self._pair(path)
                self._take(",")
        else:
            self._at = _end(_SCALAR, self._text, self._at)

    def _skip(self) -> None:
        self._at = _end(_BLANK, self._text, self._at)

    def _take(self, char: str) -> bool:
        self._skip()
        found = self._text.startswith(char, self._at)
        self._at += found
        return found

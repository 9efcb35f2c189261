"""What grammars are made of: each piece reads some words of a line.

read answers whether what follows can still be understood. A bad word alone does not end the
reading, so that one look at a line finds all that is wrong with it; a bad count does.
"""

import errno
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from fusedm.block.units import MAX_SECTORS, SECTOR_SIZE, is_power_of_two, parse_size
from fusedm.tables.finding import REFUSES, TAKES_IT, Fusedm, Kernel, When
from fusedm.tables.reader import Reader, human
from fusedm.tables.words import Word, whole_number

#: The kernel's device numbers: 12 bits of major, 20 of minor.
MAX_MAJOR = (1 << 12) - 1
MAX_MINOR = (1 << 20) - 1

MAX_32_BITS = (1 << 32) - 1

#: What is not a multiple of this is refused on devices with logical blocks of 4096 bytes.
SECTORS_OF_4096 = 4096 // SECTOR_SIZE

LIMITS_REFUSE = Kernel(when=When.LIMITS)
ONLY_WITH_SMALL_BLOCKS = Kernel(
    0,
    why="on devices with logical blocks of 512 bytes; with larger ones it says EINVAL, "
    + When.LIMITS.value,
)

#: The unit of a field that is a device, and of one that may be and is not.
DEVICE, NO_DEVICE = "device", "no device"

_DEVICE_NUMBER = re.compile(r"([0-9]+):([0-9]+)")


class Piece(Protocol):
    """A part of a grammar."""

    def read(self, line: Reader) -> bool:
        """Take its words off the line; False if nothing after it can be understood."""


def read_all(pieces: Sequence[Piece], line: Reader) -> bool:
    """Read pieces one after the other, as far as it can be understood."""
    return all(piece.read(line) for piece in pieces)


@dataclass(frozen=True)
class Number:
    """A decimal number, the whole word of it, with its unit."""

    name: str
    unit: str = ""
    minimum: int = 0
    maximum: int = MAX_SECTORS
    multiple_of: int = 1
    power_of_two: bool = False
    zero_too: bool = False
    kernel: Kernel = REFUSES

    def read(self, line: Reader) -> bool:
        """Take one word."""
        word = line.take(self.name)
        if word is None:
            return False
        number = whole_number(word.text)
        if number is None or not self._is_right(number):
            quoted = line.quote(word)
            meant = self._meant(word.text, quoted[1:-1])
            wrong = self._wrong_with(number, quoted)
            line.error(f"{self.name}: {wrong}{meant}", word, self.kernel)
            number = None
        line.add(self.name, word, number, self.unit)
        return True

    def _is_right(self, number: int) -> bool:
        if self.zero_too and not number:
            return True
        return (
            self.minimum <= number <= self.maximum
            and not number % self.multiple_of
            and not (self.power_of_two and not is_power_of_two(number))
        )

    def _wrong_with(self, number: int | None, quoted: str) -> str:
        of = f" of {self.unit}" if self.unit else ""
        if number is None:
            return f"{quoted} is not a number{of}"
        if not self.minimum <= number <= self.maximum:
            # Not the number itself: a key with digits only is one, too.
            unit = f" {self.unit}" if self.unit else ""
            return f"{quoted[1:-1]} is not in {self.minimum}..{self.maximum}{unit}"
        if self.power_of_two and not is_power_of_two(number):
            return f"{number} is not a power of two"
        return f"{number} is not a multiple of {self.multiple_of}"

    def _meant(self, text: str, shown: str) -> str:
        """The number that may have been meant, if it was given in another unit."""
        for size, said in self._sizes(text, shown):
            number, rest = divmod(size, SECTOR_SIZE) if self.unit == "sectors" else (size, 0)
            if not rest and self._is_right(number):
                return f" ({said} {number} {self.unit})"
        return ""

    def _sizes(self, text: str, shown: str) -> list[tuple[int, str]]:
        """What a word might say in bytes, and how that is called."""
        number = whole_number(text)
        if self.unit == "sectors" and number is not None:
            return [(number, f"{shown} bytes are")]
        if self.unit == "bytes" and number is not None:
            return [(number * SECTOR_SIZE, f"{shown} sectors are")]
        if self.unit not in ("bytes", "sectors") or len(text) > 20:
            return []
        try:
            return [(parse_size(_with_unit(text)), f"{shown} is")]
        except ValueError:
            return []


def _with_unit(text: str) -> str:
    """A size word with its unit in full: LVM's 4k and 1m are meant as KiB and MiB."""
    return f"{text}iB" if text[-1:] in tuple("kmgtKMGT") else text


@dataclass(frozen=True)
class Device:
    """A block device: a path, MAJOR:MINOR, or a name of a fusedm stack."""

    name: str = "dev"
    none: bool = False

    def read(self, line: Reader) -> bool:
        """Take one word; none allows - for no device."""
        word = line.take(self.name)
        if word is None:
            return False
        numbers = _DEVICE_NUMBER.fullmatch(word.text)
        if numbers:
            major, minor = (whole_number(text) or 0 for text in numbers.groups())
            if major > MAX_MAJOR or minor > MAX_MINOR:
                line.error(
                    f"{self.name}: device {line.quote(word)} is not in "
                    f"0:0..{MAX_MAJOR}:{MAX_MINOR}",
                    word,
                    Kernel(errno.EOVERFLOW),
                    Fusedm(why="for it this is the name of a device of its stack"),
                )
        is_none = self.none and word.text == "-"
        if word.text == "-" and not is_none:
            line.warn(f"{self.name}: '-' is looked up as the name of a device here", word)
        line.add(self.name, word, word.text, NO_DEVICE if is_none else DEVICE)
        return True


@dataclass(frozen=True)
class Offset:
    """Where a target begins on its device."""

    name: str = "offset"

    def read(self, line: Reader) -> bool:
        """Take one word."""
        if not Number(self.name, "sectors").read(line):
            return False
        found = line.get(self.name)
        assert found is not None, "it has been read"
        if not isinstance(found.value, int):
            return True
        end = found.value + line.sector_count
        if end > MAX_SECTORS:
            line.error(
                f"{self.name}: {found.value} + {line.sector_count} sectors ends past "
                f"{MAX_SECTORS} sectors, the largest a device can be",
                found,
                LIMITS_REFUSE,
            )
        elif found.value % SECTORS_OF_4096:
            line.warn(
                f"{self.name} {found.value}: is not a multiple of {SECTORS_OF_4096} sectors "
                f"({human(found.value)})",
                found,
                ONLY_WITH_SMALL_BLOCKS,
            )
        return True


@dataclass(frozen=True)
class Choice:
    """One of some words."""

    name: str
    words: tuple[str, ...]
    ignore_case: bool = False
    kernel: Kernel = REFUSES

    def read(self, line: Reader) -> bool:
        """Take one word."""
        word = line.take(self.name)
        if word is None:
            return False
        text = word.text
        if self.ignore_case:
            text = next((one for one in self.words if one.lower() == text.lower()), text)
        if text not in self.words:
            known = ", ".join(self.words)
            line.error(f"{self.name}: {line.quote(word)} is not one of {known}", word, self.kernel)
            line.add(self.name, word, None)
        else:
            line.add(self.name, word, text)
        return True


@dataclass(frozen=True)
class Text:
    """Any word; with dash, - stands for none; with hexadecimal, pairs of digits."""

    name: str
    dash: bool = False
    hexadecimal: bool = False

    def read(self, line: Reader) -> bool:
        """Take one word."""
        word = line.take(self.name)
        if word is None:
            return False
        is_none = self.dash and word.text == "-"
        if self.hexadecimal and not is_none and not re.fullmatch("([0-9A-Fa-f]{2})+", word.text):
            line.error(f"{self.name}: {line.quote(word)} is not pairs of hexadecimal digits", word)
        line.add(self.name, word, word.text)
        return True


@dataclass(frozen=True)
class Maybe:
    """Pieces that may be left out at the end of a line."""

    pieces: tuple[Piece, ...]

    def read(self, line: Reader) -> bool:
        """Read them if a word is left."""
        return not line.left or read_all(self.pieces, line)


@dataclass(frozen=True)
class Repeat:
    """Pieces as often as the field count_name says, each time of so many words, and no more."""

    count_name: str
    pieces: tuple[Piece, ...]
    words: int
    to_the_end: bool = True

    def read(self, line: Reader) -> bool:
        """Read them all."""
        counted = line.get(self.count_name)
        if counted is None or not isinstance(counted.value, int):
            return False  # That was an error already.
        wanted = counted.value * self.words
        if wanted > line.left or (self.to_the_end and wanted != line.left):
            line.error(
                f"{self.count_name} {counted.value}: {wanted} words should follow, {line.left} do",
                counted,
            )
            return False
        return all(read_all(self.pieces, line) for _ in range(counted.value))


@dataclass(frozen=True)
class Feature:
    """A word of a group, with what follows it: further words, or after its colon a value."""

    name: str
    pieces: tuple[Piece, ...] = ()
    repeatable: bool = False

    @property
    def has_value(self) -> bool:
        """Whether it is written NAME:VALUE."""
        return self.name.endswith(":")


@dataclass(frozen=True)
class Group:
    """A count, then so many words: first some that have their places, then features.

    unknown: any other words are left to whom they are for. With ends the line ends with the group.
    """

    features: tuple[Feature, ...]
    maximum: int
    name: str = "features"
    first: tuple[Piece, ...] = ()
    optional: bool = True
    ignore_case: bool = False
    ends: bool = True
    minimum: int = 0

    def read(self, line: Reader) -> bool:
        """Read the count and the words."""
        if self.optional and not line.left:
            return True
        if not Number(self.name, "words", self.minimum, self.maximum).read(line):
            return False
        counted = line.get(self.name)
        assert counted is not None, "it has been read"
        if not isinstance(counted.value, int):
            return False
        if counted.value > line.left or (self.ends and counted.value < line.left):
            line.error(
                f"{self.name} {counted.value}: {counted.value} words are announced, "
                f"{line.left} follow",
                counted,
            )
            return False
        end, line.end = line.end, line.position + counted.value
        done = read_all(self.first, line) and self._read_features(line)
        line.end = end
        return done

    def _read_features(self, line: Reader) -> bool:
        seen: set[str] = set()
        while line.left:
            word = line.take(self.name)
            assert word is not None, "one is left"
            feature = self._feature(word.text)
            if feature is None:
                known = ", ".join(feature.name for feature in self.features)
                line.error(f"{line.quote(word)} is not one of its {self.name}: {known}", word)
                continue
            if feature.has_value and not word.text.startswith(feature.name):
                # The kernel compares flags without minding case, but reads these as they are.
                line.error(f"{feature.name.rstrip(':')} is in small letters", word, fusedm=TAKES_IT)
            if feature.name in seen and not feature.repeatable:
                line.error(f"{feature.name.rstrip(':')} is given twice", word)
            seen.add(feature.name)
            if not _read_feature(feature, word, line):
                return False
        return True

    def _feature(self, text: str) -> Feature | None:
        lower = text.lower() if self.ignore_case else text
        for feature in self.features:
            if lower.startswith(feature.name) if feature.has_value else lower == feature.name:
                return feature
        return None


def _read_feature(feature: Feature, word: Word, line: Reader) -> bool:
    """What comes after the name of a feature."""
    before = len(line.fields)
    if feature.has_value:
        # The value is read as a word of its own, standing where it stands.
        line.position -= 1
        line.arguments[line.position] = word.part(len(feature.name))
    else:
        line.add("feature", word, feature.name)
    done = read_all(feature.pieces, line)
    if feature.has_value:
        value = line.fields[-1]
        line.fields[-1] = replace(value, printed=feature.name + value.printed)
    words = [found.printed for found in line.fields[before:]]
    line.features.append((feature.name, words))
    return done


@dataclass(frozen=True)
class Anything:
    """All words that are left, whatever they are."""

    name: str

    def read(self, line: Reader) -> bool:
        """Take them all."""
        for word in line.rest():
            line.add(self.name, word, word.text)
        return True

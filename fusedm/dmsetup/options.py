"""The options of dmsetup, read as getopt_long(3) reads them. Pure.

Options may stand anywhere; `--` ends them; a long option may be cut short while it is clear which
one is meant; of an option given twice the last one counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from fusedm.block.errors import UsageError

#: Every long option, in the order in which an ambiguous one lists them; those in NEED take a word.
_LONG = (
    "readonly alias alldevices allprograms allregions area areas areasize bounds checks clear "
    "columns concise count deferred select exec filemap follow force foreground gid group "
    "groupid help histogram inactive interval length manglename major minor mode nameprefixes "
    "nogroup noflush noheadings nolockfs noopencount nosuffix notable notimesuffix nomonitor "
    "noudevrules noudevsync options precise programid raw readahead region regions regionid "
    "relative retry rows segments separator setuuid showkeys sort start table target tree "
    "udevcookie uid units uuid unbuffered unquoted userdata verbose verifyudev version yes "
    "addnodeonresume addnodeoncreate"
)
_NEED = (
    "alias areas areasize bounds count select exec follow gid groupid interval length "
    "manglename major minor mode options programid readahead regions regionid separator sort "
    "start table target udevcookie uid units uuid userdata"
)
LONG = tuple(_LONG.split())
NEED = frozenset(_NEED.split())
SHORT = {
    "c": "columns",
    "C": "columns",
    "f": "force",
    "G": "gid",
    "h": "help",
    "j": "major",
    "m": "minor",
    "M": "mode",
    "n": "notable",
    "o": "options",
    "O": "sort",
    "r": "readonly",
    "S": "select",
    "u": "uuid",
    "U": "uid",
    "v": "verbose",
    "y": "yes",
}

#: How names are written where device mapper or /dev would not take them (names.py).
MANGLING = ("none", "auto", "hex")


@dataclass(slots=True)
class Options:
    """What the options say: flags that are set, words of the others, and what is no option."""

    flags: set[str] = field(default_factory=set)
    values: dict[str, str] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)
    verbosity: int = 0

    def has(self, name: str) -> bool:
        """Whether an option was given."""
        return name in self.flags or name in self.values

    def number(self, name: str) -> int | None:
        """The number a word begins with, 0 for one that begins with none; None if not given."""
        return leading_number(self.values[name]) if name in self.values else None

    def _set(self, name: str, word: str | None) -> None:
        if word is not None:
            self.values[name] = word
        else:
            self.flags.add(name)
            self.verbosity += name == "verbose"


def leading_number(word: str) -> int:
    """What strtol(3) makes of a word: the number at its beginning, 0 if there is none."""
    digits = word.strip()
    sign = -1 if digits.startswith("-") else 1
    digits = digits.lstrip("+-")
    end = next((n for n, char in enumerate(digits) if char not in "0123456789"), len(digits))
    return sign * int(digits[:end] or "0")


def read_options(arguments: Sequence[str]) -> Options:
    """Sort the words of a command line.

    Raises: UsageError as dmsetup words it.
    """
    options = Options()
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--":
            options.words += rest
            break
        if word.startswith("--"):
            _read_long(word[2:], rest, options)
        elif word.startswith("-") and word != "-":
            _read_short(word[1:], rest, options)
        else:
            options.words.append(word)
    _check(options)
    return options


def _read_long(text: str, rest: list[str], options: Options) -> None:
    typed, has_value, value = text.partition("=")
    matches = [typed] if typed in LONG else [name for name in LONG if name.startswith(typed)]
    if not matches:
        raise UsageError(f"dmsetup: unrecognized option '--{typed}'")
    if len(matches) > 1:
        listed = " ".join(f"'--{name}'" for name in matches)
        raise UsageError(f"dmsetup: option '--{typed}' is ambiguous; possibilities: {listed}")
    name = matches[0]
    if name not in NEED:
        if has_value:
            raise UsageError(f"dmsetup: option '--{name}' doesn't allow an argument")
        options._set(name, None)
    elif has_value:
        options._set(name, value)
    elif rest:
        options._set(name, rest.pop(0))
    else:
        raise UsageError(f"dmsetup: option '--{name}' requires an argument")


def _read_short(letters: str, rest: list[str], options: Options) -> None:
    for place, letter in enumerate(letters, 1):
        if letter not in SHORT:
            raise UsageError(f"dmsetup: invalid option -- '{letter}'")
        name = SHORT[letter]
        if name not in NEED:
            options._set(name, None)
            continue
        if place < len(letters):
            options._set(name, letters[place:])
        elif rest:
            options._set(name, rest.pop(0))
        else:
            raise UsageError(f"dmsetup: option requires an argument -- '{letter}'")
        return


def _check(options: Options) -> None:
    mode = options.values.get("mode", "0")
    if not mode or set(mode) - set("01234567"):
        raise UsageError(f"Invalid argument for --mode: {mode}. ")
    if options.values.get("manglename", "auto") not in MANGLING:
        raise UsageError("Unknown name mangling mode.")
    if ("major" in options.values) != ("minor" in options.values):
        raise UsageError("Please specify both major number and minor number.")
    if options.has("table") and options.has("notable"):
        raise UsageError("--table and --notable are incompatible.")

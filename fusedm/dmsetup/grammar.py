"""The verbs of dmsetup: how many words each takes, and what a command line asks for. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from fusedm.block.errors import UsageError
from fusedm.dmsetup.options import Options, read_options

#: As many words as one likes.
ANY = 1 << 30


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb: its name, how many words may follow, and its lines in the usage text."""

    name: str
    least: int
    most: int
    synopsis: tuple[str, ...]


VERBS = (
    Verb("help", 0, 0, ("[-c|-C|--columns]",)),
    Verb(
        "create",
        0,
        2,
        (
            "<dev_name>",
            "    [-j|--major <major> -m|--minor <minor>]",
            "    [-U|--uid <uid>] [-G|--gid <gid>] [-M|--mode <octal_mode>]",
            "    [-u|--uuid <uuid>] [--addnodeonresume|--addnodeoncreate]",
            "    [--readahead {[+]<sectors>|auto|none}]",
            "    [-n|--notable|--table {<table>|<table_file>}]",
            "create --concise [<concise_device_spec_list>]",
        ),
    ),
    Verb("remove", 0, ANY, ("[--deferred] [-f|--force] [--retry] <device>...",)),
    Verb("remove_all", 0, 0, ("[-f|--force]",)),
    Verb("suspend", 0, ANY, ("[--noflush] [--nolockfs] <device>...",)),
    Verb(
        "resume",
        0,
        ANY,
        (
            "[--noflush] [--nolockfs] <device>...",
            "       [--addnodeonresume|--addnodeoncreate]",
            "       [--readahead {[+]<sectors>|auto|none}]",
        ),
    ),
    Verb("load", 0, 2, ("<device> [<table>|<table_file>]",)),
    Verb("clear", 0, ANY, ("<device>",)),
    Verb("reload", 0, 2, ("<device> [<table>|<table_file>]",)),
    Verb("wipe_table", 0, ANY, ("[-f|--force] [--noflush] [--nolockfs] <device>...",)),
    Verb("rename", 1, 2, ("<device> [--setuuid] <new_name_or_uuid>",)),
    Verb("measure", 0, ANY, ("[<device>...]",)),
    Verb("message", 2, ANY, ("<device> <sector> <message>",)),
    Verb("ls", 0, 0, ("[--target <target_type>] [--exec <command>] [-o <options>] [--tree]",)),
    Verb("info", 0, ANY, ("[<device>...]",)),
    Verb("deps", 0, ANY, ("[-o <options>] [<device>...]",)),
    Verb("stats", 1, ANY, ("<command> [<options>] [<device>...]",)),
    Verb("status", 0, ANY, ("[<device>...] [--noflush] [--target <target_type>]",)),
    Verb("table", 0, ANY, ("[<device>...] [--concise] [--target <target_type>] [--showkeys]",)),
    Verb("wait", 0, 2, ("<device> [<event_nr>] [--noflush]",)),
    Verb("mknodes", 0, ANY, ("[<device>...]",)),
    Verb("mangle", 0, ANY, ("[<device>...]",)),
    Verb("udevcreatecookie", 0, 0, ("",)),
    Verb("udevreleasecookie", 0, 1, ("[<cookie>]",)),
    Verb("udevflags", 1, 1, ("<cookie>",)),
    Verb("udevcomplete", 1, 1, ("<cookie>",)),
    Verb("udevcomplete_all", 0, 1, ("[<age_in_minutes>]",)),
    Verb("udevcookies", 0, 0, ("",)),
    Verb("target-version", 1, ANY, ("[<target>...]",)),
    Verb("targets", 0, 0, ("",)),
    Verb("version", 0, 0, ("",)),
    Verb("setgeometry", 5, 5, ("<device> <cyl> <head> <sect> <start>",)),
    Verb("splitname", 1, 2, ("<device> [<subsystem>]",)),
)
_BY_NAME = {verb.name: verb for verb in VERBS}

#: What `-o` may list without --columns, and with --tree.
PLAIN_OPTIONS = ("devno", "devname", "blkdevname")
TREE_OPTIONS = (
    *("ascii", "utf", "vt100", "compact", "inverted", "notrunc", "blkdevname"),
    *("device", "nodevice", "active", "open", "rw", "uuid"),
)


class Help(Enum):
    """Whether the usage text is shown, and whether that is what was asked for."""

    NO = 0
    ASKED = 1
    WRONG = 2


@dataclass(frozen=True, slots=True)
class Call:
    """A verb and what it is given; shows is what to tell instead, after the line complaint."""

    verb: str
    words: tuple[str, ...]
    options: Options
    help: Help = Help.NO
    complaint: str = ""

    @property
    def has_columns(self) -> bool:
        """Whether a report in columns is asked for."""
        return self.options.has("columns") or self.verb == "splitname"

    @property
    def listed(self) -> list[str]:
        """The words of -o, or of none."""
        return [word for word in self.options.values.get("options", "").split(",") if word]


def read_call(arguments: Sequence[str]) -> Call:
    """What a command line asks for.

    Raises: UsageError for options that cannot be; the rest is in the call.
    """
    options = read_options(arguments)
    if options.has("help"):
        return Call("help", (), options, Help.ASKED)
    if options.has("version"):
        return Call("version", (), options)
    if not options.words:
        return Call("", (), options, Help.WRONG)
    name, *words = options.words
    verb = _BY_NAME.get(name)
    if verb is None:
        return Call(name, tuple(words), options, Help.WRONG, "Unknown command.")
    call = Call(name, tuple(words), options)
    _check_listed(call)
    if not verb.least <= len(words) <= verb.most:
        complaint = "Incorrect number of arguments."
        return Call(name, tuple(words), options, Help.WRONG, complaint)
    if name == "help":
        return Call(name, (), options, Help.ASKED)
    return call


def _check_listed(call: Call) -> None:
    if call.options.has("tree"):
        unknown = next((n for n, w in enumerate(call.listed) if w not in TREE_OPTIONS), None)
        if unknown is not None:
            rest = ",".join(call.listed[unknown:])
            raise UsageError(f"Tree options not recognised: {rest}.")
    elif not call.has_columns:
        for word in call.listed:
            if word not in PLAIN_OPTIONS:
                raise UsageError(f"Option not recognised: {word}.")


def usage_text() -> str:
    """What `dmsetup help` prints."""
    lines = [f"\t{verb.name} " + "\n\t".join(verb.synopsis) for verb in VERBS]
    return _HEAD + "\n".join(lines) + "\n" + _FOOT


_HEAD = """\
Usage:

dmsetup
        [--version] [-h|--help [-c|-C|--columns]]
        [-v|--verbose [-v|--verbose ...]] [-f|--force]
        [--checks] [--manglename {none|hex|auto}]
        [-r|--readonly] [--noopencount] [--noflush] [--nolockfs] [--inactive]
        [--udevcookie <cookie>] [--noudevrules] [--noudevsync] [--verifyudev]
        [-y|--yes] [--readahead {[+]<sectors>|auto|none}] [--retry]
        [-c|-C|--columns] [-o <fields>] [-O|--sort <sort_fields>]
        [-S|--select <selection>] [--nameprefixes] [--noheadings]
        [--separator <separator>]

"""
_FOOT = """
A <device> is a name or a path; a single one also -u <uuid>, or -j <major> -m <minor>.
A <table> is read from standard input where none is given.
In <concise_device_spec_list>, devices end with a semicolon and fields with a comma:
    <name>,<uuid>,<minor>,<flags>,<table line>[,<table line>...]
        Of these <uuid>, <minor> and <flags> (ro or rw) may be left empty.
<fields> are listed by `help -c`; <options> are devno, devname, blkdevname, and with --tree
ascii, utf, vt100; compact, inverted, notrunc; blkdevname, [no]device, active, open, rw, uuid.

"""

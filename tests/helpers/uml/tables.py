"""Table lines for the kernel and for fusedm: adding a target is adding lines here.

Good ones are loaded, looked at and written through; bad ones are loaded onto a device that has no
table, and onto one that has. Disks are d0 and d1 of 2048 sectors, d2 of 4096, and b4 of 2048 with
blocks of 4096 bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tests.helpers.uml.experiment import DiskSpec

DISKS = {
    "d0": DiskSpec(),
    "d1": DiskSpec(),
    "d2": DiskSpec(4096),
    "b4": DiskSpec(block_size=4096),
}


def disks_of(table: str, seed: int | None = None) -> dict[str, DiskSpec]:
    """The disks that a table names, full of zeros or of noise."""
    words = table.split()
    return {name: replace(spec, seed=seed) for name, spec in DISKS.items() if name in words}


@dataclass(frozen=True)
class Good:
    """A table that both take. departs: the verbs that fusedm answers otherwise, and why."""

    table: str
    departs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Departure:
    """What the kernel and fusedm each make of a table, in a verdict's words, and why."""

    kernel: str
    ours: str
    why: str


@dataclass(frozen=True)
class Bad:
    """A table that is refused: on a device without a table, and on one with a live table."""

    table: str
    fresh: Departure | None = None
    live: Departure | None = None


def departing(table: str, kernel: str, ours: str, why: str, ours_live: str = "") -> Bad:
    """A table for which it mostly does not matter whether there is one."""
    live = Departure(kernel, ours_live or ours, why)
    return Bad(table, Departure(kernel, ours, why), live)


def unknown(table: str) -> Bad:
    """A table with a device that is not there."""
    why = "the kernel opens a node, fusedm looks for a name; Linux 7.2 answers ENOENT"
    return departing(table, "load: ENODEV", "load: ENXIO", why)


WRAPS = "the kernel's number wraps around at its size, here it is too large"
#: Where a table is live, what lies below is looked at when the new one is to be.
LATE = "resume: EINVAL, stays suspended"
LATER = "Linux 7.2 is followed, of which 6.1 does not know this yet"
FORGETS = {"table": "the kernel forgets the arguments, here a saved table is the same table"}
ERRORS = {"table": "as Linux 7.2, which names the features it does by default and ends in no blank"}
NO_BLANK = {"table": "as Linux 7.2, which prints no blank after the last word"}


GOOD: Mapping[str, tuple[Good, ...]] = {
    "linear": (
        Good("0 1024 linear d0 0"),
        Good("0 2048 linear d0 0"),
        Good("0 1 linear d0 2047"),
        Good("0 8 linear d0 0\n8 16 linear d1 2032\n24 4096 linear d2 0"),
        Good("0 8 linear b4 8"),
        Good("0 8 linear d0 00"),
    ),
    "striped": (
        Good("0 2048 striped 1 8 d0 0"),
        Good("0 4096 striped 2 8 d0 0 d1 0"),
        Good("0 30 striped 3 5 d0 0 d1 7 d2 9"),
        Good("0 2048 striped 2 1 d0 0 d0 1024"),
        Good("0 32 striped 2 16 d0 0 b4 0"),
    ),
    "zero": (Good("0 8 zero"), Good("0 8 zero\n8 1000000 zero")),
    "error": (
        Good("0 8 error"),
        Good("0 8 error d0 0", {**FORGETS, "deps": LATER}),
        Good("0 8 error d0 2040", {**FORGETS, "deps": LATER}),
        Good("0 8 error any words at all", FORGETS),
    ),
    "flakey": (
        Good("0 1024 flakey d0 0 1 0", ERRORS),
        Good("0 1024 flakey d0 0 0 1", ERRORS),
        Good("0 1024 flakey d0 0 1 0 0", ERRORS),
        Good("0 1024 flakey d0 8 0 1 1 drop_writes", NO_BLANK),
        Good("0 1024 flakey d0 8 0 1 1 error_writes", NO_BLANK),
        Good("0 1024 flakey d0 8 0 1 1 DROP_writes", NO_BLANK),
        Good("0 1024 flakey d0 0 4294967295 0", ERRORS),
    ),
    "delay": (
        Good("0 1024 delay d0 0 0"),
        Good("0 1024 delay d0 0 1"),
        Good("0 1024 delay d0 0 0 d1 8 0"),
        Good("0 1024 delay d0 0 0 d1 8 0 d2 16 0"),
        Good("0 1024 delay d0 0 0 d1 8 2 d2 16 1"),
    ),
}

BAD: Mapping[str, tuple[Bad, ...]] = {
    "table": (
        Bad(""),
        Bad("8 8 zero"),
        Bad("0 0 zero"),
        Bad("0 8 zero\n16 8 zero"),
        Bad("0 8 zero\n4 8 zero"),
        Bad("0 8 nosuchtarget"),
        Bad("0 18446744073709551615 zero"),
        Bad("0 9223372036854775808 zero"),
        Bad("0 18014398509481984 zero"),
        Bad("0 8 zero\n8 18446744073709551608 zero"),
    ),
    "linear": (
        Bad("0 8 linear"),
        Bad("0 8 linear d0"),
        Bad("0 8 linear d0 0 0"),
        Bad("0 8 linear d0 x"),
        Bad("0 8 linear d0 -1"),
        Bad("0 8 linear d0 12x"),
        Bad("0 8 linear d0 0x10"),
        Bad("0 8 linear d0 +0"),
        unknown("0 8 linear nosuch 0"),
        departing("0 8 linear 99999:0 0", "load: EOVERFLOW", "load: ENXIO", "here it is no number"),
        Bad("0 2049 linear d0 0"),
        Bad("0 2048 linear d0 1"),
        Bad("0 8 linear d0 99999999999"),
        departing(
            "0 8 linear d0 18446744073709551616", "taken: 0 8 linear d0 0", "load: EINVAL", WRAPS
        ),
        Bad("0 7 linear b4 0"),
        Bad("0 8 linear b4 1"),
        Bad("0 4 linear d0 0\n4 8 linear b4 0"),
    ),
    "striped": (
        Bad("0 8 striped"),
        Bad("0 8 striped 1"),
        Bad("0 8 striped 1 8"),
        Bad("0 8 striped 0 8 d0 0"),
        Bad("0 8 striped 1 0 d0 0"),
        Bad("0 8 striped x 8 d0 0"),
        Bad("0 8 striped 1 x d0 0"),
        Bad("0 8 striped 1 8 d0"),
        Bad("0 8 striped 1 8 d0 0 d1"),
        Bad("0 8 striped 1 8 d0 x"),
        unknown("0 8 striped 1 8 nosuch 0"),
        Bad("0 9 striped 2 1 d0 0 d1 0"),
        Bad("0 8 striped 2 8 d0 0 d1 0"),
        Bad("0 12 striped 1 8 d0 0"),
        Bad("0 4098 striped 2 1 d0 0 d1 0"),
        departing(
            "0 16 striped 2 1 d0 0 b4 0",
            "taken: 0 16 striped 2 1 d0 0 b4 0",
            "load: EINVAL",
            "chunks of less than a block: in the kernel each I/O fails",
            LATE,
        ),
    ),
    "zero": (Bad("0 8 zero x"), Bad("0 8 zero 0")),
    "error": (
        departing("0 8 error nosuch 0", "taken: 0 8 error ", "load: ENXIO", LATER),
        departing("0 8 error d0 x", "taken: 0 8 error ", "load: EINVAL", LATER),
        departing("0 8 error d0 2041", "taken: 0 8 error ", "load: EINVAL", LATER, LATE),
    ),
    "flakey": (
        Bad("0 8 flakey"),
        Bad("0 8 flakey d0 0 1"),
        Bad("0 8 flakey d0 x 1 0"),
        Bad("0 8 flakey d0 0 x 0"),
        Bad("0 8 flakey d0 0 1 x"),
        Bad("0 8 flakey d0 0 0 0"),
        Bad("0 8 flakey d0 0 4294967295 1"),
        Bad("0 8 flakey d0 0 4294967296 0"),
        unknown("0 8 flakey nosuch 0 1 0"),
        Bad("0 8 flakey d0 0 1 0 x"),
        Bad("0 8 flakey d0 0 1 0 1"),
        Bad("0 8 flakey d0 0 1 0 1 nosuch"),
        Bad("0 8 flakey d0 0 1 0 2 drop_writes"),
        Bad("0 8 flakey d0 0 1 0 2 drop_writes drop_writes"),
        Bad("0 8 flakey d0 0 1 0 2 drop_writes error_writes"),
        departing(
            "0 8 flakey d0 0 1 0 1 drop_writes error_reads",
            "taken: 0 8 flakey d0 0 1 0 1 drop_writes ",
            "load: EINVAL",
            "the kernel does not look at what is left over",
        ),
        Bad("0 8 flakey d0 0 1 0 12 drop_writes"),
        Bad("0 2049 flakey d0 0 1 0"),
    ),
    "delay": (
        Bad("0 8 delay"),
        Bad("0 8 delay d0 0"),
        Bad("0 8 delay d0 0 0 d1"),
        Bad("0 8 delay d0 0 0 d1 0"),
        Bad("0 8 delay d0 0 0 d1 0 0 d2 0"),
        Bad("0 8 delay d0 0 0 d1 0 0 d2 0 0 d0 0 0"),
        Bad("0 8 delay d0 x 0"),
        Bad("0 8 delay d0 0 x"),
        departing("0 8 delay d0 0 4294967296", "taken: 0 8 delay d0 0 0", "load: EINVAL", WRAPS),
        unknown("0 8 delay nosuch 0 0"),
        unknown("0 8 delay d0 0 0 nosuch 0 0"),
        Bad("0 8 delay d0 0 0 d1 2041 0"),
    ),
}

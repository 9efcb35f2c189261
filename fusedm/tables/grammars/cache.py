"""cache, writecache, clone and era: one device in front of another."""

from dataclasses import dataclass

from fusedm.tables.grammar import Grammar
from fusedm.tables.pieces import Anything, Choice, Device, Feature, Group, Maybe, Number, Text
from fusedm.tables.reader import Reader
from fusedm.tables.sector_size import blocks_fit


@dataclass(frozen=True)
class _Counted:
    """A count, and so many words for somebody else."""

    name: str

    def read(self, line: Reader) -> bool:
        """Read the count and the words."""
        if not Number(f"{self.name} words").read(line):
            return False
        counted = line.get(f"{self.name} words")
        if counted is None or not isinstance(counted.value, int):
            return False
        if counted.value != line.left:
            line.error(
                f"{counted.name} {counted.value}: {counted.value} words are announced, "
                f"{line.left} follow",
                counted,
            )
            return False
        return Anything(self.name).read(line)


def _cache_modes(line: Reader) -> None:
    modes = [name for name, _ in line.features if name.startswith(("write", "pass"))]
    if len(modes) > 1:
        line.error(f"{' and '.join(modes)} exclude each other", line.get("feature"))
    elif not modes:
        line.warn("no mode is given: it is writethrough")


def _writecache_fits(line: Reader) -> None:
    names = {name for name, _ in line.features}
    if line.text("kind") == "p":
        line.warn("kind p needs persistent memory; without it EOPNOTSUPP", line.get("kind"))
    for name in ("fua", "nofua"):
        if name in names and line.text("kind") == "s":
            line.error(f"{name} is for kind p", line.get("feature"))
    if "pause_writeback" in names and line.text("kind") == "p":
        line.error("pause_writeback is for kind s", line.get("feature"))
    blocks_fit(line, line.number("block_size"), ())


def _with_number(name: str, unit: str = "", maximum: int = 1 << 32) -> Feature:
    return Feature(name, (Number(name, unit, maximum=maximum),))


GRAMMARS = [
    Grammar(
        "cache",
        "meta cache origin block n feature... policy n policyarg...",
        (
            Device("meta"),
            Device("cache"),
            Device("origin"),
            Number("block", "sectors", 64, 1 << 21, multiple_of=64),
            Group(
                tuple(
                    map(
                        Feature,
                        (
                            "writethrough",
                            "writeback",
                            "passthrough",
                            "metadata2",
                            "no_discard_passdown",
                        ),
                    )
                ),
                maximum=3,
                optional=False,
                ends=False,
            ),
            Text("policy"),
            _Counted("policy"),
        ),
        (_cache_modes,),
    ),
    Grammar(
        "writecache",
        "p|s origin cache block_size n opt...",
        (
            Choice("kind", ("p", "s")),
            Device("origin"),
            Device("cache"),
            Number("block_size", "bytes", 512, 1 << 12, power_of_two=True),
            Group(
                (
                    _with_number("start_sector", "sectors", 1 << 54),
                    _with_number("high_watermark", "percent", 100),
                    _with_number("low_watermark", "percent", 100),
                    _with_number("writeback_jobs"),
                    _with_number("autocommit_blocks", "blocks"),
                    _with_number("autocommit_time", "ms"),
                    _with_number("max_age", "ms"),
                    *map(Feature, ("cleaner", "fua", "nofua", "metadata_only", "pause_writeback")),
                ),
                maximum=18,
                name="options",
                optional=False,
            ),
        ),
        (_writecache_fits,),
    ),
    Grammar(
        "clone",
        "meta dest source region [n feature... [n corearg...]]",
        (
            Device("meta"),
            Device("dest"),
            Device("source"),
            Number("region", "sectors", 8, 1 << 21, power_of_two=True),
            Group(
                (Feature("no_hydration"), Feature("no_discard_passdown")),
                maximum=2,
                ends=False,
            ),
            Maybe((_Counted("core"),)),
        ),
    ),
    Grammar(
        "era",
        "meta origin block",
        (Device("meta"), Device("origin"), Number("block", "sectors", minimum=8, multiple_of=8)),
    ),
]

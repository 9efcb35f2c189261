"""raid: the kernel's md personalities."""

import errno
from dataclasses import dataclass, replace

from fusedm.tables.finding import Fusedm
from fusedm.tables.grammar import Grammar
from fusedm.tables.pieces import Choice, Device, Feature, Group, Number, Repeat
from fusedm.tables.reader import Field, Reader
from fusedm.tables.words import whole_number

_TYPES = (
    *("raid0", "raid1", "raid4", "raid5_n", "raid5_ls", "raid5_rs", "raid5_la", "raid5_ra"),
    *("raid6_zr", "raid6_nr", "raid6_nc", "raid6_n_6", "raid6_ls_6", "raid6_rs_6", "raid6_la_6"),
    *("raid6_ra_6", "raid10", "raid10_near", "raid10_far", "raid10_offset"),
)

_MIN_CHUNK = 8
_MAX_REGIONS = 1 << 21
_MAX_DEVICES = 253
_PARITY = ("raid4", "raid5", "raid6")

_FEWEST = {"raid0": 1, "raid1": 1, "raid6": 4}

#: How many devices' worth of sectors are not for data.
_PARITY_DEVICES = {"raid4": 1, "raid5": 1, "raid6": 2}

#: How many devices may be lost.
_REDUNDANCY = {"raid0": 0, "raid4": 1, "raid5": 1, "raid6": 2}

#: Which parameters are for some types only.
_ONLY_FOR = {
    "write_mostly": ("raid1",),
    "max_write_behind": ("raid1",),
    "stripe_cache": _PARITY,
    "journal_dev": _PARITY,
    "journal_mode": _PARITY,
    "raid10_copies": ("raid10",),
    "raid10_format": ("raid10",),
}


@dataclass(frozen=True)
class _Signed:
    """A number that may be negative."""

    name: str

    def read(self, line: Reader) -> bool:
        """Take one word."""
        word = line.take(self.name)
        if word is None:
            return False
        number = whole_number(word.text.removeprefix("-").removeprefix("+"))
        if number is None:
            line.error(f"{self.name}: {line.quote(word)} is not a number", word)
        line.add(self.name, word, number, printed=word.text)
        return True


def _with_number(name: str, unit: str = "", repeatable: bool = False) -> Feature:
    return Feature(name, (Number(name, unit),), repeatable)


_PARAMETERS = (
    Feature("sync"),
    Feature("nosync"),
    _with_number("rebuild", repeatable=True),
    _with_number("daemon_sleep", "ms"),
    _with_number("min_recovery_rate", "KiB/s"),
    _with_number("max_recovery_rate", "KiB/s"),
    _with_number("write_mostly", repeatable=True),
    _with_number("max_write_behind", "sectors"),
    _with_number("stripe_cache", "sectors"),
    Feature("region_size", (Number("region_size", "sectors", minimum=1, power_of_two=True),)),
    _with_number("raid10_copies"),
    Feature("raid10_format", (Choice("raid10_format", ("near", "far", "offset")),)),
    Feature("delta_disks", (_Signed("delta_disks"),)),
    _with_number("data_offset", "sectors"),
    Feature("journal_dev", (Device("journal_dev"),)),
    Feature("journal_mode", (Choice("journal_mode", ("writethrough", "writeback")),)),
)


class _Chunk:
    """The chunk, which raid1 ignores."""

    def read(self, line: Reader) -> bool:
        """Take one word."""
        chunk = Number("chunk", "sectors", _MIN_CHUNK, power_of_two=True)
        if line.text("type") == "raid1":
            chunk = replace(chunk, minimum=0, power_of_two=False)
        return chunk.read(line)


def _level(line: Reader) -> str:
    return line.text("type").partition("_")[0]


def _parameters_fit(line: Reader) -> None:
    level, chunk, region = _level(line), line.number("chunk"), line.number("region_size")
    names = [name for name, _ in line.features]
    words = [found for found in line.all("feature")]
    for name, word in zip(names, words, strict=True):
        if level not in _ONLY_FOR.get(name, (level,)):
            line.error(f"{name} is not for {level}", word)
    if {"sync", "nosync"} <= set(names):
        line.error("sync and nosync exclude each other", words[0])
    if region and region < chunk:
        line.error(
            f"region_size {region}: is smaller than the chunk of {chunk} sectors",
            line.get("region_size"),
        )
    elif region and line.sector_count // region >= _MAX_REGIONS:
        line.error(
            f"region_size {region}: makes {line.sector_count // region} regions of "
            f"{line.sector_count} sectors, more than {_MAX_REGIONS - 1}",
            line.get("region_size"),
        )
    if level == "raid1" and chunk:
        line.warn(f"chunk {chunk}: raid1 ignores it and prints 0", line.get("chunk"))


def _devices_fit(line: Reader) -> None:
    level, count = _level(line), line.number("devices")
    least = _FEWEST.get(level, 2)
    if count < least:
        line.error(f"devices {count}: {level} takes at least {least}", line.get("devices"))
        return
    for meta, data in zip(line.all("meta"), line.all("data"), strict=True):
        if data.value == "-" and meta.value != "-":
            line.error("meta: is given for a data device that is missing", meta)
    for name in ("rebuild", "write_mostly"):
        for index in line.all(name):
            if isinstance(index.value, int) and index.value >= count:
                line.error(f"{name} {index.value}: is not below {count} devices", index)
    missing = sum(data.value == "-" for data in line.all("data")) + len(line.all("rebuild"))
    may_be = _REDUNDANCY.get(level, count - 1)
    if missing > may_be:
        line.error(
            f"{missing} devices are missing or to be rebuilt, of which {level} can spare {may_be}"
        )


def _copies_fit(line: Reader) -> None:
    if _level(line) != "raid10":
        return
    copies, count = line.number("raid10_copies", 2), line.number("devices")
    if not 2 <= copies <= count:
        at = line.get("raid10_copies")
        line.error(f"raid10_copies {copies}: is not in 2..{count}, the number of devices", at)


def _length_fits(line: Reader) -> None:
    """Each device takes the same share, in whole chunks."""
    level, count, chunk = _level(line), line.number("devices"), line.number("chunk")
    if level == "raid1" or line.has_errors:
        return
    copies = line.number("raid10_copies", 2) if level == "raid10" else 1
    holders = count - _PARITY_DEVICES.get(level, 0)
    share, rest = divmod(line.sector_count * copies, holders)
    if rest:
        line.error(f"length {line.sector_count}: does not divide evenly between the devices")
    elif share % chunk:
        line.warn(
            f"length {line.sector_count}: takes {share} sectors of each device, which are no whole "
            f"chunks of {chunk}",
            fusedm=Fusedm(errno.EINVAL, "the last of them would be out of reach"),
        )


def _is_run(line: Reader) -> None:
    if line.has_errors:
        return
    kind = line.text("type")
    layout = line.text("raid10_format") or kind.partition("_")[2]
    if _level(line) == "raid10" and layout in ("far", "offset"):
        at = line.get("raid10_format") or line.get("type")
        _not_run(line, f"raid10: its layout {layout} is run by the kernel only", at)
        return
    for name in ("delta_disks", "data_offset", "journal_dev", "journal_mode"):
        at = line.get(name)
        if at is not None and at.value != 0:
            _not_run(line, f"{name}: is run by the kernel only", at)
            return


def _not_run(line: Reader, text: str, at: Field | None) -> None:
    line.warn(text, at, fusedm=Fusedm(errno.EOPNOTSUPP, "it neither reshapes nor keeps a journal"))


def _printed(line: Reader) -> list[str] | None:
    if line.features:
        return None  # Several of them are done with when the array has been made.
    chunk = "0" if _level(line) == "raid1" else str(line.number("chunk"))
    return [chunk if one.name == "chunk" else one.printed for one in line.fields]


GRAMMARS = [
    Grammar(
        "raid",
        "type n chunk [parameter...] devices [meta data]+",
        (
            Choice("type", _TYPES),
            Group(
                _PARAMETERS,
                maximum=1 << 10,
                name="parameters",
                first=(_Chunk(),),
                optional=False,
                ends=False,
                minimum=1,
            ),
            Number("devices", minimum=1, maximum=_MAX_DEVICES),
            Repeat("devices", (Device("meta", none=True), Device("data", none=True)), words=2),
        ),
        (_parameters_fit, _devices_fit, _copies_fit, _length_fits, _is_run),
        _printed,
    )
]

"""snapshot, snapshot-origin and snapshot-merge: copies on write."""

from fusedm.tables.grammar import Grammar
from fusedm.tables.pieces import Choice, Device, Feature, Group, Number
from fusedm.tables.reader import Reader

#: INT_MAX bytes.
_MAX_CHUNK = ((1 << 31) - 1) >> 9

_FEATURES = (Feature("discard_zeroes_cow"), Feature("discard_passdown_origin"))


def _devices_differ(line: Reader) -> None:
    if line.text("origin") == line.text("cow"):
        line.error("cow: is the origin itself", line.get("cow"))


def _passdown(line: Reader) -> None:
    names = {name for name, _ in line.features}
    if "discard_passdown_origin" in names and "discard_zeroes_cow" not in names:
        line.error("discard_passdown_origin needs discard_zeroes_cow", line.get("feature"))


def _chunk(line: Reader) -> None:
    chunk = line.number("chunk")
    if not chunk and line.text("persistent") == "N":
        line.error("chunk 0: is for a store that tells its own, P or PO", line.get("chunk"))
    if 0 < chunk < 8:
        line.warn(
            f"chunk {chunk}: is smaller than 8 sectors, so devices with logical blocks of 4096 "
            "bytes refuse it",
            line.get("chunk"),
        )


def _printed(line: Reader) -> list[str] | None:
    if not line.number("chunk"):
        return None  # It is what the store says.
    first = [found.printed for found in line.fields[:4]]
    given = {name for name, _ in line.features}
    words = [feature.name for feature in _FEATURES if feature.name in given]
    return [*first, *([str(len(words)), *words] if words else [])]


def _grammar(name: str, kinds: tuple[str, ...]) -> Grammar:
    return Grammar(
        name,
        f"origin cow {'|'.join(kinds)} chunk [n feature...]",
        (
            Device("origin"),
            Device("cow"),
            Choice("persistent", kinds, ignore_case=True),
            Number("chunk", "sectors", 1, _MAX_CHUNK, power_of_two=True, zero_too=True),
            Group(_FEATURES, maximum=2, ignore_case=True),
        ),
        (_devices_differ, _passdown, _chunk),
        _printed,
    )


GRAMMARS = [
    _grammar("snapshot", ("P", "PO", "N")),
    _grammar("snapshot-merge", ("P", "PO")),
    Grammar("snapshot-origin", "origin", (Device("origin"),)),
]

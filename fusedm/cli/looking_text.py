"""What `why` and `explain` print, from what the daemon has told. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fusedm.cli.listing import columns

Told = Mapping[str, Any]


def why_text(told: Told) -> str:
    """What is native, what is missing and why, and where contexts are honoured."""
    return "\n".join(_why(told))


def _why(told: Told) -> Iterator[str]:
    name, device = told["name"], told["device"]
    yield f"{name}: " + (
        f"view of {device} under key {told['key']}, from sector {told['start']} on"
        if told["key"] is not None
        else f"{told['sectors']} sectors"
    )
    native = [f"{mode} {_sizes(sizes)}" for mode, sizes in told["native"].items()]
    most = f", {told['max_dun_bytes']} DUN bytes" if native else ""
    yield f"native all over {device}: {'; '.join(native) or 'nothing'}{most}"
    for group in told["missing"]:
        yield f"not native: {group['mode']} {_sizes(group['sizes'])}"
        yield from (f"  {one['text']}" for one in group["obstacles"])
    for config in told["configs"]:
        words = f"{config['mode']}/{config['data_unit_size']}, {config['dun_bytes']} DUN bytes"
        yield f"where a context of {words} is honoured on {device}:"
        yield from _extents(config["extents"])


def _extents(extents: Sequence[Told]) -> Iterator[str]:
    if not extents:
        yield "  nowhere: it is smaller than a data unit"
        return
    rows = [("START", "LENGTH", "TARGET", "HOW", "WHERE", "WHY")]
    rows += [
        (
            str(one["start"]),
            str(one["length"]),
            one["target"] or "-",
            one["how"],
            one["where"],
            one["why"] + (f" ({one['part']})" if one["part"] else ""),
        )
        for one in extents
    ]
    yield from (f"  {line}" for line in columns(rows).splitlines())


def swap_text(told: Told) -> str:
    """What a table would gain and lose."""
    return "\n".join(_swap(told))


def _swap(told: Told) -> Iterator[str]:
    before, after = told["sectors"]
    yield f"{told['name']}: {before} sectors, {after} with this table; nothing is loaded"
    for device in told["devices"]:
        for word, groups in (("gains", device["gained"]), ("loses", device["lost"])):
            for group in groups:
                yield f"{device['name']} {word} {group['mode']} {_sizes(group['sizes'])}"
                was = "was missing: " if word == "gains" else ""
                yield from (f"  {was}{one['text']}" for one in group["obstacles"])
        if not device["gained"] and not device["lost"]:
            yield f"{device['name']} neither gains nor loses anything natively"
    for view in told["views"]:
        before, after = view["native_sectors"]
        words = f"view {view['name']} ({view['mode']}/{view['data_unit_size']})"
        yield f"{words}: {before} sectors native, {after} with this table:"
        yield from _extents(view["extents"])


def _sizes(sizes: Sequence[int]) -> str:
    return ",".join(map(str, sizes))

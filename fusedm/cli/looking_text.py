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
    types = "" if told["key_types"] == ["raw"] else f", keys {' and '.join(told['key_types'])}"
    most = f", {told['max_dun_bytes']} DUN bytes{types}" if native else ""
    yield f"native all over {device}: {'; '.join(native) or 'nothing'}{most}"
    for group in told["missing"]:
        yield f"not native: {group['mode']} {_sizes(group['sizes'])}{_keys(group)}"
        yield from (f"  {one['text']}" for one in group["obstacles"])
    for config in told["configs"]:
        words = f"{config['mode']}/{config['data_unit_size']}, {config['dun_bytes']} DUN bytes"
        words += _keys(config)
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
    if told["refused"] is not None:
        yield f"a load of it would be refused: {told['refused']}"
    for device in told["devices"]:
        for word, groups in (("gains", device["gained"]), ("loses", device["lost"])):
            for group in groups:
                sizes = _sizes(group["sizes"]) + _keys(group)
                yield f"{device['name']} {word} {group['mode']} {sizes}"
                was = "was missing: " if word == "gains" else ""
                yield from (f"  {was}{one['text']}" for one in group["obstacles"])
        if not device["gained"] and not device["lost"]:
            yield f"{device['name']} neither gains nor loses anything natively"
    for view in told["views"]:
        before, after = view["native_sectors"]
        words = f"view {view['name']} ({view['mode']}/{view['data_unit_size']})"
        yield f"{words}: {before} sectors native, {after} with this table:"
        yield from _extents(view["extents"])


def explain_text(told: Told) -> str:
    """The way of a request as a tree."""
    return "\n".join(_explain(told))


def _explain(told: Told) -> Iterator[str]:
    key = f", key {told['key']}" if told["key"] is not None else ""
    yield f"{told['op']} of {told['length']} bytes at {told['offset']} of {told['name']}{key}"
    yield f"answered: {_answered(told)}"
    if not told["requests"] and told["answered"] != "fails":
        yield f"there is nothing to do: the file ends at {told['size']}"
    for request in told["requests"]:
        range_words = f"bytes {request['begin']}..{request['end']}"
        if request["kind"] == "patch":
            what = f"{request['bytes']} bytes at {request['offset']} in it are replaced"
            yield f"block {range_words}, read, changed and written: {what}"
        else:
            yield f"blocks {range_words} ({told['block_size']} each): {request['kind']}"
        yield from _steps(request["steps"], told["stores"], "")


def _answered(told: Told) -> str:
    match told["answered"]:
        case "fails":
            return f"with an error: {told['fails']}"
        case "waits":
            return "after waiting for " + "; for ".join(told["waits_on"])
        case "on the spot":
            return "on the spot; not in the compiled loop: " + "; ".join(told["not_compiled"])
        case _:
            return "in the compiled loop of the lane"


def _steps(steps: Sequence[Told], stores: Mapping[str, str], before: str) -> Iterator[str]:
    for index, step in enumerate(steps):
        is_last = index == len(steps) - 1
        yield f"{before} {'`-' if is_last else '|-'}{_step(step, stores)}"
        yield from _steps(step.get("steps", ()), stores, before + ("   " if is_last else " | "))


def _step(step: Told, stores: Mapping[str, str]) -> str:
    match step["step"]:
        case "device":
            return f"{step['device']}: {_io(step)}"
        case "target":
            place = f"{step['target']} at {step['start']}+{step['length']}"
            return f"{place}: sectors {step['sector']}..{step['sector'] + step['sectors']}"
        case "fallback":
            what = f"fallback of {step['device']}, {_keyslot(step)}: {_io(step)}"
            return f"{what} ({step['why']})"
        case "leaf":
            how = f"engine, {_keyslot(step)}" if step["native"] else "as it is"
            store = stores.get(step["device"], "its store")
            return f"{how}: bytes {step['begin_byte']}..{step['end_byte']} of {store}"
        case "delay":
            return f"{step['seconds'] * 1000:g} ms later"
        case "transform":
            return "decrypted by the target" if step["op"] == "read" else "encrypted by the target"
        case "hook":
            return "its target looks at the end"
        case "completed":
            return "zeros, without a medium" if step["op"] == "read" else "dropped"
        case "script":
            return "its target reads and writes on its own, step by step"
        case "failed":
            return f"fails: {step['text']}"
    raise AssertionError(f"there are no words for the step {step['step']}")


def _io(step: Told) -> str:
    words = f"{step['op']} of sectors {step['sector']}..{step['sector'] + step['sectors']}"
    return words + (f", DUN {step['dun'][0]}..{step['dun'][1]}" if step["dun"] else "")


def _keyslot(step: Told) -> str:
    if not step["keyslots"]:
        return f"key {step['key']} goes along with the request"
    if step["keyslot"] is None:
        return f"key {step['key']} would be programmed into a keyslot"
    return f"keyslot {step['keyslot']}" + ("" if step["programmed"] else " (being programmed)")


def _keys(told: Told) -> str:
    """Which keys are meant, unless it is raw ones only."""
    match told["key_types"]:
        case ["raw"]:
            return ""
        case [one]:
            return f" ({one} keys)"
        case _:
            return " (all keys)"


def _sizes(sizes: Sequence[int]) -> str:
    return ",".join(map(str, sizes))

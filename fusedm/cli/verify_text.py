"""What `verify` prints, from what it has found. Pure."""

from collections.abc import Mapping
from typing import Any

Told = Mapping[str, Any]


def view_text(one: Told) -> list[str]:
    """How many data units were verified, and each that is wrong."""
    lines = [
        f"{one['name']}: bytes {one['begin']}..{one['end']}, {one['units']} data units of "
        f"{one['data_unit_size']}: {one['units'] - one['holes']} compared under {one['mode']}, "
        f"{one['holes']} holes, {one['mismatch_count']} wrong"
    ]
    if one["rechecked"]:
        lines.append(
            f"  {one['rechecked']} were looked at again, {one['settled']} of them are right: "
            "writes were in flight"
        )
    lines += [f"  unreadable: {text}" for text in one["unreadable"]]
    for wrong in one["mismatches"]:
        disk = f"sector {wrong['disk_sector']} of {wrong['disk']}" if wrong["disk"] else "no disk"
        lines.append(
            f"  WRONG at byte {wrong['offset']}, sector {wrong['sector']}, DUN {wrong['dun']}: "
            f"{disk} holds {wrong['holds']}..., what is shown encrypts to {wrong['wanted']}..."
            + (" (it is being written)" if wrong["is_changing"] else "")
        )
    return lines + _more(one["mismatch_count"], one["mismatches"])


def difference_text(one: Told, file: str) -> list[str]:
    """Each block of a view that differs from a file."""
    lines = [f"  against {file}: {one['difference_count']} blocks differ"]
    lines += [
        f"  DIFFERENT from byte {each['first_byte']} on (block at {each['offset']}): "
        f"{one['name']} shows {each['shows']}, {file} has {each['wanted'] or 'ended'}"
        for each in one["differences"]
    ]
    return lines + _more(one["difference_count"], one["differences"])


def dun_text(one: Told) -> str:
    """The data unit numbers of a view, and their limit."""
    words = f"{one['name']}: DUN {one['first']}..{one['last']}"
    if one["found"]:
        return f"{words} DO NOT FIT {one['dun_bytes']} bytes (below {one['limit']})"
    return f"{words} fit {one['dun_bytes']} bytes, with room for {one['limit'] - 1 - one['last']}"


def reuse_text(one: Told) -> list[str]:
    """What two views share, and what is there."""
    views, data = " and ".join(one["views"]), one["data"]
    words = f"{views}, key {' and '.join(dict.fromkeys(one['keys']))}: DUN "
    words += f"{one['first']}..{one['last']} are in both, "
    if one["different"]:
        words += (
            f"REUSED at different places {one['different']} times, first {one['first_different']}"
        )
    else:
        words += "always for the same place"
    lines = [words]
    if one["not_looked_at"]:
        lines.append(f"  {one['not_looked_at']} of them were not looked at: there are too many")
    if one.get("with_data") is not None:
        lines.append(f"  {one['with_data']} of them have data in both")
    if data["looked_at"]:
        lines.append(
            f"  data of {data['looked_at']}: {data['different_count']} DIFFERENT, {data['equal']} "
            f"equal, {data['holes']} with a hole, {data['same_place']} at the same place"
        )
    lines += [f"  different data under DUN {dun}" for dun in data["different"][:10]]
    return lines


def keyslots_text(one: Told) -> list[str]:
    """How many keyslots hold keys, and each that does not hold what it should."""
    if not one["keyslots"]:
        return [f"{one['name']}: no keyslots"]
    lines = [
        f"{one['name']}: {one['used']} of {one['keyslots']} keyslots hold keys, "
        f"{len(one['wrong'])} wrong"
    ]
    return lines + [f"  WRONG: keyslot {wrong['slot']} {wrong['text']}" for wrong in one["wrong"]]


def leak_text(one: Told) -> list[str]:
    """Each sector of a disk that is plaintext."""
    lines = [f"{one['name']}: {one['leak_count']} sectors of plaintext"]
    lines += [
        f"  PLAINTEXT at byte {each['offset']}: as {each['view']} shows at {each['view_offset']}"
        for each in one["leaks"]
    ]
    return lines + _more(one["leak_count"], one["leaks"])


def _more(count: int, shown: list[Any]) -> list[str]:
    return [f"  and {count - len(shown)} more"] if count > len(shown) else []

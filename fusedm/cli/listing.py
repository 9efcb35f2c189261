"""What `ls` prints: a table, a tree, or lsblk's JSON. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fusedm.block.units import format_size

File = Mapping[str, Any]

#: lsblk's words for what kind of device a row is.
_TYPES = {"disk": "disk", "mapped": "dm", "view": "crypt"}


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows as left-aligned columns, two blanks apart."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    return "\n".join(lines)


def table(files: Sequence[File], nodes: Mapping[str, str]) -> str:
    """One row a file; nodes gives the loop device of those that are attached."""
    rows = [("NAME", "TYPE", "SIZE", "RO", "LOG-SEC", "OPEN", "LOOP", "ON", "PATH")]
    rows += [
        (
            file["name"] + (" (suspended)" if file["suspended"] else ""),
            file["kind"],
            format_size(file["size"]),
            str(int(file["ro"])),
            str(file["log_sec"]),
            str(file["open"]),
            nodes.get(file["path"], "-"),
            ",".join(file["below"]) or "-",
            file["path"],
        )
        for file in files
    ]
    return columns(rows)


def lsblk(files: Sequence[File], nodes: Mapping[str, str]) -> dict[str, object]:
    """The same with lsblk's key names; what it has no key for keeps fusedm's."""
    return {
        "blockdevices": [
            {
                "name": file["name"],
                "path": file["path"],
                "type": _TYPES[file["kind"]],
                "size": file["size"],
                "ro": file["ro"],
                "log-sec": file["log_sec"],
                "pkname": file["below"][0] if file["below"] else None,
                "fusedm": {
                    "below": file["below"],
                    "open": file["open"],
                    "loop": nodes.get(file["path"]),
                    "suspended": file["suspended"],
                    "key": file.get("key"),
                    "dun_base": file.get("dun_base"),
                    "start": file.get("start"),
                },
            }
            for file in files
        ]
    }


def tree(files: Sequence[File]) -> str:
    """What nobody uses on top, below each what it uses."""
    by_name = {file["name"]: file for file in files}
    used = {name for file in files for name in file["below"]}
    tops = [file["name"] for file in files if file["name"] not in used]
    return "\n".join(line for name in tops for line in _branch(name, by_name, "", ""))


def _branch(name: str, files: Mapping[str, File], first: str, others: str) -> Iterator[str]:
    file = files[name]
    note = f", key {file['key']}" if "key" in file else ""
    note += f", from {format_size(file['start'])}" if file.get("start") else ""
    yield f"{first}{name} ({file['kind']}, {format_size(file['size'])}{note})"
    below: Sequence[str] = file["below"]
    for child in below[:-1]:
        yield from _branch(child, files, f"{others} |-", f"{others} | ")
    for child in below[-1:]:
        yield from _branch(child, files, f"{others} `-", f"{others}   ")


def shared(name: str, files: Mapping[str, File], nodes: Mapping[str, str]) -> list[str]:
    """What to know before a file is attached: which loop devices show the same data already.

    files and nodes are by name; a file says what it lies on.
    """
    lines = []
    for other, node in nodes.items():
        if other == name:
            lines.append(f"{name!r} is attached to {node} already")
        elif other in files and other in _all_below(name, files):
            lines.append(f"{name!r} lies on {other!r}, which is attached to {node}")
        elif other in files and name in _all_below(other, files):
            lines.append(f"{other!r}, which is attached to {node}, lies on {name!r}")
    return [f"{line}: neither sees what is written through the other" for line in lines]


def _all_below(name: str, files: Mapping[str, File]) -> set[str]:
    below: list[str] = list(files[name]["below"]) if name in files else []
    for each in below:
        below += files[each]["below"] if each in files else []
    return set(below)

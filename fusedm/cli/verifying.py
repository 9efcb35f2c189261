"""The command line, continued: `verify`, which compares what views show with what media hold.

Keys stay in the daemon: what needs one is asked of it, a part at a time. What needs none is done
here, on the files of the mount.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from fusedm.block.crypt_ctx import MAX_DATA_UNIT_SIZE
from fusedm.block.errors import StackError, UsageError
from fusedm.block.units import format_size
from fusedm.cli.devices import stack_option
from fusedm.cli.looking import EXIT_FOUND, json_option, size_of
from fusedm.cli.progress import Progress
from fusedm.cli.verify_files import MAX_KEPT, differences, find_leaks
from fusedm.cli.verify_text import (
    difference_text,
    dun_text,
    keyslots_text,
    leak_text,
    reuse_text,
    view_text,
)
from fusedm.control import Client, which_stack
from fusedm.inspect import MAX_SAMPLE

Told = dict[str, Any]

#: Data unit numbers asked about at a time.
BATCH = 64
#: Memory for a sector that is looked for: its digest, where it was seen, and room in a table.
LEAK_BYTES = 256


@click.command("verify")
@stack_option
@json_option
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--offset", default="0", help="Begin there; bytes or a size such as 4KiB.")
@click.option("--length", help="How much from there on; all that follows without.")
@click.option("--against", metavar="FILE", help="Compare what the view shows with FILE, too.")
@click.option("--reuse", is_flag=True, help="Look for one key and DUN used at two places.")
@click.option("--sample", type=click.IntRange(0, MAX_SAMPLE), default=256, show_default=True,
              help="With --reuse: DUNs of each overlap whose data are compared, of those that have "
              "data in both.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Of the sample.")
@click.option("--dun", is_flag=True, help="Look for DUNs that do not fit their bytes.")
@click.option("--keyslots", is_flag=True, help="Look into the keyslots of the disks NAME.")
@click.option("--leak", is_flag=True, help="Look for plaintext of all views on the disks NAME.")
@click.option("--limit", type=click.IntRange(1), default=1 << 19, show_default=True,
              help="With --leak: sectors looked for in one pass, 256 bytes each.")  # fmt: skip
def verify_command(
    stack: str | None,
    as_json: bool,
    names: tuple[str, ...],
    offset: str,
    length: str | None,
    against: str | None,
    reuse: bool,
    sample: int,
    seed: int,
    dun: bool,
    keyslots: bool,
    leak: bool,
    limit: int,
) -> None:
    """Compare what views show with what their media hold; nothing is changed, the stack runs on.

    Without an option, the views NAME (at least one): what a view shows is encrypted again by an
    implementation that shares no code with the stack, and compared with what is on the disks. That
    finds a data path that encrypts wrongly, under a wrong DUN, or elsewhere. It cannot find
    ciphertext that was changed on the medium: that decrypts to other data, which encrypt to what is
    there. For this give what the view should show with --against FILE: a backup, or the loop
    device's cache.

    \b
    --reuse  views (all without NAME) under the same key bytes whose DUNs overlap at different
             places, and whether their data differ there: of --sample DUNs of each overlap
             under which both have data, or of all from --offset on for --length, where those
             are given
    --dun    views whose DUNs do not fit the DUN bytes of their key, as after a device has grown
    --keyslots  slots of the engines of the disks NAME that do not encrypt with the key they should
             hold, or still hold one that was evicted
    --leak   sectors that views show, found as they are on the raw disks NAME; sectors whose bytes
             are all equal do not count

    Exit codes: 0 fine, 1 found something (or NAME is not there), 2 asked for wrongly.
    """
    if reuse + dun + keyslots + leak + (against is not None) > 1:
        raise UsageError("give at most one of --reuse, --dun, --keyslots, --leak and --against")
    if not names and (keyslots or leak):
        raise UsageError(f"{'--leak' if leak else '--keyslots'} needs the names of disks")
    if not names and not reuse and not dun:
        raise UsageError("give the names of views")
    if against is not None and len(names) != 1:
        raise UsageError(f"--against needs one view, {len(names)} are given")
    place = size_of("--offset", offset), None if length is None else size_of("--length", length)
    with Client(which_stack(stack)) as client:
        run = _Run(client, Progress(sys.stderr), place)
        if reuse:
            named_range = place != (0, None)
            told, lines = run.reuse(names, None if named_range else sample, seed)
        elif dun:
            told, lines = run.dun(names)
        elif keyslots:
            told, lines = run.keyslots(names)
        elif leak:
            told, lines = run.leak(names, limit)
        else:
            told, lines = run.views(names, against)
    click.echo(json.dumps(told, indent=2) if as_json else "\n".join(lines))
    if any(one["found"] for one in told):
        sys.exit(EXIT_FOUND)


class _Run:
    """One run of verify on a running stack; each kind answers with facts and with lines of text."""

    def __init__(self, client: Client, say: Progress, place: tuple[int, int | None]) -> None:
        self._client = client
        self._say = say
        self._offset, self._length = place

    def views(self, names: Sequence[str], against: str | None) -> tuple[list[Told], list[str]]:
        """Each view against the second implementation, and against a file."""
        plans = [self._client.call("verify.view", name=name) for name in names]
        for plan in plans:
            if plan["mode"] is None:
                raise StackError(f"{plan['name']!r} is not a view: nothing on it is encrypted")
            if not plan["is_known"]:
                raise UsageError(
                    f"{plan['name']}: there is no second implementation of {plan['mode']} here"
                )
        told, lines = [], []
        for plan in plans:
            one = self._view(plan)
            lines += view_text(one)
            if against is not None:
                found = self._against(plan["name"], one["begin"], one["end"], against)
                one["differences"], one["difference_count"] = found
                one["found"] |= bool(found[1])
                lines += difference_text(one, against)
            told.append(one)
        return told, lines

    def _view(self, plan: Told) -> Told:
        begin, end = self._range(plan)
        one: Told = {
            "name": plan["name"], "begin": begin, "end": end, "mode": plan["mode"],
            "data_unit_size": plan["data_unit_size"], "units": 0, "holes": 0, "rechecked": 0,
            "settled": 0, "mismatch_count": 0, "mismatches": [], "unreadable": [],
        }  # fmt: skip
        at = begin
        while at < end:
            part = self._client.call("verify.part", name=plan["name"], begin=at, end=end)
            at = part["end"]
            for count in ("units", "holes", "rechecked", "settled", "mismatch_count"):
                one[count] += part[count]
            one["mismatches"] += part["mismatches"][: MAX_KEPT - len(one["mismatches"])]
            one["unreadable"] += [part["unreadable"]] if part["unreadable"] is not None else []
            self._say.moving(f"verifying {plan['name']}", (at - begin) >> 20, (end - begin) >> 20)
        self._say.clear()
        one["found"] = bool(one["mismatch_count"] or one["unreadable"])
        return one

    def _range(self, plan: Told) -> tuple[int, int]:
        """What is asked for of a view, widened to whole blocks.

        Raises: UsageError if it is not in the view.
        """
        size, block = plan["size"], plan["block_size"]
        end = size if self._length is None else self._offset + self._length
        if not self._offset < end <= size:
            name = plan["name"]
            raise UsageError(f"{name}: bytes {self._offset}..{end} are no range in 0..{size}")
        return self._offset - self._offset % block, end + -end % block

    def _against(self, name: str, begin: int, end: int, file: str) -> tuple[list[Told], int]:
        """What a view shows against what it should show."""
        plan = self._client.call("file", name=name)
        kept: list[Told] = []
        count = 0
        compared = differences(Path(plan["path"]), Path(file), begin, end, plan["log_sec"])
        for at, difference in compared:
            self._say.moving(f"comparing with {file}", (at - begin) >> 20, (end - begin) >> 20)
            if difference is not None:
                count += 1
                kept += [difference][: MAX_KEPT - len(kept)]
        self._say.clear()
        return kept, count

    def dun(self, names: Sequence[str]) -> tuple[list[Told], list[str]]:
        """Whether the data unit numbers of views fit."""
        told = self._client.call("verify.dun", names=list(names))
        for one in told:
            one["found"] = one["last"] >= one["limit"]
        return told, [dun_text(one) for one in told]

    def keyslots(self, names: Sequence[str]) -> tuple[list[Told], list[str]]:
        """Whether the keyslots of disks hold what they should."""
        told = [self._client.call("verify.keyslots", name=name) for name in names]
        for one in told:
            one["found"] = bool(one["wrong"])
        return told, [line for one in told for line in keyslots_text(one)]

    def reuse(
        self, names: Sequence[str], sample: int | None, seed: int
    ) -> tuple[list[Told], list[str]]:
        """Overlaps of data unit numbers, and a look at the data there."""
        memory = format_size(2 * MAX_DATA_UNIT_SIZE)
        kept = "" if sample is None else f"a sample of {sample} DUNs for each two views, "
        self._say.line(f"verify --reuse: {kept}{BATCH} at a time, at most {memory} of their data")
        told, lines = self._client.call("verify.reuse", names=list(names)), []
        for one in told:
            duns = self._duns(one, sample, seed)
            one["data"] = self._compare_data(one, duns)
            one["found"] = bool(one["different"] or one["data"]["different_count"])
            lines += reuse_text(one)
        return told, lines or ["no two views under one key share data unit numbers"]

    def _duns(self, one: Told, sample: int | None, seed: int) -> Sequence[int]:
        """The data unit numbers of an overlap to look at: those named, or a sample of them."""
        every = range(one["first"], one["last"] + 1)
        if sample is None:
            view = self._client.call("verify.view", name=one["views"][0])
            base = self._client.call("view.show", name=one["views"][0])["dun_base"]
            begin, end = self._range(view)
            unit = view["data_unit_size"]
            return range(
                max(every.start, base + begin // unit), min(every.stop, base + end // unit)
            )
        if not one["different"] and not one["not_looked_at"]:
            return ()
        told = self._client.call(
            "verify.sample",
            names=one["views"], first=one["first"], last=one["last"], count=sample, seed=seed,
        )  # fmt: skip
        one["with_data"] = told["with_data"]
        duns: list[int] = told["duns"]
        return duns

    def _compare_data(self, one: Told, duns: Sequence[int]) -> Told:
        data: Told = {
            "looked_at": 0, "same_place": 0, "holes": 0, "equal": 0,
            "different_count": 0, "different": [],
        }  # fmt: skip
        for at in range(0, len(duns), BATCH):
            part = self._client.call(
                "verify.duns", names=one["views"], duns=list(duns[at : at + BATCH])
            )
            for count in ("looked_at", "same_place", "holes", "equal"):
                data[count] += part[count]
            data["different_count"] += len(part["different"])
            data["different"] += part["different"][: MAX_KEPT - len(data["different"])]
            self._say.moving(f"comparing {' and '.join(one['views'])}", at, len(duns))
        self._say.clear()
        return data

    def leak(self, names: Sequence[str], limit: int) -> tuple[list[Told], list[str]]:
        """Plaintext of all views on raw disks."""
        files = {file["name"]: file for file in self._client.call("ls")}
        for name in names:
            if name not in files or files[name]["kind"] != "disk":
                raise StackError(f"{name!r} is not a disk of this stack")
        views = [file for file in files.values() if file["kind"] == "view"]
        self._say.line(
            f"verify --leak: sectors of {len(views)} views on {len(names)} disks, at most {limit} "
            f"in one pass ({limit * LEAK_BYTES / (1 << 20):.1f} MiB)"
        )
        told = find_leaks(views, [files[name] for name in names], limit, self._say)
        return told, [line for one in told for line in leak_text(one)]

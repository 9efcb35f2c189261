"""The verbs of dmsetup that look: info, status, table, deps, ls, wait, targets and the like."""

import locale
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fusedm.block.device_mapper import DeviceInfo, Number, TargetLine
from fusedm.block.errors import UsageError
from fusedm.dmsetup import columns, fields
from fusedm.dmsetup.command import DOES_NOT_EXIST, Command, Named
from fusedm.dmsetup.device import (
    Device,
    deps_text,
    number_text,
)
from fusedm.dmsetup.fields import Row, find_fields
from fusedm.dmsetup.names import unmangle
from fusedm.dmsetup.selection import Selection
from fusedm.dmsetup.session import block_name, name_of_ours
from fusedm.dmsetup.tables import format_concise
from fusedm.dmsetup.tree import USUAL_COLUMNS, tree_text

#: The tool whose words these are, and the kernel's interface its answers are those of.
LIBRARY_VERSION = "1.02.185 (2022-05-18)"
DRIVER_VERSION = "4.50.0"


def info(command: Command) -> bool:
    """info: blocks, or a report in columns."""
    if command.call.has_columns:
        return info_columns(command)
    named = command.named()
    if named is None:
        for told in command.all_or(None):
            command.print_info(told)
    for device in named or ():
        command.print_info(command.existing(device))
    return True


def info_columns(command: Command) -> bool:
    """info -c; False if the report cannot be, which has been said then."""
    chosen = _fields(command, fields.DEFAULT_FIELDS)
    if chosen is None:
        return False
    asked, refusal = _asked(command)
    nothing = chosen.columns is None or command.options.values.get("options") == "all"
    if asked and not nothing:
        _print_devices(command, asked, chosen)
    if refusal is not None:
        raise refusal
    return True


def _asked(command: Command) -> tuple[list[DeviceInfo], UsageError | None]:
    """The devices to report, up to one that is not there, and what is to be said of that one."""
    named = command.named()
    if named is None:
        return command.all_or(None), None
    asked: list[DeviceInfo] = []
    for device in named:
        try:
            asked += command.all_or([device])
        except UsageError as error:
            return asked, error
    return asked, None


def _print_devices(command: Command, asked: Sequence[DeviceInfo], chosen: "_Report") -> None:
    wanted, told = {one.name for one in asked}, command.session.devices()
    everything = command.devices(told, counts=False, ahead=False)
    users: dict[Number, list[Device]] = {}
    for device in everything:
        for number in dict.fromkeys(device.below):
            users.setdefault(number, []).append(device)
    mapped_names = {device.number: device.name for device in everything}
    block_names = _block_names(everything)
    shown = command.devices(
        [one for one in told if one.name in wanted],
        chosen.mentions("open"),
        chosen.mentions("read_ahead"),
    )
    rows = [
        Row(
            device,
            tuple(users.get(device.number, ())),
            mapped_names,
            block_names,
            command.mangling,
        )
        for device in shown
    ]
    _print_report(command, rows, chosen)


def _block_names(devices: Sequence[Device]) -> dict[Number, str]:
    """What the kernel calls devices and those below; one unknown is called as it would call it."""
    names = {one.number: name_of_ours(one.number) for one in devices}
    below = {number for device in devices for number in device.below} - names.keys()
    return names | {number: block_name(number) or number_text(number) for number in below}


@dataclass(frozen=True, slots=True)
class _Report:
    """What a report consists of; no columns where only the list of them was asked for."""

    columns: list[fields.Field] | None
    sort_keys: str | None
    select: str

    def mentions(self, name: str) -> bool:
        """Whether a field is needed for it."""
        shown = any(field.name == name for field in self.columns or ())
        # There it may be written with underscores where it has none, and without.
        words = f"{self.sort_keys} {self.select}".lower().replace("_", "")
        return shown or name.replace("_", "") in words


def _fields(command: Command, defaults: tuple[str, ...]) -> _Report | None:
    """The report that is asked for; None if it cannot be, which has been said then."""
    values = command.options.values
    text, select = values.get("options"), values.get("select", "")
    try:
        chosen = [fields.FIELDS[name] for name in defaults]
        found = find_fields(text, defaults) if text is not None else chosen
        if "help" in (values.get("sort"), select):
            found, select = None, ""
        else:
            columns.sort_rows((), values.get("sort", ""))
            Selection(select)
    except UsageError as error:
        command.error(fields.fields_text() + str(error))
        return None
    if found is None:
        command.error(fields.fields_text().rstrip("\n"))
    return _Report(found, values.get("sort"), select)


def _print_report(command: Command, rows: Sequence[Row], chosen: "_Report") -> None:
    style = columns.Style.of(command.options)
    shown = chosen.columns or []
    command.out(columns.report(rows, shown, chosen.sort_keys, chosen.select, style))


def splitname(command: Command) -> bool:
    """splitname: the parts of a name that LVM made."""
    name, *subsystem = command.call.words
    told = Device(
        name,
        f"{(subsystem or ['LVM'])[0]}-",
        *((0, 0), False, False, False, False, False, 0, 0, 0),
    )
    chosen = _fields(command, ("vg_name", "lv_name", "lv_layer"))
    if chosen is not None and chosen.columns is not None:
        _print_report(command, [Row(told)], chosen)
    return chosen is not None


def status(command: Command) -> None:
    """status, and measure, which is the same here."""
    inactive = command.options.has("inactive")

    def ask(device: Named) -> list[TargetLine]:
        with command.looking(device) as mapper:
            return mapper.status(device.which, inactive, numbers=True)

    _each_table(command, ask)


def table(command: Command) -> None:
    """table: one line for a target, or one for everything with --concise."""
    inactive, keys = command.options.has("inactive"), command.options.has("showkeys")

    def ask(device: Named) -> list[TargetLine]:
        with command.ioctl("table", device) as mapper:
            return mapper.table(device.which, inactive, keys, numbers=True)

    if command.options.has("concise"):
        _concise(command, ask)
    else:
        _each_table(command, ask)


def _each_table(command: Command, ask: Callable[[Named], list[TargetLine]]) -> None:
    named = command.named()
    kind = command.options.values.get("target")
    has_prefix = named is None or len(named) > 1
    if named is None:
        named = [Named(told.name) for told in command.all_or(None)]
    for device in named:
        lines = ask(device)
        if command.options.verbosity:
            command.print_info(command.existing(device))
        # With -v its name stands above, and an empty line parts it from the next.
        is_told = command.options.verbosity > 0
        named_here = has_prefix and not is_told
        prefix = f"{unmangle(device.name, command.mangling)}: " if named_here else ""
        shown = [str(line) for line in lines if kind in (None, line.target)]
        if not lines and kind is None:
            shown = [""]
        command.out("".join(f"{prefix}{line}\n" for line in shown))
        if has_prefix and is_told:
            command.out("\n")


def _concise(command: Command, ask: Callable[[Named], list[TargetLine]]) -> None:
    named = command.named()
    if named is None:
        named = [Named(told.name) for told in command.all_or(None)]
    kind = command.options.values.get("target")
    entries = []
    for device in named:
        lines = [str(line) for line in ask(device) if kind in (None, line.target)]
        with command.ioctl("table", device) as mapper:
            told = mapper.info(device.which)
        if kind is not None and not lines:
            continue
        name, uuid = (unmangle(word, command.mangling) for word in (told.name, told.uuid))
        # That of a loop device may be another one next time, or somebody else's.
        entries.append(format_concise(name, uuid, told.minor, told.is_read_only, lines))
    if entries:
        command.out(";".join(entries) + "\n")


def deps(command: Command) -> None:
    """deps: the devices below each."""
    named = command.named()
    has_prefix = named is None or len(named) > 1
    if named is None:
        named = [Named(told.name) for told in command.all_or(None)]
    inactive = command.options.has("inactive")
    for device in named:
        with command.ioctl("deps", device) as mapper:
            below = mapper.deps(device.which, inactive)
        if command.options.verbosity:
            command.print_info(command.existing(device))
        text = deps_text([_shown(command, number, ", ") for number in below])
        prefix = f"{unmangle(device.name, command.mangling)}: " if has_prefix else ""
        command.out(prefix + text)


def _shown(command: Command, number: Number, between: str) -> str:
    """A device as -o asks for it: its number, mapped name or block name."""
    how = command.call.listed[-1] if command.call.listed else "devno"
    if how == "devno":
        return f"{number[0]}{between}{number[1]}"
    for told in command.session.devices():
        if told.number == number:
            if how == "devname":
                return unmangle(told.name, command.mangling)
            return name_of_ours(number)
    return block_name(number) or number_text(number)


def ls(command: Command) -> None:
    """ls: names and numbers, a tree, or a command for each."""
    told = command.all_or(None)
    kind, program = command.options.values.get("target"), command.options.values.get("exec")
    if command.options.has("tree") and kind is None and program is None:
        _tree(command, told)
        return
    for device in told:
        if kind is not None:
            with command.ioctl("status", Named(device.name)) as mapper:
                lines = mapper.status(device.name)
            if not any(line.target == kind for line in lines):
                continue
        if program is not None:
            _execute(command, program.split(), device)
            continue
        name = unmangle(device.name, command.mangling)
        shown = (
            _shown(command, device.number, ":") if kind is None else "{}, {}".format(*device.number)
        )
        command.out(f"{name}\t({shown})\n")


def _execute(command: Command, program: list[str], told: DeviceInfo) -> None:
    """Run a command on a device's node, or on its file where nodes cannot be; how it ends is its.

    One that cannot be run is passed over without a word.
    """
    node = os.path.join(command.session.dev_dir, "mapper", told.name)
    path = told.path if told.is_live and not os.path.exists(node) else node
    command.streams.stdout.flush()
    with suppress(OSError):
        subprocess.run([*program, path], check=False)


def _tree(command: Command, told: Sequence[DeviceInfo]) -> None:
    counts = "open" in command.call.listed
    devices = command.devices(told, counts, ahead=False)
    names = _block_names(devices)
    try:
        width = os.get_terminal_size(command.streams.stdout.fileno()).columns
    except (OSError, ValueError):
        width = USUAL_COLUMNS
    is_utf = _codeset(command.streams.environ) == "UTF-8"
    command.out(tree_text(devices, command.call.listed, names, is_utf, width))


def _codeset(environ: Mapping[str, str] | None) -> str:
    """How the locale of the environment writes characters; one that is not installed is C.

    Python itself turns C into a locale of UTF-8, in its environment too: that as it was counts.
    """
    if environ is None:
        given = Path("/proc/self/environ").read_bytes().split(b"\0")
        environ = dict(os.fsdecode(word).partition("=")[::2] for word in given)
    names = (environ.get(name) for name in ("LC_ALL", "LC_CTYPE", "LANG"))
    try:
        locale.setlocale(locale.LC_CTYPE, next((name for name in names if name), "C"))
    except locale.Error:
        return "C"
    return locale.nl_langinfo(locale.CODESET)


def wait(command: Command) -> None:
    """wait: until the number of events is another one."""
    words = list(command.call.words)
    device = command.named_by_option()
    if device is None:
        if not words:
            raise UsageError("No device specified.")
        device = command.by_word(words.pop(0))
    event = int(words[0]) if words and words[0].isdecimal() else 0
    with command.ioctl("waitevent", device) as mapper:
        told = mapper.wait(device.which, event)
    if command.options.verbosity:
        command.print_info(told)


def version(command: Command) -> None:
    """version: of the tool this stands in for, and of the interface."""
    command.out(f"Library version:   {LIBRARY_VERSION}\nDriver version:    {DRIVER_VERSION}\n")


def mangle(command: Command) -> None:
    """mangle: names are in the right form already."""
    named = command.named()
    try:
        told = command.all_or(named)
    except UsageError as error:
        raise UsageError("" if str(error) == DOES_NOT_EXIST else str(error)) from None
    for device in told:
        name = unmangle(device.name, command.mangling)
        if device.uuid:
            uuid = unmangle(device.uuid, command.mangling)
            command.out(f"{name}: {uuid}: name and UUID already in correct form\n")
        else:
            command.out(f"{name}: [no UUID]: name already in correct form\n")

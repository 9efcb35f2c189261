"""The verbs of dmsetup that change devices: create, load, resume, remove and the like."""

import errno
import re
import time

from fusedm.block.device_mapper import DeviceInfo, Which
from fusedm.block.errors import FusedmError, UsageError
from fusedm.dmsetup import attachment
from fusedm.dmsetup.attachment import NodeOptions
from fusedm.dmsetup.command import Command, Named
from fusedm.dmsetup.device import ioctl_error, number_text
from fusedm.dmsetup.names import check_new_name, check_renamed, check_uuid, mangle
from fusedm.dmsetup.options import leading_number
from fusedm.dmsetup.session import watch_deferred
from fusedm.dmsetup.tables import check_table_text, split_concise
from fusedm.host import nodes
from fusedm.host.interrupts import held, hold, let_in
from fusedm.host.loop import GRACE_SECONDS, Patience
from fusedm.host.undoing import undone_by

#: How often and how fast --retry asks again.
RETRIES = 25
RETRY_SECONDS = 0.2

_WORD = re.compile(r"(?:\\.|\S)+")
_ESCAPED = re.compile(r"\\(.)")


def create(command: Command) -> None:
    """create: a device with its table, made live at once."""
    if command.options.has("concise"):
        _create_concise(command)
        return
    if not command.call.words:
        raise UsageError("Please provide a name for the new device.")
    name, *file = command.call.words
    uuid = command.options.values.get("uuid", "")
    text = None if command.options.has("notable") else _table_text(command, file)
    told = _create(
        command, name, uuid, command.options.number("minor"), text, command.options.has("readonly")
    )
    command.print_if_verbose(told)


def _create_concise(command: Command) -> None:
    if len(command.call.words) > 1:
        raise UsageError("dmsetup create --concise takes at most one argument")
    text = command.call.words[0] if command.call.words else command.streams.stdin.read()
    for device in split_concise(text):
        read_only = device.is_read_only
        minor = leading_number(device.minor) if device.minor else None
        table = check_table_text(device.table, "")
        told = _create(command, device.name, device.uuid, minor, table or None, read_only)
        command.print_if_verbose(told)


def _create(
    command: Command, name: str, uuid: str, minor: int | None, text: str | None, read_only: bool
) -> DeviceInfo:
    """Make a device; if its table cannot become live, it is not there then."""
    check_new_name(name)
    check_uuid(uuid)
    minor = None if minor == -1 else minor
    name, uuid = mangle(name, command.mangling), mangle(uuid, command.mangling)
    at = f"253:{minor}" if minor is not None else ""
    # Made whole or not at all: an interrupt comes while that can be undone, or has come too late.
    hold()
    try:
        told = command.session.create(name, uuid, minor)
    except FusedmError as error:
        command.session.end_if_empty()
        raise command.failed("create", error, Named(name, uuid, at)) from None
    if not text:
        return told
    device = Named(name, at=number_text(told.number))
    try:
        let_in()
        with command.ioctl("reload", device) as mapper:
            mapper.load(name, text, read_only)
        told = _resume(command, Named(name))
        hold()
    except BaseException:
        hold()
        _undo(command, name)
        raise
    return told


def _undo(command: Command, name: str) -> None:
    """Remove a device that has just been made."""
    try:
        attachment.remove(command.session, command.session.mapper.info(name))
        command.session.end_if_empty()
    except FusedmError as error:
        command.error(f"{name}: {error}")


def _table_text(command: Command, files: list[str]) -> str:
    """The table that is given, from wherever it is."""
    if "table" in command.options.values:
        return check_table_text(command.options.values["table"], "")
    if not files:
        return check_table_text(command.streams.stdin.read(), "on stdin")
    try:
        with open(files[0], encoding="utf-8", errors="surrogateescape") as file:
            return check_table_text(file.read(), files[0])
    except OSError:
        raise UsageError(f"Couldn't open '{files[0]}' for reading.") from None


def load(command: Command) -> None:
    """load, reload: the inactive table."""
    words = list(command.call.words)
    device = command.named_by_option()
    if device is None:
        if not words:
            raise UsageError("Please specify device.")
        device = command.by_word(words.pop(0))
    text = _table_text(command, words)
    read_only = command.options.has("readonly")
    with command.ioctl("reload", device) as mapper:
        told = mapper.load(device.which, text, read_only)
    command.print_if_verbose(told)


def resume(command: Command) -> None:
    """resume: the inactive table becomes live; loop device and node follow it."""
    for device in command.required():
        command.print_if_verbose(_resume(command, device))


def _resume(command: Command, device: Named, lockfs: bool = True) -> DeviceInfo:
    """Resume; a device that this suspends for a swap has what is mounted on it frozen."""
    lockfs &= not (command.options.has("noflush") or command.options.has("nolockfs"))
    with command.ioctl("resume", device) as mapper:
        told = mapper.resume(device.which, nolockfs=not lockfs)
    _attach(command, told)
    return told


def _attach(command: Command, told: DeviceInfo) -> None:
    """Give a device its node; what the machine lacks for it is said once and is no failure."""
    try:
        missing = attachment.attach(command.session, told, _node_options(command))
    except FusedmError as error:
        raise UsageError(str(error), error.errno) from None
    except OSError as error:
        raise UsageError(f"{told.name}: {error.strerror}", error.errno) from None
    if missing is not None:
        command.error(f"{told.name}: has no node: {missing}")


def _node_options(command: Command) -> NodeOptions:
    mode = command.options.values.get("mode")
    asked = command.options.values.get("readahead", "auto")
    ahead = 0 if asked == "none" else leading_number(asked) or None
    return NodeOptions(
        command.options.number("uid"),
        command.options.number("gid"),
        int(mode, 8) if mode else None,
        ahead,
    )


def suspend(command: Command) -> None:
    """suspend: let nothing in, freeze what is mounted, wait for what is under way."""
    for device in command.required():
        noflush, nolockfs = command.options.has("noflush"), command.options.has("nolockfs")
        with command.ioctl("suspend", device) as mapper:
            told = mapper.suspend(device.which, noflush, nolockfs)
        command.print_if_verbose(told)


def clear(command: Command) -> None:
    """clear: drop the inactive table."""
    for device in command.required():
        with command.ioctl("clear", device) as mapper:
            told = mapper.clear(device.which)
        command.print_if_verbose(told)


def wipe_table(command: Command) -> None:
    """wipe_table: every I/O fails from now on."""
    for device in command.required():
        _wipe(command, device)


def _wipe(command: Command, device: Named, lockfs: bool = True) -> None:
    """Put an error target of the same size in place of a table."""
    size = 0
    try:
        with command.ioctl("table", device) as mapper:
            size = mapper.info(device.which).sector_count
    except UsageError as error:
        command.error(str(error))
    with command.ioctl("reload", device) as mapper:
        mapper.load(device.which, f"0 {size} error")
    try:
        _resume(command, device, lockfs)
    except UsageError:
        with command.ioctl("clear", device) as mapper:
            mapper.clear(device.which)
        raise


def remove(command: Command) -> None:
    """remove: with node and loop device; the daemon ends with the last one."""
    with undone_by(command.session.end_if_empty):
        for device in command.required():
            if command.options.has("force"):
                try:
                    _wipe(command, device, lockfs=False)
                except UsageError as error:
                    command.error(str(error))
            _remove(command, device)


def _remove(command: Command, device: Named) -> None:
    retries = RETRIES if command.options.has("retry") else 0
    while True:
        with command.ioctl("remove", device) as mapper:
            told = mapper.info(device.which)
        try:
            with held():
                attachment.remove(command.session, told, Patience(0) if retries else None)
            return
        except FusedmError as error:
            if error.errno != errno.EBUSY:
                raise command.failed("remove", error, device) from None
            if command.options.has("deferred"):
                _defer(command, told)
                return
            if not retries:
                raise command.failed("remove", error, device) from None
            command.error(ioctl_error("remove", error.errno, device.name, device.uuid, device.at))
        retries -= 1
        time.sleep(RETRY_SECONDS)


def _defer(command: Command, told: DeviceInfo) -> None:
    """Have a device go once nobody uses it: that is seen to by a process of its own."""
    if not command.session.mapper.remove(told.name, deferred=True):
        watch_deferred(command.session, told.name)


def remove_all(command: Command) -> None:
    """remove_all: everything that is not in use, from the top; forced, the rest gets no I/O."""
    with undone_by(command.session.end_if_empty):
        _remove_unused(command)
        if command.options.has("force"):
            _wipe_all(command)
            _remove_unused(command)
            left = len(command.session.devices())
            if left:
                command.error(f"Unable to remove {left} device(s).")


def _wipe_all(command: Command) -> None:
    for told in command.session.devices():
        try:
            _wipe(command, Named(told.name), lockfs=False)
        except UsageError as error:
            command.error(str(error))


def _remove_unused(command: Command) -> None:
    # Nobody is waited for while there is more to do, and all in the end together for a moment.
    while _remove_some(command, Patience(0)):
        pass
    last = Patience(GRACE_SECONDS)
    while _remove_some(command, last):
        pass


def _remove_some(command: Command, patience: Patience) -> bool:
    done = False
    for told in command.session.devices():
        try:
            attachment.remove(command.session, told, patience)
            done = True
        except FusedmError as error:
            if error.errno not in (errno.EBUSY, errno.ENXIO):
                raise command.failed("remove_all", error, Named()) from None
            if command.options.has("deferred") and not told.is_deferred:
                _defer(command, told)
    return done


def rename(command: Command) -> None:
    """rename: another name, or a UUID for a device that has none."""
    *words, new = command.call.words
    is_uuid = command.options.has("setuuid")
    if not words:
        device = command.named_by_option()
        if device is None:
            raise UsageError("No device specified.")
        # The kernel looks for the device by its name only.
        raise UsageError(ioctl_error("rename", errno.ENXIO, device.name, device.uuid, device.at))
    check_renamed(new, is_uuid)
    device = command.by_word(words[0])
    new = mangle(new, command.mangling)
    if is_uuid:
        with command.ioctl("rename", device) as mapper:
            mapper.set_uuid(device.which, new)
        return
    with held():
        with command.ioctl("rename", device) as mapper:
            before = mapper.info(device.which)
            told = mapper.rename(device.which, new)
        attachment.rename_node(command.session, before, told)


def message(command: Command) -> None:
    """message: to the target of a sector; its reply is printed."""
    words = list(command.call.words)
    device = command.named_by_option() or command.by_word(words.pop(0))
    sector, *said = words
    if not sector.isdecimal():
        raise UsageError("Invalid sector.")
    if not said:
        command.error("No message supplied.")
    parts = [_ESCAPED.sub(r"\1", word) for word in _WORD.findall(" ".join(said))]
    with command.ioctl("message", device) as mapper:
        reply = mapper.message(device.which, int(sector), parts)
    if reply:
        command.out(reply if reply.endswith("\n") else reply + "\n")


def mknodes(command: Command) -> None:
    """mknodes: nodes that are missing are made, those that lead nowhere removed."""
    named = command.named()
    nodes.clear_stale(command.session.records)
    for told in command.session.devices():
        known = (told.name, Which(uuid=told.uuid), Which(number=told.number))
        if named is None or any(device.which in known for device in named):
            _attach(command, told)


def setgeometry(command: Command) -> None:
    """setgeometry: nobody asks for it any more."""
    device = command.by_word(command.call.words[0])
    with command.ioctl("setgeometry", device) as mapper:
        mapper.info(device.which)


def stats(command: Command) -> None:
    """stats: no regions are kept; a list of them is empty."""
    if command.call.words[0] not in ("list", "report", "print"):
        raise UsageError("Statistics regions are not kept here.", errno.EOPNOTSUPP)
    command.all_or(None)

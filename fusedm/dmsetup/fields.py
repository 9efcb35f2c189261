"""The columns of `dmsetup info -c`: what each is called and what it says of a device. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fusedm.block.device_mapper import Number
from fusedm.block.errors import UsageError
from fusedm.dmsetup.device import Device
from fusedm.dmsetup.names import mangle, split_lvm_name, unescape


@dataclass(frozen=True, slots=True)
class Row:
    """A device, the others that use it, and the names of all numbers below and above it."""

    device: Device
    users: tuple[Device, ...] = ()
    mapped_names: Mapping[Number, str] | None = None
    block_names: Mapping[Number, str] | None = None
    mangling: str = "auto"

    @property
    def subsystem(self) -> str:
        """Who made the device, as far as its UUID tells: `LVM` of `LVM-...`."""
        head, dash, _ = self.device.uuid.partition("-")
        return head if dash else ""

    def lvm_part(self, which: int) -> str:
        """A part of the name if LVM made it."""
        return split_lvm_name(self.device.name)[which] if self.subsystem == "LVM" else ""


Value = str | int


@dataclass(frozen=True, slots=True)
class Field:
    """A column: its heading, least width and value; numbers stand to the right."""

    name: str
    heading: str
    width: int
    value: Callable[[Row], Value]
    is_number: bool = False
    help: str = ""


def _numbers(numbers: tuple[Number, ...]) -> str:
    return ",".join(f"{major}:{minor}" for major, minor in numbers)


def _named(row: Row, names: Mapping[Number, str] | None) -> str:
    known = [(names or {}).get(number, "") for number in row.device.below]
    return ",".join(name for name in known if name)


def _attr(row: Row) -> str:
    device = row.device
    return (
        ("L" if device.is_live else "-")
        + ("I" if device.is_inactive else "-")
        + ("s" if device.is_suspended else "-")
        + ("r" if device.is_read_only else "w")
    )


def _tables(row: Row) -> str:
    device = row.device
    if device.is_live:
        return "Both" if device.is_inactive else "Live"
    return "Inactive" if device.is_inactive else "None"


def _block_name(row: Row) -> str:
    device = row.device
    if device.block_name is None:
        raise UsageError(
            f"Could not resolve block device name for {device.major}:{device.minor}.\n"
            "_do_report_object: report function failed for field blkdevname"
        )
    return device.block_name


#: Columns by section; the key with `_all` stands for those of a section that say something of
#: every device.
SECTIONS: dict[str, tuple[str, tuple[Field, ...]]] = {
    "name_all": (
        "Names",
        (
            Field("name", "Name", 16, lambda row: row.device.name, help="Name of the device."),
            Field(
                "mangled_name",
                "MangledName",
                16,
                lambda row: mangle(row.device.name, row.mangling),
                help="Its name as /dev/mapper has it.",
            ),
            Field(
                "unmangled_name",
                "UnmangledName",
                16,
                lambda row: unescape(row.device.name),
                help="Its name without escapes.",
            ),
            Field("uuid", "UUID", 32, lambda row: row.device.uuid, help="UUID, if it has one."),
            Field(
                "mangled_uuid",
                "MangledUUID",
                32,
                lambda row: mangle(row.device.uuid, row.mangling),
                help="Its UUID with escapes.",
            ),
            Field(
                "unmangled_uuid",
                "UnmangledUUID",
                32,
                lambda row: unescape(row.device.uuid),
                help="Its UUID without escapes.",
            ),
            Field(
                "read_ahead",
                "RAhead",
                6,
                lambda row: row.device.read_ahead or 0,
                is_number=True,
                help="Sectors that are read ahead.",
            ),
        ),
    ),
    "info_all": (
        "State",
        (
            Field("blkdevname", "BlkDevName", 16, _block_name, help="Name below /sys/block."),
            Field(
                "attr",
                "Stat",
                4,
                _attr,
                help="L live, I inactive, s suspended, r read-only or w writable.",
            ),
            Field("tables_loaded", "Tables", 6, _tables, help="Which tables it has."),
            Field(
                "suspended",
                "Suspended",
                9,
                lambda row: "Suspended" if row.device.is_suspended else "Active",
                help="Whether it is suspended.",
            ),
            Field(
                "readonly",
                "Read-only",
                9,
                lambda row: "Read-only" if row.device.is_read_only else "Writeable",
                help="Whether it may be written.",
            ),
            Field(
                "devno",
                "DevNo",
                5,
                lambda row: _numbers((row.device.number,)),
                help="Major and minor number.",
            ),
            Field("major", "Maj", 3, lambda row: row.device.major, True, "Major number."),
            Field("minor", "Min", 3, lambda row: row.device.minor, True, "Minor number."),
            Field("open", "Open", 4, lambda row: row.device.open_count, True, "Open count."),
            Field(
                "segments",
                "Targ",
                4,
                lambda row: row.device.target_count,
                True,
                "Targets of the live table.",
            ),
            Field("events", "Event", 6, lambda row: row.device.event_number, True, "Event number."),
        ),
    ),
    "deps_all": (
        "Devices below and above",
        (
            Field(
                "device_count",
                "#Devs",
                5,
                lambda row: len(row.device.below),
                True,
                "Number of devices below.",
            ),
            Field(
                "devs_used",
                "DevNamesUsed",
                16,
                lambda row: _named(row, row.mapped_names),
                help="Names of the mapped devices below.",
            ),
            Field(
                "devnos_used",
                "DevNosUsed",
                16,
                lambda row: _numbers(row.device.below),
                help="Numbers of the devices below.",
            ),
            Field(
                "blkdevs_used",
                "BlkDevNamesUsed",
                16,
                lambda row: _named(row, row.block_names),
                help="Names of the block devices below.",
            ),
            Field(
                "device_ref_count",
                "#Refs",
                5,
                lambda row: len(row.users),
                True,
                "Number of mapped devices above.",
            ),
            Field(
                "names_using_dev",
                "RefNames",
                8,
                lambda row: ",".join(user.name for user in row.users),
                help="Names of the mapped devices above.",
            ),
            Field(
                "devnos_using_dev",
                "RefDevNos",
                9,
                lambda row: _numbers(tuple(user.number for user in row.users)),
                help="Numbers of the mapped devices above.",
            ),
        ),
    ),
    "splitname_all": (
        "Parts of names",
        (
            Field("subsystem", "Subsys", 6, lambda row: row.subsystem, help="Who made it."),
            Field("vg_name", "VG", 4, lambda row: row.lvm_part(0), help="LVM: volume group."),
            Field("lv_name", "LV", 4, lambda row: row.lvm_part(1), help="LVM: logical volume."),
            Field("lv_layer", "LVLayer", 7, lambda row: row.lvm_part(2), help="LVM: layer."),
        ),
    ),
}

#: What real dmsetup shows for deps_all: those that need only the device itself.
_SHORT_SECTIONS = {"deps_all": ("device_count", "devnos_used", "blkdevs_used")}

#: Whether a row passed the selection; the report fills it in.
SELECTED = Field("selected", "Selected", 8, lambda row: 1, True, "Whether it was selected.")

FIELDS: dict[str, Field] = {
    "selected": SELECTED,
    **{field.name: field for _, fields in SECTIONS.values() for field in fields},
}

_PLAIN = {name.replace("_", ""): field for name, field in FIELDS.items()}


def _plain(word: str) -> str:
    return word.lower().replace("_", "")


DEFAULT_FIELDS = ("name", "major", "minor", "attr", "open", "segments", "events", "uuid")


def find_field(word: str) -> Field | None:
    """The field of a word, in whatever case, with or without underscores."""
    return _PLAIN.get(_plain(word))


def find_fields(text: str, defaults: tuple[str, ...]) -> list[Field] | None:
    """The fields that `-o` lists, after the usual ones if it begins with a plus; None for help.

    Raises: UsageError for one that is not there.
    """
    fields = [FIELDS[name] for name in defaults] if text.startswith("+") else []
    for word in text.removeprefix("+").split(","):
        if word.lower() in ("help", "?"):
            return None
        if word.lower() == "all":
            # The statistics are among all fields, and of a device without any nothing is printed.
            return []
        if not word:
            continue
        section = SECTIONS.get(word.lower())
        if section is not None:
            names = _SHORT_SECTIONS.get(word.lower())
            fields += [one for one in section[1] if names is None or one.name in names]
            continue
        found = find_field(word)
        if found is None:
            raise UsageError(f"Unrecognised field: {word}")
        fields.append(found)
    return fields


def fields_text() -> str:
    """What `dmsetup help -c` lists."""
    lines = []
    for name, (title, fields) in SECTIONS.items():
        lines += [title, "-" * len(title), f"  {name:<21} - All of these."]
        lines += [f"  {field.name:<21} - {field.help}" for field in fields]
        lines.append(" ")
    lines += ["Special", "-------"]
    lines += [f"  {SELECTED.name:<21} - {SELECTED.help}", f"  {'help':<21} - This list.", " "]
    return "\n".join(lines) + "\n"

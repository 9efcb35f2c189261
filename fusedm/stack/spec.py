"""Stack files: TOML text to a typed spec, with errors that show the line. Pure; opens nothing.

A spec says what a stack is to be, and only its shape is checked here: what a table's words mean is
found out when the table is loaded, whether a store or a key can be opened when it is opened. The
errors of those steps are given their place in the file by StackSpec.error and table_error.
"""

from dataclasses import dataclass, field, fields
from graphlib import CycleError, TopologicalSorter

from fusedm.block import CryptoConfig, KeyType
from fusedm.block.crypt_ctx import dun_limit
from fusedm.block.errors import CryptoError, SpecError, StackError, TableError
from fusedm.block.names import check_name
from fusedm.block.units import MAX_SECTORS, bytes_to_sectors, parse_size
from fusedm.stack.engine_spec import EngineSpec, check_source, parse_engine, parse_key_type
from fusedm.stack.toml_lines import KeyPath, SourceText, TomlTable, did_you_mean
from fusedm.tables import devices_named

#: The version of the stack files read and written here.
VERSION = 1

#: What `strict` may name: whose decisions are followed to the letter.
STRICT = "linux"

#: What `hot_add` may ask of devices that a table adds to a live one: no fewer crypto capabilities.
SUPERSET = "superset"

#: The sections of a stack file and what one item of each is called.
SECTIONS = {"disks": "disk", "mapper": "mapped device", "keys": "key", "views": "view"}


@dataclass(frozen=True)
class DiskSpec:
    """A disk; size is in bytes, None where the store has one of its own."""

    name: str
    size: int | None
    store: str
    engine: EngineSpec | None = None
    read_only: bool = False
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class MapperSpec:
    """A mapped device and the text of its table."""

    name: str
    table: str
    uuid: str = ""
    read_only: bool = False
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class KeySpec:
    """A key: what it is for, and where its bytes come from.

    A hw-wrapped key is prepared by the engine of the disk that wrapped_by names; without, its bytes
    are those of a key prepared before.
    """

    name: str
    mode: str
    data_unit_size: int
    dun_bytes: int
    source: str
    type: str = KeyType.RAW.value
    wrapped_by: str = ""
    line: int = field(default=0, compare=False)

    @property
    def config(self) -> CryptoConfig:
        """What the key is for.

        Raises: CryptoError(EINVAL); never for a key of a parsed spec.
        """
        key_type = parse_key_type(self.type)
        config = CryptoConfig(self.mode, self.data_unit_size, self.dun_bytes, key_type)
        if self.wrapped_by and not config.is_wrapped:
            raise CryptoError(f"wrapped_by {self.wrapped_by!r} is for a key of type hw-wrapped")
        return config


@dataclass(frozen=True)
class ViewSpec:
    """A device, or size bytes of it from start on, seen through a key.

    dun_base is the DUN of its first data unit; size None is all that follows.
    """

    name: str
    device: str
    key: str
    dun_base: int = 0
    start: int = 0
    size: int | None = None
    line: int = field(default=0, compare=False)


#: Whatever stands under a name in a section.
Item = DiskSpec | MapperSpec | KeySpec | ViewSpec


@dataclass(frozen=True)
class StackSpec:
    """A whole stack, by name; the source is where it was read, for errors found later.

    strict is "" or STRICT, hot_add is "" or SUPERSET.
    """

    version: int = VERSION
    disks: dict[str, DiskSpec] = field(default_factory=dict)
    mapper: dict[str, MapperSpec] = field(default_factory=dict)
    keys: dict[str, KeySpec] = field(default_factory=dict)
    views: dict[str, ViewSpec] = field(default_factory=dict)
    strict: str = ""
    hot_add: str = ""
    source: SourceText = field(
        default_factory=lambda: SourceText("stack", ""), compare=False, repr=False
    )

    def forget(self) -> None:
        """Have nothing more to do with tables, and with the text: they may hold keys.

        For whoever has built the stack; it can tell by itself what would build it.
        """
        self.mapper.clear()
        self.source.forget()

    def sources(self, scheme: str) -> list[str]:
        """What sources of keys and of engines' secrets name under a scheme, such as fd."""
        sources = [key.source for key in self.keys.values()]
        sources += [disk.engine.secret or "" for disk in self.disks.values() if disk.engine]
        found = (source.partition(":") for source in sources)
        return [name for kind, _, name in found if kind == scheme]

    def error(self, path: KeyPath, text: str) -> SpecError:
        """An error that shows the value at a path, such as ("disks", "ufs0", "store")."""
        return self.source.error(path, text)

    def table_error(self, mapper_name: str, error: TableError) -> SpecError:
        """A table's error at the line of the file it is about; the errno is kept."""
        text = f"{error.target}: {error.text}" if error.target else error.text
        path = ("mapper", mapper_name, "table")
        located = self.source.error_in_string(path, error.line, text)
        located.errno = error.errno
        return located


def parse_spec(text: str, file_name: str) -> StackSpec:
    """The stack a stack file describes; file_name is for the errors.

    Raises: SpecError with the line and a caret.
    """
    source = SourceText(file_name, text)
    root = TomlTable(source, (), source.load())
    version = root.need("version", int)
    if version != VERSION:
        raise root.error("version", f"{version} is not {VERSION}, the one version known here")
    root.only(("version", "strict", "hot_add", *SECTIONS))
    strict = root.get("strict", str)
    if strict not in (None, STRICT):
        raise root.error("strict", f"{strict!r} is not {STRICT!r}, the one model known here")
    hot_add = root.get("hot_add", str)
    if hot_add not in (None, SUPERSET):
        raise root.error("hot_add", f"{hot_add!r} is not {SUPERSET!r}, the one rule known here")
    spec = StackSpec(
        version,
        disks=root.tables("disks", _disk),
        mapper=root.tables("mapper", _mapper),
        keys=root.tables("keys", _key),
        views=root.tables("views", _view),
        strict=strict or "",
        hot_add=hot_add or "",
        source=source,
    )
    _check_names(spec)
    for key in spec.keys.values():
        if key.wrapped_by and key.wrapped_by not in spec.disks:
            text = f"{key.wrapped_by!r} is not a disk" + did_you_mean(key.wrapped_by, spec.disks)
            raise spec.error(("keys", key.name, "wrapped_by"), text)
    for view in spec.views.values():
        _check_view(spec, view)
    creation_order(spec)
    return spec


def creation_order(spec: StackSpec) -> list[str]:
    """The names of the mapped devices, each after those its table names; else as in the file.

    Raises: SpecError naming the cycle.
    """
    below = {
        name: [word for word in devices_named(mapper.table) if word in spec.mapper]
        for name, mapper in spec.mapper.items()
    }
    try:
        return list(TopologicalSorter(below).static_order())
    except CycleError as error:
        cycle = error.args[1][::-1]
        text = f"a device cannot be below itself: {' -> '.join(cycle)}"
        raise spec.error(("mapper", cycle[0], "table"), text) from None


def _disk(name: str, table: TomlTable) -> DiskSpec:
    table.only(_keys_of(DiskSpec))
    return DiskSpec(
        name,
        _size(table, "size", 1),
        table.need("store", str),
        parse_engine(table, "engine") if "engine" in table.values else None,
        table.get("read_only", bool) or False,
        table.line,
    )


def _size(table: TomlTable, key: str, least_sectors: int) -> int | None:
    word = table.get(key, str)
    if word is None:
        return None
    with table.locating(key):
        size = parse_size(word)
        sector_count = bytes_to_sectors(size)
        if not least_sectors <= sector_count <= MAX_SECTORS:
            raise ValueError(f"{sector_count} sectors is not in {least_sectors}..{MAX_SECTORS}")
    return size


def _mapper(name: str, table: TomlTable) -> MapperSpec:
    table.only(_keys_of(MapperSpec))
    return MapperSpec(
        name,
        table.need("table", str),
        table.get("uuid", str) or "",
        table.get("read_only", bool) or False,
        table.line,
    )


def _key(name: str, table: TomlTable) -> KeySpec:
    table.only(_keys_of(KeySpec))
    key = KeySpec(
        name,
        table.need("mode", str),
        table.need("data_unit_size", int),
        table.need("dun_bytes", int),
        table.need("source", str),
        table.get("type", str) or KeyType.RAW.value,
        table.get("wrapped_by", str) or "",
        table.line,
    )
    try:
        _ = key.config
    except CryptoError as error:
        # The message begins with the name of the argument.
        raise table.error(str(error).split()[0], str(error)) from None
    with table.locating("source", hide=True):
        check_source(key.source)
    return key


def _view(name: str, table: TomlTable) -> ViewSpec:
    table.only(_keys_of(ViewSpec))
    return ViewSpec(
        name,
        table.need("device", str),
        table.need("key", str),
        table.get("dun_base", int) or 0,
        _size(table, "start", 0) or 0,
        _size(table, "size", 1),
        table.line,
    )


def _keys_of(item: type) -> list[str]:
    """The keys of an item's table: its fields but for name and line, which are the header's."""
    return [known.name for known in fields(item) if known.name not in ("name", "line")]


def _check_names(spec: StackSpec) -> None:
    """Refuse illegal names, and one name for two of the disks, mapped devices and views."""
    taken: dict[str, str] = {}
    for section, kind in SECTIONS.items():
        items: dict[str, Item] = getattr(spec, section)
        for name, item in items.items():
            try:
                check_name(kind, name)
            except StackError as error:
                raise spec.source.error((section, name), str(error), at_key=True) from None
            if section == "keys":
                continue
            if name in taken:
                text = (
                    f"line {item.line} is a second {name!r}, {taken[name]} was the first: "
                    "names are unique across disks, mapped devices and views"
                )
                raise spec.source.error((section, name), text, at_key=True)
            taken[name] = f"the {kind} on line {item.line}"


def _check_view(spec: StackSpec, view: ViewSpec) -> None:
    """Refuse a view whose device or key is not in the spec, or whose DUNs do not fit the key."""
    path = ("views", view.name)
    if view.device in spec.views:
        text = f"{view.device!r} is a view; a view takes a disk or a mapped device"
        raise spec.error((*path, "device"), text)
    devices = [*spec.disks, *spec.mapper]
    if view.device not in devices:
        text = f"{view.device!r} is neither a disk nor a mapped device"
        raise spec.error((*path, "device"), text + did_you_mean(view.device, devices))
    if view.key not in spec.keys:
        text = f"{view.key!r} is not a key" + did_you_mean(view.key, spec.keys)
        raise spec.error((*path, "key"), text)
    last = dun_limit(spec.keys[view.key].config) - 1
    if not 0 <= view.dun_base <= last:
        text = f"{view.dun_base} is not in 0..{last}, the DUNs of key {view.key!r}"
        raise spec.error((*path, "dun_base"), text)

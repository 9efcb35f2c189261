"""What a stack file may say, and where each error in one points."""

import errno

import pytest

from fusedm.block import CryptoConfig
from fusedm.block.errors import SpecError, StackError, TableError
from fusedm.stack.spec import (
    DiskSpec,
    EngineSpec,
    KeySpec,
    MapperSpec,
    StackSpec,
    ViewSpec,
    check_source,
    creation_order,
    parse_spec,
)

FILE = """\
version = 1

[disks.ufs0]
size = "1GiB"
store = "file:ufs0.img"
engine = { keyslots = 32, max_dun_bytes = 8, modes = { "AES-256-XTS" = [512, 4096] } }

[disks.plain0]                 # no engine
size = "1GiB"
store = "memory:"

[mapper.data]
table = \"\"\"
0 2097152 linear ufs0 0
2097152 2097152 linear plain0 0
\"\"\"

[keys.alice]
mode = "AES-256-XTS"
data_unit_size = 4096
dun_bytes = 8
source = "file:alice.key"

[views.home]
device = "data"
key = "alice"
dun_base = 0
"""

TABLE = "0 2097152 linear ufs0 0\n2097152 2097152 linear plain0 0\n"


def refusal(text: str) -> SpecError:
    with pytest.raises(SpecError) as caught:
        parse_spec(text, "s.toml")
    return caught.value


def parts(error: SpecError) -> tuple[int, str, str]:
    """The line, the message without the place, and the source from the caret on."""
    message, source, caret = str(error).split("\n")
    place = f"s.toml:{error.line}: "
    assert message.startswith(place)
    return error.line, message.removeprefix(place), source[caret.index("^") :]


def test_the_documented_file_is_read() -> None:
    engine = EngineSpec(32, 8, {"AES-256-XTS": [512, 4096]})
    assert parse_spec(FILE, "s.toml") == StackSpec(
        version=1,
        disks={
            "ufs0": DiskSpec("ufs0", 1 << 30, "file:ufs0.img", engine),
            "plain0": DiskSpec("plain0", 1 << 30, "memory:"),
        },
        mapper={"data": MapperSpec("data", TABLE)},
        keys={"alice": KeySpec("alice", "AES-256-XTS", 4096, 8, "file:alice.key")},
        views={"home": ViewSpec("home", "data", "alice", 0)},
    )


def test_every_item_knows_its_line() -> None:
    spec = parse_spec(FILE, "s.toml")
    items = [*spec.disks.values(), *spec.mapper.values(), *spec.keys.values(), *spec.views.values()]
    assert [item.line for item in items] == [3, 8, 12, 18, 24]


def test_what_may_be_left_out_has_a_default() -> None:
    spec = parse_spec("version = 1\n[disks.d]\nstore = 'file:d'\n[mapper.m]\ntable = ''\n", "s")
    assert spec.disks["d"] == DiskSpec("d", None, "file:d", None, False)
    assert spec.mapper["m"] == MapperSpec("m", "", "", False)
    assert spec.views == {}


def test_what_has_a_default_can_be_said() -> None:
    spec = parse_spec(
        "version = 1\n[disks.d]\nstore = 'file:d'\nread_only = true\n"
        "[mapper.m]\ntable = ''\nuuid = 'u'\nread_only = true\n",
        "s",
    )
    assert spec.disks["d"].read_only
    assert spec.mapper["m"] == MapperSpec("m", "", "u", True)


def test_a_key_has_a_config() -> None:
    assert parse_spec(FILE, "s").keys["alice"].config == CryptoConfig("AES-256-XTS", 4096, 8)


def test_passthrough_is_an_engine_without_keyslots() -> None:
    engine = parse_spec(FILE.replace("keyslots = 32", "keyslots = 0"), "s").disks["ufs0"].engine
    assert engine == EngineSpec(0, 8, {"AES-256-XTS": [512, 4096]})


@pytest.mark.parametrize(
    ("old", "new", "line", "message", "at"),
    [
        # Malformed TOML.
        ('"1GiB"\nstore = "file', '1GiB\nstore = "file', 4, "not TOML: ", "GiB"),
        # The version.
        ("version = 1\n", "# none\n", 1, "key 'version' is missing", "# none"),
        ("version = 1", "version = 2", 1, "version: 2 is not 1, the one version known here", "2"),
        (
            "version = 1",
            "version = true",
            1,
            "version: expected an integer, found true or false",
            "true",
        ),
        # Unknown keys.
        (
            "version = 1",
            "version = 1\nviws = 3",
            2,
            "viws: unknown key, did you mean 'views'?; "
            "known are version, disks, mapper, keys, views",
            "viws = 3",
        ),
        (
            'size = "1GiB"\nstore = "file',
            'siez = "1GiB"\nstore = "file',
            4,
            "disks.ufs0.siez: unknown key, did you mean 'size'?; "
            "known are size, store, engine, read_only",
            'siez = "1GiB"',
        ),
        (
            "max_dun_bytes = 8",
            "x = 1, max_dun_bytes = 8",
            6,
            "disks.ufs0.engine.x: unknown key; known are keyslots, max_dun_bytes, modes",
            'x = 1, max_dun_bytes = 8, modes = { "AES-256-XTS" = [512, 4096] } }',
        ),
        (
            "[mapper.data]",
            "[mapper.data]\nsuspended = true",
            13,
            "mapper.data.suspended: unknown key; known are table, uuid, read_only",
            "suspended = true",
        ),
        (
            "dun_bytes = 8\n",
            "dun_bytes = 8\nraw = 1\n",
            22,
            "keys.alice.raw: unknown key; known are mode, data_unit_size, dun_bytes, source",
            "raw = 1",
        ),
        (
            "dun_base",
            "dunbase",
            27,
            "views.home.dunbase: unknown key, did you mean 'dun_base'?; "
            "known are device, key, dun_base",
            "dunbase = 0",
        ),
        # Wrong types.
        (
            'size = "1GiB"\nstore = "file',
            'size = 1024\nstore = "file',
            4,
            "disks.ufs0.size: expected a string, found an integer",
            "1024",
        ),
        (
            "keyslots = 32",
            "keyslots = false",
            6,
            "disks.ufs0.engine.keyslots: expected an integer, found true or false",
            'false, max_dun_bytes = 8, modes = { "AES-256-XTS" = [512, 4096] } }',
        ),
        (
            "[512, 4096]",
            "[512, '4096']",
            6,
            "disks.ufs0.engine.modes.AES-256-XTS[1]: expected an integer, found a string",
            "'4096'] } }",
        ),
        (
            "[512, 4096]",
            "512",
            6,
            "disks.ufs0.engine.modes.AES-256-XTS: expected an array, found an integer",
            "512 } }",
        ),
        (
            'store = "memory:"',
            'store = "memory:"\nread_only = 1',
            11,
            "disks.plain0.read_only: expected true or false, found an integer",
            "1",
        ),
        (
            'store = "memory:"',
            "store = 2020-01-01",
            10,
            "disks.plain0.store: expected a string, found a date or time",
            "2020-01-01",
        ),
        (
            'store = "memory:"',
            "store = 1.5",
            10,
            "disks.plain0.store: expected a string, found a float",
            "1.5",
        ),
        (
            'store = "memory:"',
            'store = "memory:"\nengine = 7',
            11,
            "disks.plain0.engine: expected a table, found an integer",
            "7",
        ),
        (
            'store = "memory:"',
            r'store = "a\u0000"',
            10,
            "disks.plain0.store: the string contains a NUL character",
            r'"a\u0000"',
        ),
        # Missing keys.
        (
            'store = "memory:"',
            "",
            8,
            "disks.plain0: key 'store' is missing",
            "plain0]                 # no engine",
        ),
        (
            "keyslots = 32, ",
            "",
            6,
            "disks.ufs0.engine: key 'keyslots' is missing",
            '{ max_dun_bytes = 8, modes = { "AES-256-XTS" = [512, 4096] } }',
        ),
        ('key = "alice"', "", 24, "views.home: key 'key' is missing", "home]"),
        # Sizes.
        (
            'size = "1GiB"\nstore = "mem',
            'size = "1GB"\nstore = "mem',
            9,
            "disks.plain0.size: '1GB' is not a size: "
            "use a number with B, s, KiB, MiB, GiB, TiB or PiB",
            '"1GB"',
        ),
        (
            'size = "1GiB"\nstore = "mem',
            'size = "513"\nstore = "mem',
            9,
            "disks.plain0.size: 513 bytes is not a whole number of 512-byte sectors (1 bytes over)",
            '"513"',
        ),
        (
            'size = "1GiB"\nstore = "mem',
            'size = "0"\nstore = "mem',
            9,
            "disks.plain0.size: 0 sectors is not in 1..18014398509481983",
            '"0"',
        ),
        (
            'size = "1GiB"\nstore = "mem',
            'size = "8192PiB"\nstore = "mem',
            9,
            "disks.plain0.size: 18014398509481984 sectors is not in 1..18014398509481983",
            '"8192PiB"',
        ),
        # Engines.
        (
            "keyslots = 32",
            "keyslots = 1025",
            6,
            "disks.ufs0.engine.keyslots: 1025 is not in 0..1024",
            '1025, max_dun_bytes = 8, modes = { "AES-256-XTS" = [512, 4096] } }',
        ),
        (
            "max_dun_bytes = 8",
            "max_dun_bytes = 33",
            6,
            "disks.ufs0.engine.max_dun_bytes: max_dun_bytes 33 is not in 1..32",
            '33, modes = { "AES-256-XTS" = [512, 4096] } }',
        ),
        (
            '"AES-256-XTS" =',
            '"AES-512-XTS" =',
            6,
            "disks.ufs0.engine.modes.AES-512-XTS: mode 'AES-512-XTS' is unknown: "
            "the modes are AES-256-XTS",
            '"AES-512-XTS" = [512, 4096] } }',
        ),
        (
            "[512, 4096]",
            "[512, 1000]",
            6,
            "disks.ufs0.engine.modes.AES-256-XTS[1]: "
            "data_unit_size 1000 is not a power of two in 512..65536",
            "1000] } }",
        ),
        # Keys.
        (
            'mode = "AES-256-XTS"',
            'mode = "XTS"',
            19,
            "keys.alice.mode: mode 'XTS' is unknown: the modes are AES-256-XTS",
            '"XTS"',
        ),
        (
            "data_unit_size = 4096",
            "data_unit_size = 100",
            20,
            "keys.alice.data_unit_size: data_unit_size 100 is not a power of two in 512..65536",
            "100",
        ),
        (
            "\ndun_bytes = 8",
            "\ndun_bytes = 17",
            21,
            "keys.alice.dun_bytes: dun_bytes 17 is not in 1..16",
            "17",
        ),
        (
            '"file:alice.key"',
            '"hex:00ff"',
            22,
            "keys.alice.source: a key is not written out here, where it would be copied, shown and "
            "logged: use file:PATH, env:NAME, fd:N, keyring:DESC or random",
            "...",
        ),
        (
            '"file:alice.key"',
            '"alice.key"',
            22,
            "keys.alice.source: not a source of a key: "
            "use file:PATH, env:NAME, fd:N, keyring:DESC or random",
            "...",
        ),
        # Names.
        (
            "[disks.plain0]",
            '["disks"."a/b"]',
            8,
            "disks.\"a/b\": disk name 'a/b' contains '/'",
            '"a/b"]                 # no engine',
        ),
        (
            "[views.home]",
            '[views.""]',
            24,
            'views."": view name is empty',
            '""]',
        ),
        (
            "[keys.alice]",
            "[keys.control]",
            18,
            "keys.control: key name 'control' is reserved",
            "control]",
        ),
        (
            "[mapper.data]",
            "[mapper.ufs0]",
            12,
            "mapper.ufs0: line 12 is a second 'ufs0', the disk on line 3 was the first: "
            "names are unique across disks, mapped devices and views",
            "ufs0]",
        ),
        (
            "[views.home]",
            "[views.data]",
            24,
            "views.data: line 24 is a second 'data', the mapped device on line 12 was the first: "
            "names are unique across disks, mapped devices and views",
            "data]",
        ),
        # What a view names.
        (
            'device = "data"',
            'device = "date"',
            25,
            "views.home.device: 'date' is neither a disk nor a mapped device, did you mean 'data'?",
            '"date"',
        ),
        (
            'device = "data"',
            'device = "home"',
            25,
            "views.home.device: 'home' is a view; a view takes a disk or a mapped device",
            '"home"',
        ),
        (
            'key = "alice"',
            'key = "bob"',
            26,
            "views.home.key: 'bob' is not a key",
            '"bob"',
        ),
        (
            "dun_base = 0",
            "dun_base = -1",
            27,
            "views.home.dun_base: -1 is not in 0..18446744073709551615, the DUNs of key 'alice'",
            "-1",
        ),
        (
            "dun_base = 0",
            "dun_base = 0x1_0000_0000_0000_0000",
            27,
            "views.home.dun_base: 18446744073709551616 is not in 0..18446744073709551615, "
            "the DUNs of key 'alice'",
            "0x1_0000_0000_0000_0000",
        ),
        # Cycles.
        (
            "linear plain0 0",
            "linear data 0",
            13,
            "mapper.data.table: a device cannot be below itself: data -> data",
            '"""',
        ),
    ],
)
def test_a_wrong_file_is_refused_at_its_place(
    old: str, new: str, line: int, message: str, at: str
) -> None:
    assert old in FILE
    found_line, found_message, found_at = parts(refusal(FILE.replace(old, new, 1)))
    assert (found_line, found_at) == (line, at)
    assert found_message.startswith(message)


def test_a_section_that_is_no_table_is_refused() -> None:
    error = refusal("version = 1\nviews = []\n")
    assert parts(error) == (2, "views: expected a table, found an array", "[]")


def test_an_empty_file_is_refused() -> None:
    assert str(refusal("")) == "s.toml: key 'version' is missing"


def test_a_key_may_have_a_device_s_name() -> None:
    text = FILE.replace("alice", "data")
    assert parse_spec(text, "s").views["home"].key == "data"


def test_an_inline_key_is_not_shown() -> None:
    secret = "00112233445566778899aabbccddeeff" * 4
    error = refusal(FILE.replace("file:alice.key", secret))
    assert str(error).split("\n")[1] == "    source = ..."
    assert "0011" not in str(error)


def mapper(**tables: str) -> StackSpec:
    return StackSpec(mapper={name: MapperSpec(name, table) for name, table in tables.items()})


def test_devices_are_created_after_those_they_stand_on() -> None:
    spec = mapper(
        top="0 8 linear middle 0",
        side="0 8 linear disk 0",
        middle="0 4 linear low 0\n4 4 linear side 0",
        low="0 8 zero",
    )
    order = creation_order(spec)
    assert sorted(order) == ["low", "middle", "side", "top"]
    assert order.index("low") < order.index("middle") < order.index("top")
    assert order.index("side") < order.index("middle")


def test_only_arguments_count_for_the_order() -> None:
    spec = mapper(**{"linear": "0 8 linear d 8", "8": "0 8 linear d 8", "d": "# x y z d\n0 8 zero"})
    assert creation_order(spec)[0] == "d"


def test_a_name_may_be_escaped_in_a_table() -> None:
    assert creation_order(mapper(**{"a": r"0 8 linear b\\c 0", "b\\c": "0 8 zero"}))[0] == "b\\c"


def test_a_longer_cycle_is_named_in_the_order_of_use() -> None:
    spec = mapper(a="0 8 linear b 0", b="0 8 linear c 0", c="0 8 linear a 0")
    with pytest.raises(SpecError) as caught:
        creation_order(spec)
    cycle = caught.value.text.rpartition(": ")[2].split(" -> ")
    assert cycle[0] == cycle[-1]
    assert list(zip(cycle, cycle[1:], strict=False)) == [
        (name, {"a": "b", "b": "c", "c": "a"}[name]) for name in cycle[:-1]
    ]


def test_a_table_error_is_shown_at_its_line_of_the_file() -> None:
    spec = parse_spec(FILE, "s.toml")
    error = spec.table_error("data", TableError(2, "linear", "it ends too far", errno.ENXIO))
    assert str(error) == (
        "s.toml:15: mapper.data.table: linear: it ends too far\n"
        "    2097152 2097152 linear plain0 0\n"
        "    ^"
    )
    assert error.errno == errno.ENXIO


def test_an_error_of_a_whole_table_is_shown_where_it_begins() -> None:
    error = parse_spec(FILE, "s.toml").table_error("data", TableError(0, "", "it is empty"))
    assert parts(error) == (13, "mapper.data.table: it is empty", '"""')


def test_a_table_error_of_a_spec_that_was_not_read_has_no_line() -> None:
    error = mapper(m="").table_error("m", TableError(1, "", "it is empty"))
    assert str(error) == "stack: mapper.m.table: it is empty"


def test_a_later_error_is_shown_at_its_value() -> None:
    error = parse_spec(FILE, "s.toml").error(("disks", "ufs0", "store"), "it is a directory")
    assert parts(error) == (5, "disks.ufs0.store: it is a directory", '"file:ufs0.img"')


@pytest.mark.parametrize(
    "source", ["random", "file:a b.key", "file:/k", "env:KEY", "fd:0", "fd:17", "keyring:a:b"]
)
def test_a_source_of_a_known_scheme_is_accepted(source: str) -> None:
    check_source(source)


@pytest.mark.parametrize(
    "source",
    ["", "random:", "file:", "env:", "env:A=B", "fd:", "fd:x", "fd:-1", "keyring:", "file:a\0"],
)
def test_a_source_without_a_place_is_refused(source: str) -> None:
    with pytest.raises(StackError, match="^not a source of a key: use file:PATH, "):
        check_source(source)


@pytest.mark.parametrize(
    "source", ["hex:", "hex:12", "0123456789abcdef", "0x0123456789ABCDEF\n", "ab" * 64]
)
def test_a_key_written_out_is_refused(source: str) -> None:
    with pytest.raises(StackError, match="^a key is not written out here") as caught:
        check_source(source)
    assert caught.value.errno == errno.EINVAL

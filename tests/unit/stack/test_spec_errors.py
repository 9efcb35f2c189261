"""Where each error in a stack file points."""

import pytest

from tests.helpers.stack_file import FILE, parts, refusal


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
        (
            "version = 1",
            'version = 1\nhot_add = "any"',
            2,
            "hot_add: 'any' is not 'superset', the one rule known here",
            '"any"',
        ),
        # Unknown keys.
        (
            "version = 1",
            "version = 1\nviws = 3",
            2,
            "viws: unknown key, did you mean 'views'?; "
            "known are version, strict, hot_add, disks, mapper, keys, views",
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
            "disks.ufs0.engine.x: unknown key; known are keyslots, max_dun_bytes, modes, "
            "profile, key_types, program_latency_ms, secret, faults",
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
            "known are device, key, dun_base, start, size",
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
            "the modes are AES-256-XTS, AES-128-CBC-ESSIV, Adiantum, SM4-XTS",
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
            "keys.alice.mode: mode 'XTS' is unknown: "
            "the modes are AES-256-XTS, AES-128-CBC-ESSIV, Adiantum, SM4-XTS",
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
            'mode = "AES-256-XTS"\ndata_unit_size = 4096\ndun_bytes = 8',
            'mode = "Adiantum"\ndata_unit_size = 4096\ndun_bytes = 33',
            21,
            "keys.alice.dun_bytes: dun_bytes 33 is not in 1..32 (IV size of Adiantum)",
            "33",
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
        (
            "dun_base = 0",
            'start = "100"',
            27,
            "views.home.start: 100 bytes is not a whole number of 512-byte sectors (100 bytes "
            "over)",
            '"100"',
        ),
        (
            "dun_base = 0",
            'size = "0B"',
            27,
            "views.home.size: 0 sectors is not in 1..18014398509481983",
            '"0B"',
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


def test_an_inline_key_is_not_shown() -> None:
    secret = "00112233445566778899aabbccddeeff" * 4
    error = refusal(FILE.replace("file:alice.key", secret))
    assert str(error).split("\n")[1] == "    source = ..."
    assert "0011" not in str(error)

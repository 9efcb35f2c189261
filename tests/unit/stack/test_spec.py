"""What a stack file may say, and in which order it is built."""

import errno

import pytest

from fusedm.block import MODES, CryptoConfig
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
from tests.helpers.stack_file import FILE, TABLE, parts


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


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_known_to_keys_engines_and_views(mode: str) -> None:
    iv_size = MODES[mode].iv_size
    last = (1 << 8 * iv_size) - 1
    text = FILE.replace("AES-256-XTS", mode).replace("dun_base = 0", f"dun_base = {last}")
    text = text.replace("max_dun_bytes = 8", f"max_dun_bytes = {iv_size}")
    spec = parse_spec(text.replace("\ndun_bytes = 8", f"\ndun_bytes = {iv_size}"), "s")
    assert spec.disks["ufs0"].engine == EngineSpec(32, iv_size, {mode: [512, 4096]})
    assert spec.keys["alice"].config == CryptoConfig(mode, 4096, iv_size)
    assert spec.views["home"].dun_base == last


def test_passthrough_is_an_engine_without_keyslots() -> None:
    engine = parse_spec(FILE.replace("keyslots = 32", "keyslots = 0"), "s").disks["ufs0"].engine
    assert engine == EngineSpec(0, 8, {"AES-256-XTS": [512, 4096]})


def test_a_key_may_have_a_device_s_name() -> None:
    text = FILE.replace("alice", "data")
    assert parse_spec(text, "s").views["home"].key == "data"


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
    # Only those that are devices: the kind of a snapshot and a number of sectors are none.
    tables = {"8": "0 8 snapshot d P P 8", "P": "0 8 snapshot-origin d", "d": "0 8 linear disk 8"}
    assert creation_order(mapper(**tables)) == ["d", "P", "8"]
    assert creation_order(mapper(a="0 8 linear 8 0", **{"8": "0 8 zero"}))[0] == "8"


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


def test_who_has_built_a_stack_can_forget_what_may_hold_keys() -> None:
    line = "0 8 crypt aes-xts-plain64 " + "ab" * 64 + " 0 d 0"
    text = (
        f'version = 1\n[disks.d]\nsize = "1MiB"\nstore = "memory:"\n[mapper.c]\ntable = "{line}"\n'
    )
    spec = parse_spec(text, "s.toml")
    spec.forget()
    assert "abab" not in repr(vars(spec.source)) + repr(spec)
    assert str(spec.error(("disks", "d"), "is wrong")) == "s.toml: disks.d: is wrong"


def test_sources_are_told_by_their_scheme() -> None:
    text = """
version = 1
[disks.d]
size = "1MiB"
store = "memory:"
engine = { profile = "ufs", secret = "fd:7" }
[disks.e]
size = "1MiB"
store = "memory:"
engine = "ufs"
[keys.a]
mode = "AES-256-XTS"
data_unit_size = 512
dun_bytes = 8
source = "fd:5"
[keys.b]
mode = "AES-256-XTS"
data_unit_size = 512
dun_bytes = 8
source = "env:OF_B"
"""
    spec = parse_spec(text, "s.toml")
    assert (spec.sources("fd"), spec.sources("env"), spec.sources("file")) == (
        ["5", "7"],
        ["OF_B"],
        [],
    )

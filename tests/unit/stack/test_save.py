"""What is saved reads back the same."""

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from fusedm.block import KeyType
from fusedm.block.crypt_ctx import MODES
from fusedm.block.errors import SpecError, StackError, TableError
from fusedm.block.names import check_name
from fusedm.block.units import MAX_SECTORS
from fusedm.crypto import ENGINE_PROFILES, MAX_KEYSLOTS, EngineFaults, Fault
from fusedm.stack import Stack
from fusedm.stack.engine_spec import MAX_PROGRAM_LATENCY_MS
from fusedm.stack.save import format_spec
from fusedm.stack.spec import (
    SECTIONS,
    DiskSpec,
    EngineSpec,
    KeySpec,
    MapperSpec,
    StackSpec,
    ViewSpec,
    creation_order,
    parse_spec,
)
from fusedm.stack.toml_lines import format_key

SAVED = """\
version = 1

[disks.ufs0]
size = "1GiB"
store = "file:ufs0.img"
engine = { keyslots = 32, max_dun_bytes = 8, modes = { AES-256-XTS = [512, 4096] } }

[disks."plain.0"]
store = "memory:"
read_only = true

[mapper.data]
table = \"\"\"
0 2097152 linear ufs0 0
2097152 8 error \\"\\\\
\"\"\"
uuid = "u"

[keys.alice]
mode = "AES-256-XTS"
data_unit_size = 4096
dun_bytes = 8
source = "file:alice.key"

[views.home]
device = "data"
key = "alice"
dun_base = 7
start = "1MiB"
size = "4KiB"
"""

SPEC = StackSpec(
    disks={
        "ufs0": DiskSpec(
            "ufs0", 1 << 30, "file:ufs0.img", EngineSpec(32, 8, {"AES-256-XTS": [512, 4096]})
        ),
        "plain.0": DiskSpec("plain.0", None, "memory:", read_only=True),
    },
    mapper={"data": MapperSpec("data", '0 2097152 linear ufs0 0\n2097152 8 error "\\\n', uuid="u")},
    keys={"alice": KeySpec("alice", "AES-256-XTS", 4096, 8, "file:alice.key")},
    views={"home": ViewSpec("home", "data", "alice", 7, 1 << 20, 4096)},
)


def test_a_spec_is_saved_as_a_file_to_read() -> None:
    assert format_spec(SPEC) == SAVED


def test_a_saved_file_reads_back_as_the_spec() -> None:
    assert parse_spec(SAVED, "s.toml") == SPEC


def is_name(text: str) -> bool:
    try:
        check_name("device", text)
    except StackError:
        return False
    return True


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=40)
names = st.text(max_size=8).filter(is_name)
flags = st.booleans()
data_unit_sizes = st.sampled_from([512 << shift for shift in range(8)])
secrets = st.sampled_from([None, "random", "file:a b", "env:A"])
keyslots, dun_bytes = st.integers(0, MAX_KEYSLOTS), st.integers(1, 32)
modes = st.dictionaries(st.sampled_from(sorted(MODES)), st.lists(data_unit_sizes))
profiles = st.sampled_from(sorted(ENGINE_PROFILES))
key_types = st.none() | st.lists(st.sampled_from([kind.value for kind in KeyType]), min_size=1)
latencies = st.integers(0, MAX_PROGRAM_LATENCY_MS)
probabilities = st.floats(0, 1, exclude_min=True)
faults = st.builds(Fault, st.integers(0, 99), probabilities) | st.builds(Fault, st.integers(1))
all_faults = st.builds(EngineFaults, st.integers(), *[st.just(Fault()) | faults] * 6)
engines = st.builds(
    EngineSpec,
    keyslots,
    dun_bytes,
    modes,
    st.none() | profiles,
    key_types,
    latencies,
    secrets,
    st.none() | all_faults,
) | st.builds(EngineSpec, st.none() | keyslots, st.none() | dun_bytes, st.none() | modes, profiles)
sizes = st.none() | st.integers(1, MAX_SECTORS).map(lambda sectors: sectors * 512)
sources = st.just("random") | texts.filter(bool).map(lambda path: f"file:{path}")
tables = st.lists(texts).map("\n".join) | texts


@st.composite
def specs(draw: st.DrawFn) -> StackSpec:
    device_names = draw(st.lists(names, unique=True, max_size=8))
    kinds = [draw(st.sampled_from("dmv")) for _ in device_names]
    below = [name for name, kind in zip(device_names, kinds, strict=True) if kind != "v"]
    keys = {
        name: KeySpec(
            name,
            draw(st.sampled_from(sorted(MODES))),
            draw(data_unit_sizes),
            draw(st.integers(1, 16)),
            draw(sources),
            draw(st.sampled_from([kind.value for kind in KeyType])),
        )
        for name in draw(st.lists(names, unique=True, max_size=2))
    }
    spec = StackSpec(keys=keys)
    for name, kind in zip(device_names, kinds, strict=True):
        if kind == "d":
            parts = draw(st.tuples(sizes, texts, st.none() | engines, flags))
            spec.disks[name] = DiskSpec(name, *parts)
        elif kind == "m":
            spec.mapper[name] = MapperSpec(name, *draw(st.tuples(tables, texts, flags)))
        elif below and keys:
            key = draw(st.sampled_from(sorted(keys)))
            base = draw(st.integers(0, (1 << 8 * keys[key].dun_bytes) - 1))
            spec.views[name] = ViewSpec(name, draw(st.sampled_from(below)), key, base)
    try:
        creation_order(spec)
    except SpecError:  # Random words made a device stand on itself.
        reject()
    return spec


@given(specs())
def test_every_spec_reads_back_as_it_was_saved(spec: StackSpec) -> None:
    assert parse_spec(format_spec(spec), "s.toml") == spec


@given(specs())
def test_every_line_number_is_that_of_the_header(spec: StackSpec) -> None:
    text = format_spec(spec)
    lines = text.split("\n")
    saved = parse_spec(text, "s.toml")
    for section in SECTIONS:
        for name, item in getattr(saved, section).items():
            assert lines[item.line - 1] == f"[{section}.{format_key(name)}]"


async def test_a_saved_stack_comes_up_again_whatever_its_devices_are_called(tmp_path):
    text = """\
version = 1
disks.d = { size = "1MiB", store = "memory:" }
disks.cow = { size = "1MiB", store = "memory:" }
mapper.P = { table = "0 1024 snapshot d cow N 8" }
mapper.over = { table = "0 1024 snapshot P d P 8" }
"""
    async with Stack(parse_spec(text, "s.toml"), tmp_path) as stack:
        saved = format_spec(stack.spec())
    async with Stack(parse_spec(saved, "saved.toml"), tmp_path) as again:
        assert format_spec(again.spec()) == saved


@pytest.mark.parametrize(
    ("folder", "prefix"), [(".", ""), ("sub", "../"), ("link/there", "../../")]
)
async def test_what_is_saved_to_a_folder_leads_to_the_same_files_from_there(
    tmp_path, folder, prefix
):
    (tmp_path / "sub").mkdir()
    (tmp_path / "real/there").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    text = (
        'version = 1\n[disks.d]\nsize = "4KiB"\nstore = "volatile:file:d.img"\n'
        f'[disks.e]\nsize = "4KiB"\nstore = "file:{tmp_path}/e.img"\n'
    )
    async with Stack(parse_spec(text, "stack.toml"), tmp_path) as stack:
        saved = format_spec(stack.spec(tmp_path / folder))
    assert f'store = "volatile:file:{prefix}d.img"' in saved
    assert f'store = "file:{tmp_path}/e.img"' in saved
    (tmp_path / "d.img").write_bytes(b"x" * 4096)
    async with Stack(parse_spec(saved, "saved.toml"), tmp_path / folder) as again:
        buffer = bytearray(1)
        again.system.disk("d").store.pread_into(0, memoryview(buffer))
        assert buffer == b"x"


def test_the_rules_of_a_whole_stack_are_saved():
    text = 'version = 1\nstrict = "linux"\nhot_add = "superset"\n'
    spec = parse_spec(text, "stack.toml")
    assert (spec.strict, spec.hot_add) == ("linux", "superset")
    assert format_spec(spec) == text


async def test_a_stack_keeps_the_rule_for_what_is_hot_added(tmp_path):
    disks = "".join(f'[disks.d{n}]\nsize = "1MiB"\nstore = "memory:"\n{engine}\n' for n, engine in
                    enumerate(['engine = "ufs"', 'engine = "ufs"', ""]))  # fmt: skip
    table = '[mapper.m]\ntable = "0 2048 linear d0 0"\n'
    spec = parse_spec(f'version = 1\nhot_add = "superset"\n{disks}{table}', "stack.toml")
    async with Stack(spec, tmp_path) as stack:
        two = "0 1024 linear d0 0\n1024 1024 linear {} 0"
        await stack.dm.load("m", two.format("d1"))
        with pytest.raises(TableError, match="d2 lacks AES-256-XTS of .*hot_add: superset"):
            await stack.dm.load("m", two.format("d2"))
        assert stack.spec().hot_add == "superset"

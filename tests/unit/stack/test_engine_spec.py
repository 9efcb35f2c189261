"""Engines in stack files: by name, with numbers of one's own, and what is wrong with one."""

import pytest

from fusedm.block import KeyType
from fusedm.block.errors import CryptoError, SpecError
from fusedm.crypto import EngineFaults, Fault
from fusedm.stack.engine_spec import EngineSpec, engine_from
from fusedm.stack.save import format_spec
from fusedm.stack.spec import DiskSpec, StackSpec, parse_spec
from tests.helpers.builders import MODE

HEAD = 'version = 1\n[disks.d]\nsize = "1MiB"\nstore = "memory:"\nengine = '


def engine(value: str) -> EngineSpec:
    """The engine of a stack file."""
    found = parse_spec(HEAD + value + "\n", "s.toml").disks["d"].engine
    assert found is not None
    return found


def refusal(value: str) -> str:
    with pytest.raises(SpecError) as caught:
        parse_spec(HEAD + value + "\n", "s.toml")
    assert caught.value.line == 5
    return caught.value.text


def saved(spec: EngineSpec) -> str:
    """What is saved of an engine."""
    text = format_spec(StackSpec(disks={"d": DiskSpec("d", None, "memory:", spec)}))
    (line,) = (line for line in text.splitlines() if line.startswith("engine = "))
    return line.removeprefix("engine = ")


def test_a_name_alone_is_a_ready_made_engine():
    spec = engine('"ufs"')
    assert spec == EngineSpec(profile="ufs")
    assert (spec.numbers().keyslots, spec.numbers().max_dun_bytes) == (32, 8)


def test_numbers_of_ones_own_override_each():
    spec = engine('{ profile = "ufs", keyslots = 4, key_types = ["hw-wrapped", "raw"] }')
    numbers = spec.numbers()
    assert (numbers.keyslots, numbers.max_dun_bytes) == (4, 8)
    assert numbers.capabilities.modes == {MODE: 4096}
    assert numbers.capabilities.key_types == set(KeyType)


def test_programming_takes_as_many_milliseconds_as_told():
    assert engine('{ profile = "ufs", program_latency_ms = 20 }').program_latency_ms == 20


@pytest.mark.parametrize(
    "text",
    [
        '"exynos-fmp"',
        '{ keyslots = 4, profile = "ufs" }',
        '{ profile = "qti-ice", key_types = ["raw"], program_latency_ms = 5 }',
        "{ keyslots = 0, max_dun_bytes = 8, modes = { AES-256-XTS = [512, 4096] } }",
        '{ profile = "ufs", secret = "env:S", faults = { seed = 7, program = { nth = 3 } } }',
        '{ profile = "ufs", faults = { dun = { nth = 1, probability = 0.25 } } }',
    ],
)
def test_what_was_read_is_what_is_saved(text):
    assert saved(engine(text)) == text


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ('"usf"', "disks.d.engine: profile 'usf' is no engine, did you mean 'ufs'?; the engines"),
        ('{ profile = "usf" }', "disks.d.engine.profile: profile 'usf' is no engine"),
        ("7", "disks.d.engine: expected a table, found an integer"),
        ('{ profile = "ufs", keyslots = 1025 }', "keyslots: 1025 is not in 0..1024"),
        ('{ profile = "ufs", max_dun_bytes = 0 }', "max_dun_bytes 0 is not in 1..32"),
        ('{ profile = "ufs", key_types = [] }', "key_types: key_types is empty: give one or more"),
        ('{ profile = "ufs", key_types = ["x"] }', "key_types 'x' is unknown: they are raw, hw-wr"),
        ('{ profile = "ufs", key_types = [1] }', "key_types[0]: expected a string"),
        (
            '{ profile = "ufs", program_latency_ms = -1 }',
            "program_latency_ms -1 is not in 0..60000",
        ),
        ('{ profile = "ufs", faults = { x = 1 } }', "engine.faults.x: unknown key; known are seed"),
        ('{ profile = "ufs", faults = { dun = {} } }', "faults.dun: give nth, probability or both"),
        ('{ profile = "ufs", faults = { dun = { nth = -1 } } }', "dun.nth: nth -1 is not 0 or mo"),
        ('{ profile = "ufs", faults = { evict = { probability = 2 } } }', "2.0 is not in 0..1"),
        ('{ profile = "ufs", faults = { evict = { often = 2 } } }', "evict.often: unknown key"),
        ('{ profile = "ufs", faults = { evict = { probability = "a" } } }', "expected a float"),
        ("{ keyslots = 4, modes = {} }", "disks.d.engine: key 'max_dun_bytes' is missing"),
    ],
)
def test_what_is_wrong_with_an_engine_is_said_with_its_argument(value, words):
    assert words in refusal(value)


def test_a_whole_probability_is_one_too():
    faults = engine('{ profile = "ufs", faults = { evict = { probability = 1 } } }').faults
    assert faults == EngineFaults(evict=Fault(probability=1.0))


def test_an_engine_made_in_python_needs_a_profile_or_all_numbers():
    with pytest.raises(CryptoError, match="max_dun_bytes is missing: an engine without a profile"):
        EngineSpec(keyslots=4).numbers()


def test_a_verb_tells_engines_as_a_stack_file_does():
    assert engine_from("ufs") == engine('"ufs"')
    assert engine_from({"profile": "emmc", "keyslots": 2}) == EngineSpec(2, profile="emmc")
    with pytest.raises(SpecError, match=r"^disk\.add: engine\.keyslots: expected an integer"):
        engine_from({"keyslots": "2"})

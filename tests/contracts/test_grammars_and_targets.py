"""Targets take what their grammars let pass, and look up, print and document what they say.

A new file in targets/ is taken up by itself, and needs a grammar in tables/grammars/.
"""

import random
import re
from functools import cache
from importlib import import_module

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusedm.block.errors import FusedmError
from fusedm.block.units import MAX_SECTORS
from fusedm.dm import format_table, parse_table, target_class, target_doc, target_names
from fusedm.tables import (
    DEVICE,
    NO_DEVICE,
    all_grammars,
    check_text,
    devices_named,
    read_lines,
)
from tests.helpers.devices import RecordingDevice
from tests.helpers.table_lines import GOOD, KERNEL_ONLY
from tests.helpers.table_lint import errors, findings, with_keys

LENGTH = 192

#: Words that are put in the place of others, or between them.
WORDS = ["", "0", "1", "7", "8", "-1", "8k", "4096", str(1 << 60), "9" * 30, "x", "N", "P", "d1"]


@cache
def lookup(name: str) -> RecordingDevice:
    """Every name is that of a device, always the same, and large enough."""
    return RecordingDevice(name, MAX_SECTORS)


def examples_of(name: str) -> list[str]:
    examples: list[str] = import_module(target_class(name).__module__).examples()
    return examples


#: What pages call the units of fields.
UNITS = {
    **{unit: (unit,) for unit in ("sectors", "bytes", "blocks", "seconds")},
    "ms": ("ms", "milliseconds"),
    DEVICE: ("device name",),
    NO_DEVICE: ("device name",),
}

EXAMPLES = [(name, words) for name in target_names() for words in examples_of(name)]
every_target = pytest.mark.parametrize("name", target_names())
every_example = pytest.mark.parametrize(("name", "words"), EXAMPLES)


def refusal(text: str) -> str:
    """Why fusedm refuses a table; empty if it takes it."""
    try:
        parse_table(text, lookup, lambda: 0.0)
    except FusedmError as error:
        return str(error)
    return ""


def assert_they_agree(text: str) -> None:
    mine = refusal(text)
    told = [found.text for found in check_text(text).findings if found.errno_of_fusedm()]
    assert bool(mine) == bool(told), f"{text!r}: parser: {mine or 'takes it'}; checker: {told}"


def changed(words: list[str], seed: int) -> str:
    """Words with something left out, put in, put in the place of another, or changed over."""
    chance = random.Random(seed)
    words = list(words)
    for _ in range(chance.randint(1, 2)):
        place = chance.randrange(len(words) + 1)
        match chance.randrange(4):
            case 0:
                words.insert(place, chance.choice(WORDS))
            case 1:
                del words[place : place + 1]
            case 2:
                words[place : place + 1] = [chance.choice(WORDS)]
            case _:
                words[place - 1 : place + 1] = reversed(words[place - 1 : place + 1])
    return " ".join(words)


@every_target
def test_every_target_has_a_grammar(name):
    assert name in all_grammars()


@every_example
def test_every_example_is_in_order_for_both(name, words):
    text = f"0 {LENGTH} {name} {words}"
    assert refusal(text) == ""
    assert [told for told in findings(text) if told.startswith("error")] == []


@every_target
def test_every_table_of_a_doc_is_in_order_for_both(name):
    for text in re.findall(r"^```\n(.*?)^```$", target_doc(name), re.MULTILINE | re.DOTALL):
        assert refusal(text) == ""
        assert [told for told in findings(text) if told.startswith("error")] == []


@every_target
def test_every_field_of_a_line_is_on_the_page_with_its_unit(name):
    page, _, examples = target_doc(name).partition("## Example")
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", page, re.MULTILINE))
    tables = re.findall(r"^```\n(.*?)^```$", examples, re.MULTILINE | re.DOTALL)
    tables += [f"0 {LENGTH} {name} {words}" for words in examples_of(name)]
    lines = [line for text in tables for line in read_lines(text) if line.target == name]
    for field in (field for line in lines for field in line.fields if not field.is_secret):
        told = f"`{field.name}:" in page or rows.get(field.name)
        assert field.unit not in UNITS or told in (True, *UNITS[field.unit]), field


@every_example
def test_what_fusedm_prints_with_keys_is_in_order_for_the_checker(name, words):
    table = parse_table(f"0 {LENGTH} {name} {words}", lookup, lambda: 0.0)
    assert errors(format_table(table, show_keys=True)) == []


@every_example
@given(seed=st.integers(0, 1 << 32))
def test_they_refuse_the_same_lines(name, words, seed):
    assert_they_agree(f"0 {LENGTH} {name} {changed(words.split(), seed)}")


def looked_up(text: str) -> tuple[list[str], bool]:
    """The devices that the targets of a table ask for, each once, and whether it was taken."""
    asked: dict[str, None] = {}

    def look_up(name: str) -> RecordingDevice:
        asked[name] = None
        return lookup(name)

    try:
        parse_table(text, look_up, lambda: 0.0)
    except FusedmError:
        return list(asked), False
    return list(asked), True


@every_example
def test_the_devices_an_example_names_are_those_its_target_looks_up(name, words):
    text = f"0 {LENGTH} {name} {words}"
    assert looked_up(text) == (devices_named(text), True)


@every_example
@given(seed=st.integers(0, 1 << 32))
def test_the_devices_a_line_names_are_those_its_target_looks_up_if_it_is_taken(name, words, seed):
    text = f"0 {LENGTH} {name} {changed(words.split(), seed)}"
    asked, is_taken = looked_up(text)
    assert not is_taken or asked == devices_named(text)


@pytest.mark.parametrize(
    "line",
    [
        line
        for line, _ in [*GOOD, *KERNEL_ONLY]
        # What is in the keyring is another matter.
        if line.split()[0] in target_names() and ":user:" not in line and "_corrupt" not in line
        if "corrupt_bio_byte" not in line
    ],
)
def test_they_agree_on_the_lines_that_the_checker_knows(line):
    assert_they_agree(f"0 8192 {with_keys(line)}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing",
        "0 8",
        "x 8 zero",
        "0 x zero",
        "0 0 zero",
        "8 8 zero",
        "0 8 zero\n9 8 zero",
        "0 8 zero\n7 8 zero",
        "0 8 zerro",
        f"0 {MAX_SECTORS + 1} zero",
        "0 8 linear d0 0\n  \n\t# more\n 8 8 linear d\\ 0 0",
    ],
)
def test_they_agree_on_what_makes_a_table(text):
    assert_they_agree(text)

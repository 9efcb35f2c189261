"""What every target keeps to; a new file in targets/ is taken up by itself.

Each target is tried with its own examples(), over three devices and a length that 2 and 3 stripes
divide.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusedm.block import FLUSH, Bio, CryptContext, CryptoConfig, CryptoKey, Op
from fusedm.block.errors import TableError
from fusedm.dm import (
    Action,
    Complete,
    Defer,
    Each,
    Fail,
    Many,
    Remap,
    Script,
    Target,
    Transform,
    format_table,
    parse_table,
    target_class,
    target_doc,
    target_names,
)
from fusedm.dm.table import target_limits
from tests.helpers.devices import RecordingDevice, lookup_in

LENGTH = 192
PATTERN = bytes(index % 251 for index in range(LENGTH * 512))
DEVICES = [RecordingDevice(name, 16384) for name in ("d0", "d1", "d2")]
LOOKUP = lookup_in(*DEVICES)
KEY = CryptoKey("k", CryptoConfig("AES-256-XTS", 512, 8), bytes(range(64)))
HEADINGS = ["Parameters", "Example", "Crypto", "Kernel", "See also"]
UNIT_TESTS = Path(__file__).parents[1] / "unit" / "dm" / "targets"

#: Targets for which no number of arguments is wrong, and those for which none is too many.
TAKES_ANY_ARGUMENTS = {"error"}
TAKES_MORE_ARGUMENTS = {"log-writes"}

#: Targets whose last argument may be left out.
MAY_BE_SHORTER = {"ebs"}

#: A word of the arguments of targets that change data by their place in the bio as it was split.
CHANGES_DATA = "corrupt"


class Clock:
    """A time that stands still until it is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def examples_of(name: str) -> list[str]:
    examples: list[str] = import_module(target_class(name).__module__).examples()
    return examples


EXAMPLES = [(name, words) for name in target_names() for words in examples_of(name)]
WRONG_COUNTS = [
    (name, changed)
    for name, words in EXAMPLES
    if name not in TAKES_ANY_ARGUMENTS
    for changed in (
        [words.split()[0]]
        if name in TAKES_MORE_ARGUMENTS
        else [f"{words} extra", words.split()[0]]
        if name in MAY_BE_SHORTER
        else [f"{words} extra", words.rpartition(" ")[0]]
        if words
        else ["extra"]
    )
]
times = st.floats(0, 20)


def make(name: str, words: str, now: float = 0.0) -> Target:
    """The target of an example, made at time 0, at a later time."""
    clock = Clock()
    target = parse_table(f"0 {LENGTH} {name} {words}", LOOKUP, clock).entries[0].target
    clock.now = now
    return target


#: Those that say for every bio where it goes; others read and write on their own first.
DIRECT = [
    (name, words)
    for name, words in EXAMPLES
    if not isinstance(make(name, words).map(Bio.write(0, memoryview(bytes(512)))), Script)
]
every_target = pytest.mark.parametrize("name", target_names())
every_example = pytest.mark.parametrize(("name", "words"), EXAMPLES)
every_direct_example = pytest.mark.parametrize(("name", "words"), DIRECT)


@st.composite
def ranges(
    draw: st.DrawFn, step: int = LENGTH, smallest: int = 1, block: int = 1
) -> tuple[int, int]:
    """Begin and end of a range of blocks that lies within one step-long piece of the target."""
    length, step = LENGTH // block, step // block
    begin = draw(st.integers(0, length - smallest).filter(lambda n: n % step <= step - smallest))
    end = draw(st.integers(begin + smallest, min(length, begin - begin % step + step)))
    return begin * block, end * block


def block_of(target: Target) -> int:
    """Sectors in a block: what the target is given is a multiple of it."""
    return target.limits().logical_block_size // 512


def takes(target: Target, op: Op) -> bool:
    """Whether it is ever given bios of an operation; the others are refused before."""
    limits = target_limits(target)
    return {Op.DISCARD: limits.discard, Op.WRITE_ZEROES: limits.write_zeroes}.get(op, True)


def data_bio(target: Target, op: Op, begin: int, end: int) -> Bio:
    """A READ or WRITE as the target may get it: with a context if it passes them."""
    data = bytearray(PATTERN[begin * 512 : end * 512])
    crypt = CryptContext(KEY, 1000 + begin) if target.passes_crypto else None
    return Bio(op, begin, end - begin, memoryview(data), crypt)


def remaps(action: Action) -> Iterator[Remap]:
    """Every bio an action sends down."""
    match action:
        case Remap():
            yield action
        case Defer(_, then) | Transform(_, _, then):
            yield from remaps(then)
        case Many(actions) | Each(actions):
            for one in actions:
                yield from remaps(one)


def halves(action: Action, sector_count: int) -> tuple[Action, Action]:
    """The same action for the front and for the back of its bio."""
    match action:
        case Remap(device, bio):
            front, back = bio.split(sector_count)
            return Remap(device, front), Remap(device, back)
        case Defer(seconds, then, note):
            first, second = halves(then, sector_count)
            return Defer(seconds, first, note), Defer(seconds, second, note)
        case Transform(then=then):
            first, second = halves(then, sector_count)
            number = action.number + sector_count
            return replace(action, then=first), replace(action, number=number, then=second)
        case Many(actions) | Each(actions):
            pairs = [halves(one, sector_count) for one in actions]
            return tuple(replace(action, actions=tuple(half)) for half in zip(*pairs, strict=True))
        case Complete() | Fail():
            return action, action


def without_data(action: Action) -> Action:
    """The action with as many zeros in the place of all data."""
    match action:
        case Remap(device, bio) if bio.data:
            return Remap(device, replace(bio, data=memoryview(bytes(len(bio.data)))))
        case Defer(seconds, then, note):
            return Defer(seconds, without_data(then), note)
        case Many(actions):
            return Many(tuple(without_data(one) for one in actions))
    return action


def without_then(action: Action) -> Action:
    """The action without what it does about the outcome of each leg, which no two say alike."""
    return replace(action, then=None) if isinstance(action, Each) else action


def assert_inside_segments(target: Target, action: Action) -> None:
    for remap in remaps(action):
        bio = remap.bio
        assert any(
            remap.device is segment.device
            and (
                bio.op is Op.FLUSH
                or segment.start_sector <= bio.sector
                and bio.end_sector <= segment.start_sector + segment.sector_count
            )
            for segment in target.devices()
        ), f"{bio} on {remap.device.name} is outside {list(target.devices())}"


def places(target: Target, op: Op, begin: int, end: int) -> set[tuple[str, int]]:
    """The device and sector of each sector of a range, as bios of one block reach them."""
    block = block_of(target)
    return {
        (remap.device.name, remap.bio.sector + offset)
        for sector in range(begin, end, block)
        for remap in remaps(target.map(data_bio(target, op, sector, sector + block)))
        for offset in range(block)
    }


@every_example
def test_a_table_is_the_same_after_formatting_and_parsing(name, words):
    table = parse_table(f"0 {LENGTH} {name} {words}", LOOKUP, Clock())
    text = format_table(table, show_keys=True)
    again = parse_table(text, LOOKUP, Clock())
    assert format_table(again, show_keys=True) == text
    assert again.entries[0].target == make(name, words)


@every_example
def test_what_a_table_prints_has_no_key_unless_it_is_asked_for(name, words):
    table = parse_table(f"0 {LENGTH} {name} {words}", LOOKUP, Clock())
    assert not re.search(r"(?!0{32})[0-9a-f]{32}", format_table(table))
    assert not re.search(r"[0-9a-f]{32}", repr(table.entries[0].target))


@every_example
@given(data=st.data(), op=st.sampled_from([Op.READ, Op.WRITE]), now=times)
def test_data_are_sent_only_into_the_ranges_of_devices(name, words, data, op, now):
    target = make(name, words, now)
    step = target.max_io_sectors or LENGTH
    begin, end = data.draw(ranges(step, block=block_of(target)))
    assert_inside_segments(target, target.map(data_bio(target, op, begin, end)))


@every_example
@given(extent=ranges(), op=st.sampled_from([Op.DISCARD, Op.WRITE_ZEROES]), now=times)
def test_ranges_are_sent_only_into_the_ranges_of_devices(name, words, extent, op, now):
    target = make(name, words, now)
    begin, end = extent
    if takes(target, op):
        assert_inside_segments(target, target.map(Bio(op, begin, end - begin)))


@every_direct_example
@given(data=st.data(), now=times)
def test_a_discard_reaches_what_writes_of_its_sectors_reach(name, words, data, now):
    target = make(name, words, now)
    begin, end = data.draw(ranges(block=block_of(target)))
    if not takes(target, Op.DISCARD):
        return
    discarded = target.map(Bio(Op.DISCARD, begin, end - begin))
    if name == "snapshot-merge":  # It drops them, as the kernel's.
        assert discarded == Complete()
        return
    sent = list(remaps(discarded))
    reached = [
        (remap.device.name, sector)
        for remap in sent
        for sector in range(remap.bio.sector, remap.bio.end_sector)
    ]
    assert len(reached) == len(set(reached))
    assert set(reached) == places(target, Op.WRITE, begin, end)


@every_example
@given(now=times)
def test_a_flush_reaches_every_device_that_is_written_to(name, words, now):
    target = make(name, words, now)
    action = target.map(FLUSH)
    steps = list(action.steps()) if isinstance(action, Script) else [action]
    flushed = {remap.device.name for step in steps for remap in remaps(step)}
    assert flushed >= {device for device, _ in places(target, Op.WRITE, 0, LENGTH)}


@every_direct_example
@given(data=st.data(), op=st.sampled_from([Op.READ, Op.WRITE]), now=times)
def test_mapping_a_split_bio_is_splitting_the_mapped_bio(name, words, data, op, now):
    target = make(name, words, now)
    block = block_of(target)
    step = target.max_io_sectors or LENGTH
    begin, end = data.draw(ranges(step, smallest=2, block=block))
    middle = block * data.draw(st.integers(1, (end - begin) // block - 1))
    bio = data_bio(target, op, begin, end)
    mapped = [*map(target.map, bio.split(middle)), *halves(target.map(bio), middle)]
    mapped = [without_then(action) for action in mapped]
    if CHANGES_DATA in words:
        mapped = [without_data(action) for action in mapped]
    assert mapped[:2] == mapped[2:]
    assert bio.data == PATTERN[begin * 512 : end * 512], "the buffer of a bio is never changed"


@every_example
@given(data=st.data(), op=st.sampled_from(list(Op)), now=times)
def test_a_bio_that_is_mapped_and_not_sent_changes_nothing(name, words, data, op, now):
    target = make(name, words, now)
    step = target.max_io_sectors or LENGTH
    begin, end = data.draw(ranges(step, block=block_of(target)))
    if not takes(target, op):
        return
    bio = {
        Op.FLUSH: FLUSH,
        Op.READ: data_bio(target, op, begin, end),
        Op.WRITE: data_bio(target, op, begin, end),
    }.get(op, Bio(op, begin, end - begin))
    first = target.map(bio)
    assert target == make(name, words, now)
    assert (target.params(), target.status()) == (
        make(name, words).params(),
        make(name, words).status(),
    )
    if not isinstance(first, Script):
        assert without_then(target.map(bio)) == without_then(first)


@pytest.mark.parametrize(("name", "words"), WRONG_COUNTS)
def test_a_wrong_number_of_arguments_names_the_target(name, words):
    with pytest.raises(TableError, match=f"^table line 1: {name}: ") as caught:
        make(name, words)
    assert caught.value.target == name


@every_target
def test_every_target_decides_on_crypto_itself(name):
    assert "passes_crypto" in vars(target_class(name))


@every_target
def test_every_target_says_which_version_of_the_kernels_it_follows(name):
    assert [type(number) for number in target_class(name).version] == [int, int, int]


@every_target
def test_every_target_offers_examples(name):
    assert examples_of(name)


@every_target
def test_every_doc_is_one_sentence_and_the_headings(name):
    title, sentence, *rest = target_doc(name).split("\n\n")
    assert title == f"# {name}"
    assert re.fullmatch(r"[A-Z][^.]*\.", sentence), "one sentence"
    assert re.findall(r"^## (.*)$", "\n".join(rest), re.MULTILINE) == HEADINGS


@every_target
def test_every_example_of_a_doc_is_a_table_with_the_target(name):
    tables = re.findall(r"^```\n(.*?)^```$", target_doc(name), re.MULTILINE | re.DOTALL)
    assert tables
    for text in tables:
        table = parse_table(text, LOOKUP, Clock())
        assert name in [entry.target.name for entry in table.entries]
        formatted = format_table(table, show_keys=True)
        again = parse_table(formatted, LOOKUP, Clock())
        assert format_table(again, show_keys=True) == formatted


@every_target
def test_every_target_has_a_test_of_its_own(name):
    assert (UNIT_TESTS / f"test_{name.replace('-', '_')}.py").is_file()

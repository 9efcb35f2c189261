"""For how many bios targets say that their answers hold, as spans show it."""

from math import inf

import pytest

from fusedm.block import Op, Span
from fusedm.dm import MappedDevice, Target, parse_table
from fusedm.dm.targets.linear import Linear
from tests.helpers.builders import make_disk, make_mapped, pattern, read, write
from tests.helpers.devices import lookup_in

BOTH, READS, WRITES, NONE = {Op.READ, Op.WRITE}, {Op.READ}, {Op.WRITE}, set[Op]()
HEX = "".join(f"{number:02x}" for number in range(64))


class Clock:
    """A time that stands still until it is set; it does not start at 0."""

    now = 1000.5

    def __call__(self) -> float:
        return self.now


async def mapped(words: str, clock: Clock | None = None) -> MappedDevice:
    """A device of 64 sectors over d0, d1."""
    device, disks = MappedDevice("dm0"), [make_disk("d0"), make_disk("d1")]
    device.load(parse_table(f"0 64 {words}", lookup_in(*disks), clock or Clock()))
    await device.resume()
    return device


def told(span: Span) -> tuple[int, int, set[Op]]:
    """Borders, and the ops that go this way."""
    assert bool(span.ops) is bool(span.legs)
    return span.begin, span.end, set(span.ops)


async def test_of_a_target_that_says_nothing_each_bio_is_planned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Linear, "steady", Target.steady)
    device = await mapped("linear d0 0")
    assert told(device.span(5)) == (0, 64, NONE)
    assert device.flush_span() is None
    assert (await make_mapped("0 8 zero\n8 8 striped 1 8 dm0 0", device)).flush_span() is None


# delay.


@pytest.mark.parametrize(
    ("words", "ops"),
    [
        ("delay d0 8 0", BOTH),
        ("delay d0 8 5", NONE),
        ("delay d0 8 0 d0 8 5", READS),
        ("delay d0 8 5 d0 8 0", WRITES),
        ("delay d0 8 0 d0 16 0", READS),
        ("delay d0 8 0 d1 8 0", READS),
    ],
)
async def test_what_a_delay_does_not_delay_goes_one_way(words: str, ops: set[Op]) -> None:
    assert told((await mapped(words)).span(5)) == (0, 64, ops)


@pytest.mark.parametrize(
    ("words", "leaves"),
    [("0 d0 8 0 d0 8 0", ["d0"]), ("0 d0 8 0 d1 8 0", ["d0", "d1"]), ("0 d0 8 0 d1 8 5", None)],
)
async def test_a_flush_that_is_not_delayed_goes_where_it_is_planned_to(
    words: str, leaves: list[str] | None
) -> None:
    span = (await mapped(f"delay d0 8 {words}")).flush_span()
    assert (span and [leg.leaf.name for leg in span.legs]) == leaves


# flakey.

DROPS, FAILS = "1 drop_writes", "1 error_writes"


@pytest.mark.parametrize(
    ("words", "up", "down"),
    [
        ("3 2", BOTH, NONE),
        (f"3 2 {DROPS}", BOTH, READS),
        (f"3 2 {FAILS}", BOTH, READS),
        ("3 2 1 error_reads", BOTH, WRITES),
        ("3 2 5 corrupt_bio_byte 1 w 0 0", BOTH, NONE),
        ("3 2 2 random_read_corrupt 1", BOTH, NONE),
        ("3 2 3 random_write_corrupt 1 error_reads", BOTH, NONE),
    ],
)
async def test_flakey_is_steady_until_its_next_turn(words: str, up: set[Op], down: set[Op]) -> None:
    clock = Clock()
    device = await mapped(f"flakey d0 8 {words}", clock)
    seen = []
    for _ in range(4):
        span = device.span(5)
        seen.append((span.until, set(span.ops)))
        assert span.is_current(clock.now)
        clock.now = span.until
        assert not span.is_current(clock.now)
    assert seen == [(1003.5, up), (1005.5, down), (1008.5, up), (1010.5, down)]


@pytest.mark.parametrize(("words", "ops"), [("1 0", BOTH), (f"0 1 {DROPS}", READS)])
async def test_flakey_without_a_turn_is_always_the_same(words: str, ops: set[Op]) -> None:
    span = (await mapped(f"flakey d0 8 {words}")).span(5)
    assert (span.until, span.ops) == (inf, ops)


@pytest.mark.parametrize(("words", "leaves"), [(DROPS, 0), (FAILS, None), ("1 error_reads", 1)])
async def test_a_flush_of_what_is_down_is_treated_as_a_write(
    words: str, leaves: int | None
) -> None:
    clock = Clock()
    device = await mapped(f"flakey d0 8 3 2 {words}", clock)
    up = device.flush_span()
    assert (up.until, len(up.legs)) == (1003.5, 1)
    clock.now = up.until
    down = device.flush_span()
    assert (down and (down.until, len(down.legs))) == (
        leaves if leaves is None else (1005.5, leaves)
    )


# dust.


async def dusty(*messages: str) -> MappedDevice:
    """Blocks of 4 sectors; the first of dm0 is the second half of block 1."""
    device = await mapped("dust d0 6 2048")
    for text in messages:
        await device.message(0, text.split())
    return device


def outline(device: MappedDevice) -> list[tuple[int, int, set[Op]]]:
    """All spans, each asked for at its first sector; asked at its last it is the same."""
    found = [told(device.span(0))]
    while found[-1][1] < device.sector_count:
        assert told(device.span(found[-1][1] - 1)) == found[-1]
        found.append(told(device.span(found[-1][1])))
    return found


async def test_between_bad_blocks_dust_lets_all_pass() -> None:
    bad = [f"addbadblock {block}" for block in (9, 1, 4, 5)]
    assert outline(await dusty(*bad)) == [(0, 64, BOTH)]
    assert outline(await dusty("enable")) == [(0, 64, BOTH)]
    assert outline(await dusty("enable", *bad)) == [
        (0, 2, NONE),
        (2, 10, BOTH),
        (10, 14, NONE),
        (14, 18, NONE),
        (18, 30, BOTH),
        (30, 34, NONE),
        (34, 64, BOTH),
    ]
    assert outline(await dusty("enable", *bad, "disable")) == [(0, 64, BOTH)]


@pytest.mark.parametrize(
    "message",
    ["addbadblock 9", "removebadblock 4", "clearbadblocks", "disable", "enable"],
)
async def test_a_message_that_changes_what_is_bad_ends_what_was_known(message: str) -> None:
    device = await dusty("enable", "addbadblock 4")
    good, bad = device.span(40), device.span(10)
    await device.message(0, message.split())
    assert not good.is_current()
    assert not bad.is_current()


@pytest.mark.parametrize("message", ["queryblock 4", "countbadblocks", "quiet", "listbadblocks"])
async def test_a_message_that_only_asks_ends_nothing(message: str) -> None:
    device = await dusty("enable", "addbadblock 4")
    span = device.span(40)
    await device.message(0, message.split())
    assert span.is_current()


async def test_a_bad_block_that_was_written_ends_what_was_known() -> None:
    device = await dusty("enable", "addbadblock 4")
    span = device.span(10)
    await write(device, 10, bytes(2048))
    assert not span.is_current()
    assert outline(device) == [(0, 64, BOTH)]


async def test_a_flush_of_dust_goes_down_whatever_is_bad() -> None:
    device = await dusty("enable", "addbadblock 1")
    assert [leg.leaf.name for leg in device.flush_span().legs] == ["d0"]


# Those that encrypt.


def xts(below: str = "d0 8", options: str = "") -> str:
    return f"crypt aes-xts-plain64 {HEX} 40 {below} {options}"


@pytest.mark.parametrize(("options", "zeros"), [("", False), ("1 allow_discards", True)])
async def test_a_span_through_crypt_has_its_cipher_and_the_numbers_of_its_sectors(
    options: str, zeros: bool
) -> None:
    device = await make_mapped(f"0 16 zero\n16 32 {xts(options=options)}", make_disk())
    span = device.span(20)
    assert (told(span), span.leaf.name, span.shift) == ((16, 48, BOTH), "d0", -8)
    assert (span.cipher.number_shift, span.cipher.keeps_zeros) == (24, zeros)
    assert span.fallback is device.fallback


async def test_sectors_of_crypt_keep_their_numbers_under_other_devices() -> None:
    crypt = await mapped(xts())
    top = await make_mapped("0 32 linear dm0 10", crypt, name="top")
    assert top.span(0).cipher.number_shift == 50
    data = bytes(pattern(4096))
    await write(top, 8, data)
    assert await read(crypt, 18, 4096) == data


async def test_what_is_encrypted_twice_has_no_span() -> None:
    lower = await mapped(xts())
    top = await make_mapped(f"0 32 {xts('dm0 8')}", lower, name="top")
    assert told(top.span(0)) == (0, 32, NONE)


async def test_crypt_over_stripes_is_one_span_if_no_chunk_cuts_what_is_encrypted_as_one() -> None:
    lower = await make_mapped(
        "0 64 striped 2 8 d0 0 d1 0", make_disk("d0"), make_disk("d1"), name="lower"
    )
    for words in (xts("lower 4"), xts("lower 8", "1 sector_size:4096")):
        device = await make_mapped(f"0 32 {words}", lower)
        assert len(device.span(9).legs) == 2


async def test_crypt_over_chunks_that_cut_its_sectors_is_a_span_for_each_chunk() -> None:
    lower = await make_mapped(
        "0 64 striped 2 4 d0 0 d1 0", make_disk("d0"), make_disk("d1"), name="lower"
    )
    device = await make_mapped(f"0 32 {xts('lower 8', '1 sector_size:4096')}", lower)
    assert told(device.span(9)) == (8, 12, BOTH)


async def test_stripes_over_crypt_are_a_span_for_each_chunk() -> None:
    lower = await mapped(xts())
    device = await make_mapped("0 64 striped 2 8 dm0 0 d1 0", lower, make_disk("d1"))
    assert told(device.span(16)) == (16, 24, BOTH)
    assert device.span(16).cipher.number_shift == 32


@pytest.mark.parametrize("target", ["inlinecrypt aes-xts-plain64", "default-key aes-xts-plain64"])
async def test_of_those_that_give_contexts_only_a_flush_is_known(target: str) -> None:
    device = await mapped(f"{target} {HEX} 0 d0 0")
    assert told(device.span(0)) == (0, 64, NONE)
    assert len(device.flush_span().legs) == 1


# log-writes.


async def test_reads_of_what_is_logged_go_one_way_and_are_not_logged() -> None:
    device = await mapped("log-writes d0 d1")
    assert told(device.span(5)) == (0, 64, READS)
    assert device.flush_span() is None

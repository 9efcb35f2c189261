"""Faults by rule, and the law that nothing reads wrong unless the faults say that it may."""

import errno
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusedm.block import Op
from fusedm.stores import (
    CorruptRead,
    FailOp,
    FaultRule,
    FaultyStore,
    Latency,
    LostWrite,
    MemoryStore,
    MisdirectedWrite,
    Store,
    TornWrite,
)

SECTOR = 512
SIZE = 32 * SECTOR


def faulty(*rules: FaultRule, seed: int = 1) -> FaultyStore:
    return FaultyStore(MemoryStore(SIZE), seed, rules)


def ones(sector_count: int, value: int = 1) -> memoryview:
    return memoryview(bytes([value]) * (sector_count * SECTOR))


def contents(store: Store, sector: int = 0, sector_count: int = 32) -> bytes:
    buffer = bytearray(sector_count * SECTOR)
    store.pread_into(sector * SECTOR, memoryview(buffer))
    return bytes(buffer)


CALLS: dict[Op, Callable[[Store], None]] = {
    Op.READ: lambda store: store.pread_into(0, memoryview(bytearray(SECTOR))),
    Op.WRITE: lambda store: store.pwrite(0, ones(1, 9)),
    Op.FLUSH: lambda store: store.flush(),
    Op.DISCARD: lambda store: store.discard(0, SECTOR),
    Op.WRITE_ZEROES: lambda store: store.write_zeroes(0, SECTOR),
}


@pytest.mark.parametrize("op", Op)
def test_a_failing_operation_gives_its_errno_and_no_other_fails(op: Op) -> None:
    store = faulty(FailOp(op=op, errno=errno.ENODEV))
    for other, call in CALLS.items():
        if other is not op:
            call(store)
    with pytest.raises(OSError, match="No such device") as failed:
        CALLS[op](store)
    assert failed.value.errno == errno.ENODEV


def test_a_failed_write_has_no_effect() -> None:
    store = faulty(FailOp(op=Op.WRITE, nth=2))
    store.pwrite(0, ones(2))
    with pytest.raises(OSError, match="Input/output error"):
        store.pwrite(0, ones(2, 5))
    assert contents(store, 0, 2) == ones(2)
    assert not store.faults.may_differ(0, SIZE)


def test_only_the_nth_matching_call_fails() -> None:
    store = faulty(FailOp(op=Op.READ, nth=2))
    contents(store)
    store.flush()
    with pytest.raises(OSError, match="Input/output error"):
        contents(store)
    contents(store)


@pytest.mark.parametrize(("sector", "fails"), [(0, False), (2, False), (3, True), (5, False)])
def test_a_rule_strikes_only_calls_that_touch_its_range(sector: int, fails: bool) -> None:
    store = faulty(FailOp(begin=4 * SECTOR, end=5 * SECTOR))
    try:
        contents(store, sector, 2)
        failed = False
    except OSError:
        failed = True
    assert failed is fails


def test_a_probability_strikes_about_that_often() -> None:
    store = faulty(FailOp(op=Op.FLUSH, probability=0.25))
    failures = 0
    for _ in range(1000):
        try:
            store.flush()
        except OSError:
            failures += 1
    assert 200 < failures < 300


def test_a_lost_write_leaves_what_was_there_and_is_known() -> None:
    store = faulty(LostWrite(nth=2))
    store.pwrite(0, ones(4))
    store.pwrite(SECTOR, ones(2, 2))
    assert contents(store, 0, 4) == ones(4)
    assert contents(store.inner, 0, 4) == bytes(ones(1)) + ones(2, 2) + ones(1)
    assert [store.faults.may_differ(i * SECTOR, SECTOR) for i in range(4)] == [0, 1, 1, 0]


def test_a_torn_write_keeps_its_first_sectors() -> None:
    store = faulty(TornWrite(sector_count=2))
    store.pwrite(0, ones(3))
    assert contents(store, 0, 3) == bytes(ones(2)) + bytes(SECTOR)
    assert not store.faults.may_differ(0, 2 * SECTOR)
    assert store.faults.may_differ(2 * SECTOR, SECTOR)


def test_a_misdirected_write_lands_elsewhere() -> None:
    store = faulty(MisdirectedWrite(), seed=3)
    store.pwrite(0, ones(1))
    medium = contents(store)
    landed = medium.index(1) // SECTOR
    assert landed != 0
    assert medium == bytes(landed * SECTOR) + ones(1) + bytes(SIZE - (landed + 1) * SECTOR)
    assert store.faults.may_differ(0, SECTOR)
    assert store.faults.may_differ(landed * SECTOR, SECTOR)


def test_a_corrupt_read_has_one_wrong_bit_within_the_rules_range() -> None:
    store = faulty(CorruptRead(begin=SECTOR, end=2 * SECTOR, nth=1))
    truth = int.from_bytes(contents(store.inner))
    wrong = contents(store)
    assert (int.from_bytes(wrong) ^ truth).bit_count() == 1
    assert any(wrong[SECTOR : 2 * SECTOR])
    assert contents(store) == wrong


@pytest.mark.parametrize("change", ["pwrite", "discard", "write_zeroes"])
def test_a_correct_change_of_a_sector_ends_its_fault(change: str) -> None:
    store = faulty(LostWrite(nth=1))
    store.pwrite(0, ones(3))
    getattr(store, change)(SECTOR, ones(1) if change == "pwrite" else SECTOR)
    assert [store.faults.may_differ(i * SECTOR, SECTOR) for i in range(3)] == [1, 0, 1]
    assert contents(store, 1, 1) == contents(store.inner, 1, 1)


def test_latency_sleeps_and_may_block() -> None:
    slept: list[float] = []
    rule = Latency(op=Op.WRITE, seconds=2.5)
    store = FaultyStore(MemoryStore(SIZE), 1, [rule], sleep=slept.append)
    assert [op for op in Op if store.may_block(op)] == [Op.WRITE]
    store.pwrite(0, ones(1))
    store.flush()
    assert slept == [2.5]


@pytest.mark.parametrize("op", Op)
def test_a_held_store_hangs_until_it_is_released(op: Op) -> None:
    store = faulty()
    assert not store.may_block(op)
    store.hold()
    assert store.may_block(op)
    started = Event()

    def call() -> None:
        started.set()
        CALLS[op](store)

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(call)
        started.wait()
        assert not future.done()
        store.release()
        future.result(timeout=10)
    assert not store.may_block(op)


RULES = (
    LostWrite(probability=0.2),
    TornWrite(probability=0.2),
    MisdirectedWrite(probability=0.2),
    CorruptRead(probability=0.2),
    FailOp(probability=0.1),
)
calls = st.lists(
    st.tuples(st.sampled_from(Op), st.integers(0, 31), st.integers(1, 8), st.integers(1, 255)),
    max_size=40,
)
Call = tuple[Op, int, int, int]


def run(store: FaultyStore, calls: list[Call]) -> list[bytes | int]:
    """Every answer of the store: data or errno."""
    answers: list[bytes | int] = []
    for op, sector, count, value in calls:
        count = min(count, 32 - sector)
        try:
            match op:
                case Op.READ:
                    answers.append(contents(store, sector, count))
                case Op.WRITE:
                    store.pwrite(sector * SECTOR, ones(count, value))
                case Op.FLUSH:
                    store.flush()
                case Op.DISCARD:
                    store.discard(sector * SECTOR, count * SECTOR)
                case Op.WRITE_ZEROES:
                    store.write_zeroes(sector * SECTOR, count * SECTOR)
        except OSError as error:
            answers.append(error.errno or 0)
    return answers


@given(calls=calls, seed=st.integers(0, 1000))
def test_the_same_seed_and_calls_give_the_same_faults(calls: list[Call], seed: int) -> None:
    first, second = faulty(*RULES, seed=seed), faulty(*RULES, seed=seed)
    assert run(first, calls) == run(second, calls)


@given(calls=calls, seed=st.integers(0, 1000))
def test_nothing_reads_wrong_that_the_faults_do_not_name(calls: list[Call], seed: int) -> None:
    lossy = [rule for rule in RULES if not isinstance(rule, FailOp)]
    store, correct = faulty(*lossy, seed=seed), faulty()
    for index, call in enumerate(calls):
        read = run(store, [call])
        expected = run(correct, [call])
        # A sector that reads wrong in a read is named afterwards.
        for got, want in zip(read, expected, strict=True):
            assert isinstance(got, bytes)
            assert isinstance(want, bytes)
            for begin in range(0, len(want), SECTOR):
                wrong = got[begin : begin + SECTOR] != want[begin : begin + SECTOR]
                at = calls[index][1] * SECTOR + begin
                assert not wrong or store.faults.may_differ(at, SECTOR)
    assert contents(store.inner) == contents(correct)

"""The keyslot machine against a model: random walks, and every short sequence of events."""

from itertools import product

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fusedm.block.errors import KeyBusy
from fusedm.crypto.keyslots import Keyslots, SlotState
from tests.helpers.builders import make_key

KEYS = [make_key(name) for name in "abcd"]
keys = st.sampled_from(KEYS)


class Model:
    """The same machine, the obvious way: one list of slots, the least recently used idle first."""

    def __init__(self, count):
        self.key = [None] * count
        self.users = [0] * count
        self.programming = [False] * count
        self.idle = list(range(count))
        self.resetting = False
        self.lost = [False] * count

    def place(self, key):
        return self.key.index(key) if key in self.key else None

    def find(self, key):
        index = self.place(key)
        if index is None or self.programming[index] or self.resetting:
            return None
        self.users[index] += 1
        self.idle = [each for each in self.idle if each != index]
        return index

    def choose(self, key):
        if self.place(key) is not None or not self.idle or self.resetting:
            return None
        index = self.idle.pop(0)
        self.key[index], self.programming[index] = key, True
        return index

    def programmed(self, index):
        self.programming[index], self.users[index] = False, 1

    def program_failed(self, index):
        self.programming[index], self.key[index] = False, None
        self.idle.insert(0, index)

    def release(self, index):
        self.users[index] -= 1
        if not self.users[index]:
            self.idle.append(index)

    def busy(self, key):
        index = self.place(key)
        return index is not None and (
            self.programming[index] or self.users[index] > 0 or self.lost[index]
        )

    def evict(self, key):
        index = self.place(key)
        if index is not None:
            self.key[index] = None
        return index

    def begin_reset(self):
        self.resetting = True

    def drained(self):
        return not any(self.programming) and not any(self.users)

    def lose_keys(self):
        self.lost = [key is not None for key in self.key]
        return [index for index, is_lost in enumerate(self.lost) if is_lost]

    def reprogrammed(self, index):
        self.lost[index] = False

    def reprogram_failed(self, index):
        self.lost[index], self.key[index] = False, None

    def end_reset(self):
        for index, is_lost in enumerate(self.lost):
            if is_lost:
                self.reprogram_failed(index)
        self.resetting = False


class Both:
    """The machine and its model, driven together and compared after every event."""

    def __init__(self, count):
        self.real, self.model = Keyslots(count), Model(count)

    def find(self, key):
        assert self.real.is_usable(key) == (
            self.model.place(key) is not None
            and not self.model.programming[self.model.place(key)]
            and not self.model.resetting
        )
        assert self.real.find(key) == self.model.find(key)

    def choose(self, key):
        assert self.real.choose(key) == self.model.choose(key)

    def evict(self, key):
        if self.model.busy(key):
            try:
                self.real.evict(key)
            except KeyBusy:
                return
            raise AssertionError("a busy key was evicted")
        assert self.real.evict(key) == self.model.evict(key)

    def event(self, name, *index):
        assert getattr(self.real, name)(*index) == getattr(self.model, name)(*index)

    def check(self):
        self.real.check_invariants()
        slots = self.real.slots
        assert [slot.key for slot in slots] == self.model.key
        assert [slot.users for slot in slots] == self.model.users
        programming = [slot.state is SlotState.PROGRAMMING for slot in slots]
        assert programming == self.model.programming
        assert list(self.real._idle) == self.model.idle
        lost = [slot.state is SlotState.REPROGRAMMING for slot in slots]
        assert lost == self.model.lost
        assert self.real.is_resetting == self.model.resetting
        assert self.real.is_drained == self.model.drained()

    def programming(self):
        return [index for index, is_it in enumerate(self.model.programming) if is_it]

    def in_use(self):
        return [index for index, users in enumerate(self.model.users) if users]

    def lost(self):
        return [index for index, is_it in enumerate(self.model.lost) if is_it]

    def can_lose_keys(self):
        return self.model.resetting and self.model.drained()


class KeyslotMachine(RuleBasedStateMachine):
    """Three slots and four keys, any legal event at any time."""

    def __init__(self):
        super().__init__()
        self.both = Both(3)

    @rule(key=keys)
    def find(self, key):
        self.both.find(key)

    @rule(key=keys)
    def choose(self, key):
        self.both.choose(key)

    @rule(key=keys)
    def evict(self, key):
        self.both.evict(key)

    @precondition(lambda self: self.both.programming())
    @rule(data=st.data(), well=st.booleans())
    def end_programming(self, data, well):
        index = data.draw(st.sampled_from(self.both.programming()))
        self.both.event("programmed" if well else "program_failed", index)

    @precondition(lambda self: self.both.in_use())
    @rule(data=st.data())
    def release(self, data):
        self.both.event("release", data.draw(st.sampled_from(self.both.in_use())))

    @precondition(lambda self: not self.both.model.resetting)
    @rule()
    def begin_reset(self):
        self.both.event("begin_reset")

    @precondition(lambda self: self.both.can_lose_keys())
    @rule()
    def lose_keys(self):
        self.both.event("lose_keys")

    @precondition(lambda self: self.both.lost())
    @rule(data=st.data(), well=st.booleans())
    def end_reprogramming(self, data, well):
        index = data.draw(st.sampled_from(self.both.lost()))
        self.both.event("reprogrammed" if well else "reprogram_failed", index)

    @precondition(lambda self: self.both.model.resetting)
    @rule()
    def end_reset(self):
        self.both.event("end_reset")

    @invariant()
    def the_machine_is_like_its_model(self):
        self.both.check()


TestKeyslotMachine = KeyslotMachine.TestCase
TestKeyslotMachine.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)

#: The events of 2 slots and 3 keys: by key, by slot, and of all slots at once.
BY_KEY = ("find", "choose", "evict")
EVENTS = [
    *product(BY_KEY, KEYS[:3]),
    *product(
        ("programmed", "program_failed", "release", "reprogrammed", "reprogram_failed"), (0, 1)
    ),
    *product(("begin_reset", "lose_keys", "end_reset"), (None,)),
]


def is_legal(both, name, argument):
    match name:
        case "programmed" | "program_failed":
            return argument in both.programming()
        case "release":
            return argument in both.in_use()
        case "reprogrammed" | "reprogram_failed":
            return argument in both.lost()
        case "begin_reset":
            return not both.model.resetting
        case "lose_keys":
            return both.can_lose_keys()
        case "end_reset":
            return both.model.resetting
    return True


def snapshot(both):
    model = both.model
    lists = (model.key, model.users, model.programming, model.idle, model.lost)
    return (model.resetting, *map(tuple, lists))


def play(sequence):
    both = Both(2)
    for name, argument in sequence:
        if name in BY_KEY:
            getattr(both, name)(argument)
        else:
            both.event(name, *(() if argument is None else (argument,)))
    return both


def all_steps(length):
    """Play every sequence of so many events; yields what each step has led to."""
    # Sequences that lead to the same state go on in the same way, so one of them is followed.
    reached, seen = {snapshot(Both(2)): ()}, set()
    for _ in range(length):
        following = {}
        for state, sequence in reached.items():
            seen.add(state)
            before = play(sequence)
            for event in EVENTS:
                if is_legal(before, *event):
                    both = play((*sequence, event))
                    yield event, both
                    if (after := snapshot(both)) not in seen:
                        following.setdefault(after, (*sequence, event))
        reached = following


def test_every_sequence_of_six_events_keeps_the_machine_like_its_model():
    steps = 0
    for _, both in all_steps(6):
        both.check()
        steps += 1
    assert steps > 1000


def test_no_sequence_of_seven_events_gives_out_a_slot_during_a_reset():
    given, reset_ends = 0, 0
    for (name, key), both in all_steps(7):
        slots = both.real.slots
        assert not (both.real.is_resetting and any(both.real.is_usable(key) for key in KEYS))
        if name == "find" and (index := both.real.index_of(key)) is not None:
            given += slots[index].users > 0
        if name == "end_reset":
            reset_ends += 1
            assert all(slot.state is not SlotState.REPROGRAMMING for slot in slots)
    assert given
    assert reset_ends

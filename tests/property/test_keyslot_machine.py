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

    def place(self, key):
        return self.key.index(key) if key in self.key else None

    def find(self, key):
        index = self.place(key)
        if index is None or self.programming[index]:
            return None
        self.users[index] += 1
        self.idle = [each for each in self.idle if each != index]
        return index

    def choose(self, key):
        if self.place(key) is not None or not self.idle:
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
        return index is not None and (self.programming[index] or self.users[index] > 0)

    def evict(self, key):
        index = self.place(key)
        if index is not None:
            self.key[index] = None
        return index


class Both:
    """The machine and its model, driven together and compared after every event."""

    def __init__(self, count):
        self.real, self.model = Keyslots(count), Model(count)

    def find(self, key):
        assert self.real.is_usable(key) == (
            self.model.place(key) is not None and not self.model.programming[self.model.place(key)]
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

    def event(self, name, index):
        getattr(self.real, name)(index)
        getattr(self.model, name)(index)

    def check(self):
        self.real.check_invariants()
        slots = self.real.slots
        assert [slot.key for slot in slots] == self.model.key
        assert [slot.users for slot in slots] == self.model.users
        programming = [slot.state is SlotState.PROGRAMMING for slot in slots]
        assert programming == self.model.programming
        assert list(self.real._idle) == self.model.idle

    def programming(self):
        return [index for index, is_it in enumerate(self.model.programming) if is_it]

    def in_use(self):
        return [index for index, users in enumerate(self.model.users) if users]


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

    @invariant()
    def the_machine_is_like_its_model(self):
        self.both.check()


TestKeyslotMachine = KeyslotMachine.TestCase
TestKeyslotMachine.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)

#: The events of 2 slots and 3 keys: by key, and by slot.
EVENTS = [
    *product(("find", "choose", "evict"), KEYS[:3]),
    *product(("programmed", "program_failed", "release"), (0, 1)),
]


def is_legal(both, name, argument):
    if name in ("programmed", "program_failed"):
        return argument in both.programming()
    return name != "release" or argument in both.in_use()


def snapshot(both):
    model = both.model
    return tuple(map(tuple, (model.key, model.users, model.programming, model.idle)))


def play(sequence):
    both = Both(2)
    for name, argument in sequence:
        if name in ("find", "choose", "evict"):
            getattr(both, name)(argument)
        else:
            both.event(name, argument)
    return both


def test_every_sequence_of_six_events_keeps_the_machine_like_its_model():
    # Sequences that lead to the same state go on in the same way, so one of them is followed.
    reached, seen, steps = {snapshot(Both(2)): ()}, set(), 0
    for _ in range(6):
        following = {}
        for state, sequence in reached.items():
            seen.add(state)
            for name, argument in EVENTS:
                if is_legal(play(sequence), name, argument):
                    both = play((*sequence, (name, argument)))
                    both.check()
                    steps += 1
                    if (after := snapshot(both)) not in seen:
                        following.setdefault(after, (*sequence, (name, argument)))
        reached = following
    assert steps > 1000

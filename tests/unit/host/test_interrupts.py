"""What signals do: interrupt, wait, or nothing; and all as before afterwards."""

import os
import signal
import threading

import pytest

from fusedm.host import interrupts
from fusedm.host.interrupts import (
    ENDING_SIGNALS,
    held,
    hold,
    interruptible,
    let_in,
)


@pytest.fixture(autouse=True)
def are_let_in_again():
    yield
    let_in()


def handlers():
    return [signal.getsignal(number) for number in ENDING_SIGNALS]


def signal_ourselves(number):
    # To this thread: others that tests have left waiting would take it.
    signal.pthread_kill(threading.get_ident(), number)


@pytest.mark.parametrize("number", ENDING_SIGNALS)
def test_each_interrupts_and_the_handlers_are_as_before(number):
    before = handlers()
    with pytest.raises(KeyboardInterrupt), interruptible():
        os.kill(os.getpid(), number)
    assert handlers() == before


def test_what_is_ignored_already_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_that_is_held_comes_when_it_is_let_in():
    came = []
    with interruptible():
        hold()
        signal_ourselves(signal.SIGTERM)
        came.append("held")
        with pytest.raises(KeyboardInterrupt):
            let_in()
    assert came == ["held"]


def test_a_second_one_soon_after_the_first_does_nothing():
    came = []

    def interrupted():
        try:
            signal_ourselves(signal.SIGINT)
        finally:
            signal_ourselves(signal.SIGTERM)
            came.append("after the second")

    with pytest.raises(KeyboardInterrupt), interruptible():
        interrupted()
    assert came == ["after the second"]


def test_a_second_one_interrupts_where_the_first_was_lost(monkeypatch):
    monkeypatch.setattr(interrupts, "AGAIN_SECONDS", 0)
    with interruptible():
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                signal_ourselves(signal.SIGINT)


def test_they_are_held_after_what_they_may_interrupt():
    with interruptible():
        pass
    assert set(ENDING_SIGNALS) <= signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_what_is_held_for_a_while_comes_at_its_end():
    came = []

    def be_signalled():
        signal_ourselves(signal.SIGTERM)
        came.append("after the signal")

    with pytest.raises(KeyboardInterrupt), interruptible(), held():
        be_signalled()
    assert came == ["after the signal"]

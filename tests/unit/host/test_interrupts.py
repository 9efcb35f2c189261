"""What signals do: interrupt, wait, or nothing; and all as before afterwards."""

import os
import signal
import threading

import pytest

from fusedm.host.interrupts import (
    ENDING_SIGNALS,
    held,
    hold,
    interruptible,
    let_in,
    uninterruptible,
)


def handlers():
    return [signal.getsignal(number) for number in ENDING_SIGNALS]


@pytest.mark.parametrize("number", ENDING_SIGNALS)
def test_each_interrupts_and_the_handlers_are_as_before(number):
    before = handlers()
    with pytest.raises(KeyboardInterrupt), interruptible():
        os.kill(os.getpid(), number)
    assert handlers() == before


@pytest.mark.parametrize("number", ENDING_SIGNALS)
def test_none_interrupts_a_teardown(number):
    before = handlers()
    with interruptible(), uninterruptible():
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
        # To this thread: others that tests have left waiting would take it.
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        came.append("held")
        with pytest.raises(KeyboardInterrupt):
            let_in()
    assert came == ["held"]


def test_a_second_one_does_nothing_where_only_one_may_interrupt():
    with interruptible(once=True):
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)


def test_what_is_held_for_a_while_comes_at_its_end():
    came = []

    def be_signalled():
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        came.append("after the signal")

    with pytest.raises(KeyboardInterrupt), interruptible(), held():
        be_signalled()
    assert came == ["after the signal"]

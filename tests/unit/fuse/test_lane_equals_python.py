"""The same requests through a lane and to an equal system in Python: all that follows is equal."""

import errno
from random import Random

import pytest

from tests.helpers.lane_kernel import Ends, failed, running
from tests.helpers.lane_twins import NAMES, answer, make_system, some_asks, state

#: Bursts of requests, each sent at once.
BURSTS = 60


@pytest.mark.parametrize("seed", range(8))
async def test_replies_media_and_counters_are_those_of_python(seed: int) -> None:
    """What is counted as read, written and encrypted does not depend on who did it either."""
    random = Random(seed)
    python = await make_system()
    ends = Ends(await make_system(), NAMES)
    unique = 0
    async with running(ends):
        for burst in range(BURSTS):
            asks = list(some_asks(python, random))
            wanted: list[bytes] = []
            forwarded: list[bytes] = []
            for ask in asks:
                unique += 1
                ends.socket.send(ask.message(unique))
                reply = await answer(python, ask, unique)
                if reply is None:
                    forwarded.append(ask.message(unique))
                else:
                    wanted.append(reply)
            replies = [await ends.reply() for _ in wanted]
            assert sorted(replies) == sorted(wanted), f"burst {burst}: {asks}"
            assert [await ends.passed_on() for _ in forwarded] == forwarded
            for _ in forwarded:
                ends.libfuse.send(failed(unique, errno.ENOSYS))
                assert await ends.reply() == failed(unique, errno.ENOSYS)
        assert state(ends.system) == state(python)
        await ends.says_nothing()
    ends.close()

"""The emulated engine: capabilities and a profile."""

import pytest

from fusedm.block import Capabilities
from fusedm.block.errors import CryptoError
from fusedm.crypto import InlineEngine
from tests.helpers.builders import MODE, make_key

CAPABILITIES = Capabilities.of({MODE: [512]}, 8)


@pytest.mark.parametrize("keyslots", [0, 1, 32])
def test_an_engine_has_as_many_keyslots_as_asked_for(keyslots):
    engine = InlineEngine(CAPABILITIES, keyslots)
    assert engine.slots.slot_count == keyslots
    assert engine.capabilities is CAPABILITIES


async def test_programming_takes_as_long_as_it_is_told(autojump_clock):
    engine = InlineEngine(CAPABILITIES, 1, program_latency_seconds=2.0)
    (await engine.slots.take(make_key())).release()
    assert autojump_clock.current_time() == 2.0


async def test_programming_fails_as_it_is_told():
    def refuse(index, key):
        raise CryptoError(f"slot {index} broke under {key.name}")

    engine = InlineEngine(CAPABILITIES, 1, before_program=refuse)
    with pytest.raises(CryptoError, match="slot 0 broke under k"):
        await engine.slots.take(make_key())

"""Ready-made engines: their numbers, and numbers of one's own."""

import pytest

from fusedm.block import MODES, KeyType
from fusedm.block.errors import CryptoError
from fusedm.crypto import BARE, ENGINE_PROFILES, engine_profile
from tests.helpers.builders import MODE


@pytest.mark.parametrize(
    ("name", "keyslots", "max_dun_bytes", "mask", "key_types"),
    [
        ("ufs", 32, 8, 4096, {KeyType.RAW}),
        ("emmc", 16, 4, 4096, {KeyType.RAW}),
        ("exynos-fmp", 0, 16, 4096, {KeyType.RAW}),
        ("qti-ice", 32, 8, 4096, {KeyType.HW_WRAPPED}),
        ("everything", 32, 32, 0x1FE00, {KeyType.RAW, KeyType.HW_WRAPPED}),
    ],
)
def test_each_engine_has_the_numbers_of_what_it_resembles(
    name, keyslots, max_dun_bytes, mask, key_types
):
    profile = engine_profile(name)
    assert profile.name == name
    assert profile.resembles
    assert profile.keyslots == keyslots
    assert profile.capabilities.max_dun_bytes == max_dun_bytes
    assert profile.capabilities.modes[MODE] == mask
    assert profile.capabilities.key_types == key_types


def test_everything_has_every_mode_there_is():
    assert set(engine_profile("everything").modes) == set(MODES)


def test_there_is_a_test_of_every_engine():
    assert list(ENGINE_PROFILES) == ["ufs", "emmc", "exynos-fmp", "qti-ice", "everything"]


def test_an_engine_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(CryptoError, match="profile 'ufd' is no engine, did you mean 'ufs'?") as one:
        engine_profile("ufd")
    assert str(one.value).endswith("are ufs, emmc, exynos-fmp, qti-ice, everything")
    with pytest.raises(CryptoError, match="profile 'tape' is no engine; the engines are ufs"):
        engine_profile("tape")


def test_numbers_of_ones_own_go_before_those_of_the_profile():
    own = engine_profile("ufs").having(keyslots=4, modes={MODE: [512]})
    assert (own.keyslots, own.max_dun_bytes, own.capabilities.modes[MODE]) == (4, 8, 512)
    wrapped = engine_profile("emmc").having(max_dun_bytes=2, key_types=[KeyType.HW_WRAPPED])
    assert (wrapped.keyslots, wrapped.max_dun_bytes) == (16, 2)
    assert wrapped.capabilities.key_types == {KeyType.HW_WRAPPED}
    assert engine_profile("ufs").having() == engine_profile("ufs")


def test_what_is_bare_can_do_nothing():
    assert not BARE.capabilities


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"keyslots": -1}, "keyslots -1 is not in 0..1024"),
        ({"keyslots": 1025}, "keyslots 1025 is not in 0..1024"),
        ({"max_dun_bytes": 33}, "max_dun_bytes 33 is not in 1..32"),
        ({"modes": {"ROT13": [512]}}, "mode 'ROT13' is unknown"),
        ({"modes": {MODE: [513]}}, "data_unit_size 513 is not a power of two"),
    ],
)
def test_a_number_out_of_range_is_refused_with_its_name(numbers, words):
    with pytest.raises(CryptoError, match=words):
        engine_profile("ufs").having(**numbers)

"""What a device can encrypt natively, and what two can together."""

import pytest

from fusedm.block.capabilities import (
    ALL_CAPABILITIES,
    NO_CAPABILITIES,
    Capabilities,
    data_unit_sizes,
)
from fusedm.block.crypt_ctx import CryptoConfig, KeyType
from fusedm.block.errors import CryptoError
from tests.helpers.builders import MODE

BOTH = Capabilities.of({MODE: [512, 4096]}, 8)
SMALL = Capabilities.of({MODE: [512]}, 16)


def test_the_mask_bits_are_the_sizes_in_bytes():
    assert BOTH.modes[MODE] == 512 | 4096


def test_a_config_is_supported_by_mode_size_and_dun_bytes():
    assert BOTH.supports(CryptoConfig(MODE, 4096, 8))
    assert not BOTH.supports(CryptoConfig(MODE, 1024, 8))
    assert not BOTH.supports(CryptoConfig(MODE, 4096, 9))
    assert not NO_CAPABILITIES.supports(CryptoConfig(MODE, 512, 1))


def test_a_config_is_supported_by_its_type_of_key_too():
    wrapped = CryptoConfig(MODE, 512, 8, KeyType.HW_WRAPPED)
    assert not BOTH.supports(wrapped)
    assert Capabilities.of({MODE: [512]}, 8, KeyType).supports(wrapped)
    only_wrapped = Capabilities.of({MODE: [512]}, 8, [KeyType.HW_WRAPPED])
    assert not only_wrapped.supports(CryptoConfig(MODE, 512, 8))


def test_no_type_of_key_in_common_is_no_capabilities_at_all():
    only_wrapped = Capabilities.of({MODE: [512]}, 8, [KeyType.HW_WRAPPED])
    assert SMALL.intersect(only_wrapped) == NO_CAPABILITIES
    assert only_wrapped.without_data_unit_sizes(4096) == only_wrapped


def test_intersection_takes_the_smaller_of_everything():
    assert BOTH.intersect(SMALL) == Capabilities.of({MODE: [512]}, 8)


def test_nothing_in_common_is_no_capabilities_at_all():
    large = Capabilities.of({MODE: [65536]}, 16)
    assert SMALL.intersect(large) == NO_CAPABILITIES


def test_covering_needs_every_size_and_as_many_dun_bytes():
    assert BOTH.covers(Capabilities.of({MODE: [4096]}, 4))
    assert not BOTH.covers(SMALL)
    assert not SMALL.covers(BOTH)


def test_covering_needs_every_type_of_key():
    both_types = Capabilities.of({MODE: [512]}, 8, KeyType)
    assert both_types.covers(Capabilities.of({MODE: [512]}, 8))
    assert not Capabilities.of({MODE: [512]}, 8).covers(both_types)


def test_no_capabilities_are_covered_by_all_and_cover_none():
    for capabilities in (NO_CAPABILITIES, BOTH, ALL_CAPABILITIES):
        assert capabilities.covers(NO_CAPABILITIES)
        assert NO_CAPABILITIES.covers(capabilities) == (capabilities == NO_CAPABILITIES)


@pytest.mark.parametrize("max_dun_bytes", [1, 16, 32])
def test_all_capabilities_cover_whatever_can_be_made(max_dun_bytes):
    possible = Capabilities.of({MODE: [512, 65536]}, max_dun_bytes)
    assert ALL_CAPABILITIES.intersect(possible) == possible


def test_sizes_can_be_taken_away():
    assert BOTH.without_data_unit_sizes(4096) == Capabilities.of({MODE: [512]}, 8)
    assert not BOTH.without_data_unit_sizes(4096 | 512)


def test_capabilities_without_a_mode_are_false_and_have_no_dun_bytes():
    empty = Capabilities.of({MODE: []}, 8)
    assert not empty
    assert empty == NO_CAPABILITIES
    assert bool(BOTH)


def test_an_unknown_mode_is_refused():
    with pytest.raises(CryptoError, match="mode 'ROT13' is unknown: the modes are AES-256-XTS"):
        Capabilities.of({"ROT13": [512]}, 8)


def test_a_bad_size_is_refused():
    with pytest.raises(CryptoError, match="data_unit_size 1000 is not a power of two"):
        Capabilities.of({MODE: [512, 1000]}, 8)


@pytest.mark.parametrize("max_dun_bytes", [0, 33])
def test_bad_dun_bytes_are_refused(max_dun_bytes):
    with pytest.raises(CryptoError, match=f"max_dun_bytes {max_dun_bytes} is not in 1..32"):
        Capabilities.of({MODE: [512]}, max_dun_bytes)


def test_the_sizes_of_a_mask_come_smallest_first():
    assert data_unit_sizes(BOTH.modes[MODE]) == [512, 4096]
    assert data_unit_sizes(0) == []


def test_modes_cannot_be_changed_afterwards():
    with pytest.raises(TypeError):
        BOTH.modes[MODE] = 0

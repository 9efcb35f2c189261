"""What why says of wrapped keys, and of strict mode: what is refused, and where bios fail."""

import errno
from dataclasses import replace

import pytest

from fusedm.block import Capabilities, CryptoConfig, CryptoKey, KeyType
from fusedm.block.errors import FusedmError
from fusedm.cli.looking_text import swap_text, why_text
from fusedm.crypto import InlineEngine, KeyManager, start_using_key
from fusedm.inspect import loses, parse_config, swap, why
from fusedm.inspect.extents import extents
from fusedm.inspect.sight import Sight
from fusedm.system import System
from tests.helpers.builders import MODE, make_disk, make_key, make_mapped, read_bio
from tests.helpers.strict import MIXED, failed, make_system


def test_a_raw_key_on_an_engine_for_wrapped_ones_is_not_native():
    disk = make_disk("ice", slots=1, key_types=[KeyType.HW_WRAPPED])
    config = CryptoConfig(MODE, 4096, 8)
    (obstacle,) = Sight().obstacles(disk, config)
    assert obstacle.text == "the engine of ice takes keys of type hw-wrapped only, not raw"
    assert Sight().obstacles(disk, replace(config, key_type=KeyType.HW_WRAPPED)) == []


async def test_where_a_wrapped_key_is_not_native_it_is_honoured_nowhere():
    ice = make_disk("ice", slots=1, key_types=KeyType)
    table = (
        "0 8 linear ice 0\n8 8 linear plain 0\n16 8 delay ice 0 0\n"
        "24 4 linear ice 24\n28 4 linear ice 28"
    )
    mapped = await make_mapped(table, ice, make_disk("plain"))
    found = extents(Sight(), mapped, CryptoConfig(MODE, 4096, 8, KeyType.HW_WRAPPED))
    assert [(one.start, one.how) for one in found] == [
        (0, "native"), (8, "nowhere"), (16, "nowhere"), (24, "nowhere")
    ]  # fmt: skip
    assert all("no software can use" in one.why for one in found[1:])


async def test_wrapped_keys_are_told_of_where_an_engine_takes_them():
    built = System()
    built.add_disk(make_disk("ice", slots=1, key_types=[KeyType.HW_WRAPPED]))
    told = why(built, "ice")
    assert told["key_types"] == ["hw-wrapped"]
    assert [(one["mode"], one["key_types"], one["native"]) for one in told["configs"]] == [
        (MODE, ["hw-wrapped"], True), (MODE, ["hw-wrapped"], True)
    ]  # fmt: skip
    text = why_text(told)
    assert f"native all over ice: {MODE} 512,4096, 8 DUN bytes, keys hw-wrapped" in text
    assert f"not native: {MODE} 512,4096\n  the engine of ice takes keys of type" in text
    assert "not native: Adiantum 512,1024,2048,4096,8192,16384,32768,65536 (all keys)" in text
    assert f"{MODE}/512, 1 DUN bytes (hw-wrapped keys) is honoured on ice" in text


@pytest.mark.parametrize("words", ["", "/16"])
def test_a_config_may_name_the_type_of_key(words):
    config = parse_config(f"{MODE}/4096{words}/hw-wrapped")
    assert config == CryptoConfig(MODE, 4096, 16 if words else 8, KeyType.HW_WRAPPED)


async def test_a_table_that_a_wrapped_key_in_use_forbids_is_told_as_refused():
    built, by = System(), KeyManager()
    for name, manager in (("ice", by), ("same", by), ("other", KeyManager())):
        built.add_disk(make_disk(name, slots=1, key_types=KeyType, key_manager=manager))
    built.add_disk(make_disk("plain"))
    built.add_mapped("dm0")
    built.load("dm0", "0 64 linear ice 0")
    await built.resume("dm0")
    config = CryptoConfig(MODE, 4096, 8, KeyType.HW_WRAPPED)
    built.add_key(CryptoKey("w", config, by.prepare_key(by.generate_key())))
    built.add_view("v", "dm0", "w")
    for table, words in (
        ("0 64 linear plain 0", "key 'w', which is in use, is hardware-wrapped"),
        ("0 64 linear other 0", "key 'w': not a prepared key of this engine"),
    ):
        told = swap(built, "dm0", table, lambda: 0.0)
        assert words in told["refused"]
        assert loses(told)
        assert f"a load of it would be refused: {told['refused']}" in swap_text(told)
        with pytest.raises(FusedmError, match=words.split(":")[0]):
            built.load("dm0", table)
    assert swap(built, "dm0", "0 64 linear same 0", lambda: 0.0)["refused"] is None


async def test_a_table_that_strict_mode_refuses_is_told_as_refused():
    built = await make_system(dm0="0 64 linear rich 0", dm1="0 64 linear fixed 0")
    told = swap(built, "dm0", "0 64 linear poor 0", lambda: 0.0)
    assert "fewer than the device has" in told["refused"]
    assert (
        "is read-only: load the table read-only"
        in (swap(built, "dm0", "0 64 linear fixed 0", lambda: 0.0)["refused"])
    )
    assert swap(built, "dm1", "0 32 linear fixed 0", lambda: 0.0)["refused"] is None
    assert swap(built, "dm0", "0 64 linear rich 64", lambda: 0.0)["refused"] is None


async def test_strict_mode_goes_by_the_device_as_a_whole():
    built = await make_system(dm0=MIXED)
    config = CryptoConfig(MODE, 4096, 8)
    (one,) = extents(Sight(), built.mapped["dm0"], config)
    assert (one.how, one.where) == ("fallback above", "dm0")
    assert one.why == "strict: not native on all of it"


async def test_strict_mode_fails_what_is_not_native_any_more_below():
    built = await make_system(dm0="0 64 linear rich 0", dm1="0 64 linear dm0 0")
    config = CryptoConfig(MODE, 4096, 8)
    assert extents(Sight(), built.mapped["dm1"], config)[0].how == "native"
    built.swap_engine("rich", None)
    for name in ("dm0", "dm1"):
        (one,) = extents(Sight(), built.mapped[name], config)
        assert (one.how, one.where) == ("nowhere", "rich")
        assert one.why.endswith("fails bios that arrive there with a context (EOPNOTSUPP)")
    start_using_key(built.mapped["dm1"], make_key("k", 4096))
    await failed(errno.EOPNOTSUPP, built.mapped["dm1"], read_bio(0, 4096, make_key("k", 4096))[0])


async def test_strict_mode_does_not_see_an_engine_gained_since_the_table_was_loaded():
    built = await make_system(dm0="0 64 linear poor 0", dm1="0 64 linear dm0 0")
    built.swap_engine("poor", InlineEngine(Capabilities.of({MODE: [4096]}, 8), 1))
    config = CryptoConfig(MODE, 4096, 8)
    texts = [one.text for one in Sight().obstacles(built.mapped["dm1"], config)]
    assert texts == ["dm0 lacked it when its table was loaded, which strict mode goes by"]
    (one,) = extents(Sight(), built.mapped["dm1"], config)
    assert (one.how, one.where) == ("fallback above", "dm1")

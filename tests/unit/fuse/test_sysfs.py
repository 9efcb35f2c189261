"""What is told of a device, in the kernel's names and formats."""

import pytest

from fusedm.block import Capabilities, KeyType
from fusedm.crypto import engine_profile
from fusedm.disk import Disk
from fusedm.fuse.nodes import Directory, Link, TextFile
from fusedm.fuse.sysfs import block_directory, crypto_extents, keyslot_count, keyslots
from fusedm.system import System
from tests.helpers.builders import MODE, make_disk, make_key, pattern, write


async def make_system(*disks: Disk, table: str = "0 100 linear d0 0") -> System:
    """Disks (d0 with two keyslots unless given), and dm0 with a table."""
    system = System()
    for disk in disks or (make_disk("d0", slots=2),):
        system.add_disk(disk)
    system.add_mapped("dm0", "uuid-0")
    system.load("dm0", table)
    await system.mapped["dm0"].resume()
    return system


def told(system: System, name: str, path: str) -> str | None:
    """The text of a file below sys/block/NAME; None if it is not there."""
    node: object = block_directory(system, name)
    for word in path.split("/"):
        assert isinstance(node, Directory)
        node = node.child(word)
    return node.text() if isinstance(node, TextFile) else None


def names(system: System, name: str, path: str = "") -> list[str]:
    node: object = block_directory(system, name)
    for word in path.split("/") if path else ():
        assert isinstance(node, Directory)
        node = node.child(word)
    assert isinstance(node, Directory)
    return list(node.names())


async def test_size_is_in_sectors_and_flags_are_0_or_1() -> None:
    system = await make_system()
    assert told(system, "d0", "size") == "1024\n"
    assert told(system, "dm0", "size") == "100\n"
    assert told(system, "d0", "ro") == "0\n"


async def test_block_sizes_are_in_bytes() -> None:
    system = await make_system(make_disk("d0", block=4096), table="0 96 linear d0 0")
    assert told(system, "dm0", "queue/logical_block_size") == "4096\n"
    assert told(system, "dm0", "queue/minimum_io_size") == "4096\n"


CRYPT = f"0 96 crypt aes-xts-plain64 {bytes(range(1, 65)).hex()} 0 d0 0"


@pytest.mark.parametrize(
    ("table", "discards", "zeroes"),
    [
        ("0 100 linear d0 0", True, True),
        ("0 8 zero", True, False),
        (CRYPT, False, False),
        (f"{CRYPT} 1 allow_discards", True, False),
        (f"{CRYPT}\n96 4 linear d0 96", False, False),
    ],
)
async def test_what_a_device_takes_of_discards_and_zeroes_is_told(table, discards, zeroes) -> None:
    system = await make_system(table=table)
    most, granularity = ("4294966784\n", "512\n") if discards else ("0\n", "0\n")
    assert told(system, "dm0", "queue/discard_max_bytes") == most
    assert told(system, "dm0", "queue/discard_max_hw_bytes") == most
    assert told(system, "dm0", "queue/discard_granularity") == granularity
    assert (told(system, "dm0", "queue/write_zeroes_max_bytes") != "0\n") is zeroes
    system.add_key(make_key())
    assert system.add_view("view", "dm0", "k").takes_discards is discards
    assert told(system, "view", "queue/discard_max_bytes") == most


async def test_stat_has_17_columns_and_inflight_two() -> None:
    system = await make_system()
    await write(system.disks["d0"], 0, pattern(1024))
    stat = (told(system, "d0", "stat") or "").split()
    assert len(stat) == 17
    assert stat[4:7] == ["1", "0", "2"]
    assert (told(system, "d0", "inflight") or "").split() == ["0", "0"]


async def test_an_engine_is_told_in_the_kernels_formats() -> None:
    system = await make_system()
    assert told(system, "d0", "queue/crypto/num_keyslots") == "2\n"
    assert told(system, "d0", "queue/crypto/max_dun_bits") == "64\n"
    assert told(system, "d0", "queue/crypto/modes/AES-256-XTS") == "0x1200\n"
    assert told(system, "d0", "queue/crypto/raw_keys") == "supported\n"


async def test_every_mode_has_a_file_of_the_kernels_name_with_its_mask() -> None:
    disk = make_disk("d0", slots=2)
    assert disk.engine is not None
    disk.engine.capabilities = engine_profile("everything").capabilities
    system = await make_system(disk)
    every = {"AES-256-XTS", "AES-128-CBC-ESSIV", "Adiantum", "SM4-XTS"}
    for name in ("d0", "dm0"):
        assert set(names(system, name, "queue/crypto/modes")) == every
        for mode in every:
            assert told(system, name, f"queue/crypto/modes/{mode}") == "0x1fe00\n"
        assert told(system, name, "queue/crypto/max_dun_bits") == "256\n"


async def test_a_passthrough_engine_and_a_mapped_device_have_0_keyslots() -> None:
    system = await make_system(make_disk("d0", slots=0))
    assert told(system, "d0", "queue/crypto/num_keyslots") == "0\n"
    assert told(system, "dm0", "queue/crypto/num_keyslots") == "0\n"
    assert keyslot_count(system.mapped["dm0"]) == 0


async def test_without_capabilities_there_is_no_crypto_directory() -> None:
    system = await make_system(make_disk("d0"))
    assert "crypto" not in names(system, "d0", "queue")
    assert "crypto" not in names(system, "dm0", "queue")
    assert keyslot_count(system.disks["d0"]) == 0


async def test_only_mapped_devices_have_a_dm_directory() -> None:
    system = await make_system()
    assert "dm" not in names(system, "d0")
    assert told(system, "dm0", "dm/name") == "dm0\n"
    assert told(system, "dm0", "dm/uuid") == "uuid-0\n"
    assert told(system, "dm0", "dm/suspended") == "0\n"
    await system.mapped["dm0"].suspend()
    assert told(system, "dm0", "dm/suspended") == "1\n"


async def test_slaves_and_holders_are_links_to_siblings() -> None:
    system = await make_system()
    slaves = block_directory(system, "dm0").child("slaves")
    holders = block_directory(system, "d0").child("holders")
    assert isinstance(slaves, Directory)
    assert isinstance(holders, Directory)
    assert slaves.child("d0") == Link("../../d0")
    assert slaves.child("other") is None
    assert list(holders.names()) == ["dm0"]


async def test_a_view_tells_of_itself_and_of_its_device() -> None:
    system = await make_system()
    system.add_key(make_key("k", 4096))
    system.add_view("v", "dm0", "k")
    assert told(system, "v", "size") == "96\n"
    assert told(system, "v", "queue/logical_block_size") == "4096\n"
    assert names(system, "v", "slaves") == ["dm0"]
    assert names(system, "v", "holders") == []
    assert names(system, "dm0", "holders") == ["v"]


async def test_crypto_extents_count_each_extent_by_itself() -> None:
    disks = make_disk("d0", slots=2), make_disk("d1")
    system = await make_system(*disks, table="0 100 linear d0 0\n100 50 linear d1 0")
    key = make_key()
    system.add_key(key)
    system.add_view("v", "dm0", "k")
    await write(system.mapped["dm0"], 92, pattern(16 * 512), key)
    assert crypto_extents(system.mapped["dm0"]) == [
        "0 100 linear native 1 fallback 0",
        "100 50 linear native 0 fallback 1",
    ]
    assert told(system, "d1", "fusedm/crypto_extents") == "0 1024 disk native 0 fallback 1\n"


async def test_a_device_without_a_table_has_no_extents() -> None:
    system = System()
    system.add_mapped("dm0")
    assert crypto_extents(system.mapped["dm0"]) == []


async def test_keyslots_are_told_by_the_name_of_their_key_with_what_has_happened() -> None:
    system = await make_system()
    key = make_key("alice")
    await write(system.disks["d0"], 0, pattern(512), key)
    await write(system.disks["d0"], 0, pattern(512), key)
    assert told(system, "d0", "fusedm/keyslots") == (
        "0 alice users 0 hits 1 programs 1 evictions 0 waits 0\n"
        "1 - users 0 hits 0 programs 0 evictions 0 waits 0\n"
    )
    assert keyslots(system.disks["d0"])[0] == {
        "slot": 0, "key": "alice", "state": "idle", "users": 0,
        "hits": 1, "programs": 1, "evictions": 0, "waits": 0,
    }  # fmt: skip
    assert bytes(key.raw).hex()[:16] not in str(keyslots(system.disks["d0"]))


async def test_without_keyslots_there_is_no_file_of_them() -> None:
    system = await make_system(make_disk("d0", slots=0), make_disk("d1"))
    for name in ("d0", "d1", "dm0"):
        assert names(system, name, "fusedm") == ["crypto_extents"]
        assert keyslots(system.device(name)) == []


async def test_each_type_of_key_has_a_file_where_the_device_takes_such() -> None:
    both = make_disk("d0", slots=2)
    assert both.engine is not None
    both.engine.capabilities = Capabilities.of({MODE: [512]}, 8, KeyType)
    system = await make_system(both)
    for name in ("d0", "dm0"):
        assert told(system, name, "queue/crypto/raw_keys") == "supported\n"
        assert told(system, name, "queue/crypto/hw_wrapped_keys") == "supported\n"
    both.engine.capabilities = Capabilities.of({MODE: [512]}, 8, [KeyType.HW_WRAPPED])
    assert "raw_keys" not in names(system, "d0", "queue/crypto")

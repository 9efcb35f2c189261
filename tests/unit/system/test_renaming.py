"""What dmsetup does to a system: renaming, numbers, UUIDs, and removing later."""

import errno

import pytest

from fusedm.block.errors import TableError
from tests.helpers.small_system import make_system, refusal


async def test_a_renamed_device_is_found_by_its_new_name_only():
    system = await make_system()
    system.open("dm0")
    system.rename_mapped("dm0", "new")
    assert system.device("new").name == "new"
    assert system.names.open_count("new") == 1
    assert refusal(errno.ENXIO, system.device, "dm0") == "'dm0' is not a device of this stack"
    assert system.view("v").device is system.device("new")
    assert system.mapped["new"].event_number == 1


async def test_a_rename_to_a_name_that_is_taken_changes_nothing():
    system = await make_system()
    assert refusal(errno.EEXIST, system.rename_mapped, "dm0", "d0") == "name 'd0' is taken"
    assert "dm0" in system.mapped


async def test_a_uuid_is_given_once():
    system = await make_system()
    system.add_mapped("dm1")
    assert refusal(errno.EEXIST, system.set_uuid, "dm1", "uuid-0") == "UUID 'uuid-0' is taken"
    system.set_uuid("dm1", "u-1")
    text = refusal(errno.EINVAL, system.set_uuid, "dm1", "u-2")
    assert text == "'dm1' has the UUID 'u-1', which cannot be changed"
    assert refusal(errno.EEXIST, system.set_uuid, "dm1", "uuid-0") == "UUID 'uuid-0' is taken"


async def test_a_new_name_or_uuid_is_an_event_of_a_device_with_a_table():
    system = await make_system()
    system.add_mapped("dm1")
    system.set_uuid("dm1", "u-1")
    system.rename_mapped("dm1", "dm2")
    assert system.mapped["dm2"].event_number == 0
    await system.load_opened("dm2", "0 8 zero")
    await system.resume("dm2")
    system.rename_mapped("dm2", "dm1")
    assert system.mapped["dm1"].event_number == 1


async def test_a_device_is_found_by_its_number_too():
    system = await make_system()
    assert system.device("253:0") is system.device("dm0")
    number = system.numbers.of(system.device("d0"))
    assert system.device(f"{number[0]}:{number[1]}") is system.device("d0")
    refusal(errno.ENXIO, system.device, "253:77")


async def test_a_device_removed_later_goes_when_its_last_user_does():
    system = await make_system()
    system.open("dm0")
    system.remove_view("v")
    assert not system.remove_mapped("dm0", deferred=True)
    assert system.mapped["dm0"].deferred_remove
    system.closed("dm0")
    assert "dm0" not in system.mapped


async def test_a_device_removed_later_goes_with_the_device_above_it():
    system = await make_system()
    system.remove_view("v")
    system.add_mapped("top")
    system.load("top", "0 8 linear dm0 0")
    assert not system.remove_mapped("dm0", deferred=True)
    system.clear("top")
    assert "dm0" not in system.mapped


async def test_an_unused_device_is_removed_at_once_later_or_not():
    system = await make_system()
    system.remove_view("v")
    assert system.remove_mapped("dm0", deferred=True)
    assert "dm0" not in system.mapped


async def test_a_table_that_is_opened_at_load_may_be_refused_there():
    system = await make_system()
    with pytest.raises(TableError, match="past d1"):
        await system.load_opened("dm0", "0 9999 linear d1 0")
    await system.load_opened("dm0", "0 8 linear d1 0")
    assert system.mapped["dm0"].inactive.is_open

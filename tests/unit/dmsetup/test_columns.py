"""Reports in columns, to the byte."""

import pytest

from fusedm.block.errors import UsageError
from fusedm.dmsetup.columns import Style, report
from fusedm.dmsetup.device import Device
from fusedm.dmsetup.fields import DEFAULT_FIELDS, fields_text, find_fields
from fusedm.dmsetup.options import read_options
from tests.helpers.mapped import mapped, rows

DEVICES = [
    mapped("c", 2, (254, 1), (254, 0), uuid="UUID-c", open_count=2),
    mapped("a", 0, (1, 0), open_count=1),
    mapped("b", 1, (1, 1), open_count=1),
    mapped("z", 5, is_suspended=True, is_read_only=True, is_inactive=True),
]


def told(*words: str, devices: list[Device] = DEVICES) -> str:
    """The report that options ask for."""
    options = read_options(words)
    fields = find_fields(options.values.get("options", "+"), DEFAULT_FIELDS)
    assert fields is not None
    keys, select = options.values.get("sort"), options.values.get("select", "")
    return report(rows(devices), fields, keys, select, Style.of(options))


def test_usual_columns_are_lined_up() -> None:
    assert told() == (
        "Name             Maj Min Stat Open Targ Event  UUID                            \n"
        "a                254   0 L--w    1    1      0                                 \n"
        "b                254   1 L--w    1    1      0                                 \n"
        "c                254   2 L--w    2    1      0 UUID-c                          \n"
        "z                254   5 LIsr    0    1      0                                 \n"
    )


def test_columns_may_be_chosen_or_added() -> None:
    assert told("-o", "name,minor") == (
        "Name             Min\n"
        "a                  0\n"
        "b                  1\n"
        "c                  2\n"
        "z                  5\n"
    )
    assert told("-o", "+blkdevname").splitlines()[1].endswith(" dm-0            ")


def test_all_columns_of_a_section() -> None:
    assert told("-o", "info_all").splitlines()[0] == (
        "BlkDevName       Stat Tables Suspended Read-only DevNo Maj Min Open Targ Event "
    )
    assert told("-o", "deps_all") == (
        "#Devs DevNosUsed       BlkDevNamesUsed \n"
        "    1 1:0              ram0            \n"
        "    1 1:1              ram1            \n"
        "    2 254:1,254:0      dm-1,dm-0       \n"
        "    0                                  \n"
    )
    assert told("-o", "name_all").splitlines()[0] == (
        "Name             MangledName      UnmangledName    UUID                             "
        "MangledUUID                      UnmangledUUID                    RAhead"
    )


def test_what_lies_below_and_above() -> None:
    assert told("-o", "name,devs_used,device_ref_count,names_using_dev,devnos_using_dev") == (
        "Name             DevNamesUsed     #Refs RefNames RefDevNos\n"
        "a                                     1 c        254:2    \n"
        "b                                     1 c        254:2    \n"
        "c                b,a                  0                   \n"
        "z                                     0                   \n"
    )


def test_states_in_words() -> None:
    devices = [
        mapped("l", 0),
        mapped("i", 1, is_live=False, is_inactive=True),
        mapped("n", 2, is_live=False),
        mapped("b", 3, is_inactive=True, is_suspended=True, is_read_only=True),
    ]
    fields = "name,tables_loaded,suspended,readonly,devno,attr"
    assert told("-o", fields, devices=devices) == (
        "Name             Tables   Suspended Read-only DevNo Stat\n"
        "b                Both     Suspended Read-only 254:3 LIsr\n"
        "i                Inactive Active    Writeable 254:1 -I-w\n"
        "l                Live     Active    Writeable 254:0 L--w\n"
        "n                None     Active    Writeable 254:2 ---w\n"
    )


def test_names_of_lvm_have_parts() -> None:
    devices = [mapped("vg-lv", 0, uuid="LVM-x"), mapped("vg-lv2", 1)]
    assert told("-o", "splitname_all", devices=devices) == (
        "Subsys VG   LV   LVLayer\nLVM    vg   lv          \n                        \n"
    )


def test_without_headings_columns_are_separated() -> None:
    assert told("--noheadings", "-o", "name,uuid").splitlines() == ["a:", "b:", "c:UUID-c", "z:"]
    assert told("--noheadings", "--separator", " ", "-o", "name,attr").splitlines()[0] == "a L--w"
    assert told("--separator", ":", "-o", "name,minor").splitlines()[:2] == ["Name:Min", "a:0"]


def test_values_may_have_names() -> None:
    assert told("--nameprefixes", "-o", "name,uuid").splitlines()[:2] == [
        "Name UUID",
        "DM_NAME='a' DM_UUID=''",
    ]
    words = ("--nameprefixes", "--noheadings", "--unquoted", "-o", "name,uuid")
    assert told(*words).splitlines()[2] == "DM_NAME=c:DM_UUID=UUID-c"


def test_rows_may_be_columns() -> None:
    assert told("--rows", "-o", "name,minor") == "Name a b c z\nMin 0 1 2 5\n"
    assert told("--rows", "--noheadings", "-o", "name,minor") == "a:b:c:z\n0:1:2:5\n"


def test_the_order_may_be_chosen() -> None:
    assert told("-O", "-name", "--noheadings", "-o", "name").split() == ["z", "c", "b", "a"]
    assert told("-O", "-open,+minor", "--noheadings", "-o", "name").split() == ["c", "a", "b", "z"]
    assert told("-O", "", "--noheadings", "-o", "name").split() == ["c", "a", "b", "z"]
    with pytest.raises(UsageError, match="^dm_report: Unrecognised field: foo$"):
        told("-O", "foo")


def test_selected_devices_only() -> None:
    assert told("-S", "name=a", "--noheadings", "-o", "name") == "a\n"
    assert told("-S", "name=nosuch") == ""
    assert told("-S", "name=a", "-o", "name,selected") == (
        "Name             Selected\n"
        "a                       1\n"
        "b                       0\n"
        "c                       0\n"
        "z                       0\n"
    )


def test_fields_are_found_however_they_are_written() -> None:
    assert told("-o", "Name,NAME").splitlines()[0] == "Name             Name            "
    assert told("-o", "LVname,uuid").splitlines()[0].startswith("LV   UUID")
    assert told("-o", "").splitlines() == [""] * 5


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(UsageError, match="^Unrecognised field: foo$"):
        find_fields("foo", DEFAULT_FIELDS)


def test_underscores_in_the_name_of_a_field_do_not_matter():
    assert find_fields("lvname,Vg_Name", ()) == find_fields("lv_name,vg_name", ())


def test_the_list_of_fields_may_be_asked_for() -> None:
    assert find_fields("help", DEFAULT_FIELDS) is None
    assert find_fields("name,?", DEFAULT_FIELDS) is None
    assert find_fields("all", DEFAULT_FIELDS) == []
    text = fields_text()
    assert "\n  attr                  - " in text
    assert "\n  info_all              - " in text


def test_a_device_the_kernel_has_no_name_for_is_told_of() -> None:
    with pytest.raises(UsageError) as refused:
        told("-o", "blkdevname", devices=[mapped("n", 3, block_name=None)])
    assert str(refused.value) == (
        "Could not resolve block device name for 254:3.\n"
        "_do_report_object: report function failed for field blkdevname"
    )


def test_read_ahead_is_0_where_nobody_knows_it() -> None:
    assert told("-o", "read_ahead", "--noheadings", devices=[mapped("n", 3, read_ahead=None)]) == (
        "0\n"
    )

"""Device mapper: tables of targets that map the bios of one device onto others.  See README.md."""

from typing import TYPE_CHECKING

from fusedm import door

if TYPE_CHECKING:
    from fusedm.dm.key_rings import announced_keys
    from fusedm.dm.lifecycle import keys_of_targets, open_targets
    from fusedm.dm.mapped_device import MappedDevice
    from fusedm.dm.reading import read_table
    from fusedm.dm.registry import target_class, target_doc, target_names
    from fusedm.dm.stacking import all_below, stack_capabilities, stack_limits
    from fusedm.dm.table import (
        Lookup,
        Namer,
        Table,
        TableEntry,
        check_table,
        format_status,
        format_table,
        name_of,
        parse_table,
        status_lines,
        table_lines,
    )
    from fusedm.dm.target import (
        Action,
        Complete,
        Defer,
        Fail,
        Many,
        Params,
        Remap,
        Script,
        Segment,
        Steps,
        Target,
        Transform,
        Word,
    )

__all__ = [
    "Action",
    "Complete",
    "Defer",
    "Fail",
    "Lookup",
    "Many",
    "MappedDevice",
    "Namer",
    "Params",
    "Remap",
    "Script",
    "Segment",
    "Steps",
    "Table",
    "TableEntry",
    "Target",
    "Transform",
    "Word",
    "all_below",
    "announced_keys",
    "check_table",
    "format_status",
    "format_table",
    "keys_of_targets",
    "name_of",
    "open_targets",
    "parse_table",
    "read_table",
    "stack_capabilities",
    "stack_limits",
    "status_lines",
    "table_lines",
    "target_class",
    "target_doc",
    "target_names",
]

__getattr__ = door(
    __name__,
    {
        "key_rings": "announced_keys",
        "lifecycle": "keys_of_targets open_targets",
        "mapped_device": "MappedDevice",
        "reading": "read_table",
        "registry": "target_class target_doc target_names",
        "stacking": "all_below stack_capabilities stack_limits",
        "table": (
            "Lookup Namer Table TableEntry check_table format_status "
            "format_table name_of parse_table status_lines table_lines"
        ),
        "target": (
            "Action Complete Defer Fail Many Params Remap "
            "Script Segment Steps Target Transform Word"
        ),
    },
)

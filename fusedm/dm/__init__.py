"""Device mapper: tables of targets that map the bios of one device onto others.  See README.md."""

from typing import TYPE_CHECKING

from fusedm import door

if TYPE_CHECKING:
    from fusedm.dm.arguments import Arguments, Lookup
    from fusedm.dm.key_rings import announced_keys
    from fusedm.dm.lifecycle import keys_of_targets, on_trial, open_targets
    from fusedm.dm.mapped_device import MappedDevice
    from fusedm.dm.reading import read_table
    from fusedm.dm.registry import target_class, target_doc, target_names
    from fusedm.dm.signal import Signal
    from fusedm.dm.stacking import all_below, stack_capabilities, stack_limits
    from fusedm.dm.table import (
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
        Each,
        Fail,
        Many,
        Quiesce,
        Remap,
        Script,
        Segment,
        Target,
        Transform,
        Wait,
        Word,
        target_of,
    )
    from fusedm.dm.turns import Steps

__all__ = [
    "Action",
    "Arguments",
    "Complete",
    "Defer",
    "Each",
    "Fail",
    "Lookup",
    "Many",
    "MappedDevice",
    "Namer",
    "Quiesce",
    "Remap",
    "Script",
    "Segment",
    "Signal",
    "Steps",
    "Table",
    "TableEntry",
    "Target",
    "Transform",
    "Wait",
    "Word",
    "all_below",
    "announced_keys",
    "check_table",
    "on_trial",
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
    "target_of",
]

__getattr__ = door(
    __name__,
    {
        "arguments": "Arguments Lookup",
        "key_rings": "announced_keys",
        "lifecycle": "on_trial keys_of_targets open_targets",
        "mapped_device": "MappedDevice",
        "reading": "read_table",
        "registry": "target_class target_doc target_names",
        "signal": "Signal",
        "turns": "Steps",
        "stacking": "all_below stack_capabilities stack_limits",
        "table": (
            "Namer Table TableEntry check_table format_status "
            "format_table name_of parse_table status_lines table_lines"
        ),
        "target": (
            "Action Complete Defer Each Fail Many Quiesce Remap "
            "Script Segment Target Transform Wait Word target_of"
        ),
    },
)

"""Stacks: described in a stack file, built, changed by verbs and saved again; the Python API."""

from typing import TYPE_CHECKING

from fusedm import door

if TYPE_CHECKING:
    from fusedm.stack.engine_secrets import prefixed_source
    from fusedm.stack.engine_spec import EngineSpec, check_source, engine_from
    from fusedm.stack.key_sources import load_bytes, load_key
    from fusedm.stack.save import format_spec
    from fusedm.stack.spec import (
        DiskSpec,
        KeySpec,
        MapperSpec,
        StackSpec,
        ViewSpec,
        parse_spec,
    )
    from fusedm.stack.stack import Stack, check_stack, read_spec

__all__ = [
    "DiskSpec",
    "EngineSpec",
    "KeySpec",
    "MapperSpec",
    "Stack",
    "StackSpec",
    "ViewSpec",
    "prefixed_source",
    "check_source",
    "check_stack",
    "engine_from",
    "format_spec",
    "load_bytes",
    "load_key",
    "parse_spec",
    "read_spec",
]

__getattr__ = door(
    __name__,
    {
        "engine_secrets": "prefixed_source",
        "engine_spec": "EngineSpec check_source engine_from",
        "key_sources": "load_bytes load_key",
        "save": "format_spec",
        "spec": "DiskSpec KeySpec MapperSpec StackSpec ViewSpec parse_spec",
        "stack": "Stack check_stack read_spec",
    },
)

"""A spec written back as a stack file. Key bytes are in no spec, so none can get into the file."""

from collections.abc import Iterable, Iterator
from dataclasses import fields

from fusedm.block.units import format_size
from fusedm.crypto import EngineFaults, Fault
from fusedm.stack.engine_spec import EngineSpec
from fusedm.stack.spec import SECTIONS, Item, StackSpec
from fusedm.stack.toml_lines import format_key, format_string


def format_spec(spec: StackSpec) -> str:
    """The text of a stack file that parse_spec reads as an equal spec; defaults are left out."""
    rules = [(name, getattr(spec, name)) for name in ("strict", "hot_add")]
    told = [f"{name} = {format_string(rule)}" for name, rule in rules if rule]
    parts = ["\n".join([f"version = {spec.version}", *told])]
    for section in SECTIONS:
        items: dict[str, Item] = getattr(spec, section)
        for name, item in items.items():
            lines = [f"{key} = {_format(value)}" for key, value in _settings(item)]
            parts.append("\n".join([f"[{section}.{format_key(name)}]", *lines]))
    return "\n\n".join(parts) + "\n"


def _settings(item: Item | EngineSpec | EngineFaults | Fault) -> Iterator[tuple[str, object]]:
    """What an item's table says: every field that has no default or another value than it."""
    for known in fields(item):
        value = getattr(item, known.name)
        if known.name in ("name", "line") or value is None or value == known.default:
            continue
        yield known.name, format_size(value) if known.name in ("size", "start") else value


def _format(value: object) -> str:
    """A value in TOML."""
    if isinstance(value, EngineSpec):
        if value.profile is not None and value == EngineSpec(profile=value.profile):
            return _format_text(value.profile)
        return _inline(_settings(value))
    if isinstance(value, EngineFaults | Fault):
        return _inline(_settings(value))
    if isinstance(value, list):
        return f"[{', '.join(map(_format, value))}]"
    if isinstance(value, dict):
        return _inline(value.items())
    if isinstance(value, str):
        return _format_text(value)
    # Numbers look the same in both languages; true and false do not.
    return str(value).lower()


def _inline(pairs: Iterable[tuple[str, object]]) -> str:
    """An inline table."""
    return "{ " + ", ".join(f"{format_key(key)} = {_format(value)}" for key, value in pairs) + " }"


def _format_text(text: str) -> str:
    """A string, over several lines if it has several."""
    if "\n" not in text:
        return format_string(text)
    lines = (format_string(line)[1:-1] for line in text.split("\n"))
    return '"""\n' + "\n".join(lines) + '"""'

"""The engine of a disk as stack files and verbs tell it: a profile's name, numbers, or both. Pure.

Only what is given is kept, so that a saved engine says no more than the one that was read.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields

from fusedm.block import Capabilities, KeyType
from fusedm.block.errors import CryptoError, StackError
from fusedm.crypto import (
    BARE,
    FAULT_KINDS,
    MAX_KEYSLOTS,
    EngineFaults,
    EngineProfile,
    Fault,
    engine_profile,
)
from fusedm.stack.toml_lines import SourceText, TomlTable

_SOURCE = re.compile(r"random|(?:file|keyring):[^\0]+|env:[^\0=]+|fd:[0-9]{1,9}")
_HEX = re.compile(r"hex:.*|(?:0x)?[0-9A-Fa-f]{16,}\s*", re.DOTALL)

#: Programming takes microseconds in hardware; a minute is long enough to watch.
MAX_PROGRAM_LATENCY_MS = 60_000


@dataclass(frozen=True)
class EngineSpec:
    """An inline engine: a profile, and numbers that are not the profile's; without one all of them.

    modes gives each mode's data unit sizes. secret is the source of the long-term secret that keys
    are wrapped with; without, it is in a file beside the stack file, made when it is needed first.
    """

    keyslots: int | None = None
    max_dun_bytes: int | None = None
    modes: dict[str, list[int]] | None = None
    profile: str | None = None
    key_types: list[str] | None = None
    program_latency_ms: int = 0
    secret: str | None = None
    faults: EngineFaults | None = None

    def numbers(self) -> EngineProfile:
        """All numbers of the engine.

        Raises: CryptoError(EINVAL) that begins with the name of the argument.
        """
        if self.profile is None:
            for name in ("keyslots", "max_dun_bytes", "modes"):
                if getattr(self, name) is None:
                    raise CryptoError(f"{name} is missing: an engine without a profile needs it")
        latency = self.program_latency_ms
        if not 0 <= latency <= MAX_PROGRAM_LATENCY_MS:
            raise CryptoError(f"program_latency_ms {latency} is not in 0..{MAX_PROGRAM_LATENCY_MS}")
        base = BARE if self.profile is None else engine_profile(self.profile)
        types = None if self.key_types is None else parse_key_types(self.key_types)
        return base.having(self.keyslots, self.max_dun_bytes, self.modes, types)

    @property
    def takes_wrapped_keys(self) -> bool:
        """Whether it needs a key manager."""
        return KeyType.HW_WRAPPED in self.numbers().key_types


def check_source(source: str) -> None:
    """Refuse what does not name a source of key bytes; it is not repeated, since it may be a key.

    Raises: StackError(EINVAL).
    """
    if _HEX.fullmatch(source):
        raise StackError(
            "a key is not written out here, where it would be copied, shown and logged: "
            "use file:PATH, env:NAME, fd:N, keyring:DESC or random"
        )
    if not _SOURCE.fullmatch(source):
        raise StackError(
            "not a source of a key: use file:PATH, env:NAME, fd:N, keyring:DESC or random"
        )


def parse_key_type(word: str) -> KeyType:
    """A type of key by its name.

    Raises: CryptoError(EINVAL) for an unknown name.
    """
    known = [key_type.value for key_type in KeyType]
    if word not in known:
        raise CryptoError(f"type {word!r} is unknown: the types are {', '.join(known)}")
    return KeyType(word)


def parse_key_types(words: Sequence[str]) -> list[KeyType]:
    """Types of keys by their names.

    Raises: CryptoError(EINVAL) for an unknown name, or none.
    """
    known = [key_type.value for key_type in KeyType]
    for word in words:
        if word not in known:
            raise CryptoError(f"key_types {word!r} is unknown: they are {', '.join(known)}")
    if not words:
        raise CryptoError(f"key_types is empty: give one or more of {', '.join(known)}")
    return [KeyType(word) for word in words]


def parse_engine(parent: TomlTable, key: str) -> EngineSpec:
    """The engine that is the value of a key: a string or a table.

    Raises: SpecError at the argument it is about.
    """
    if isinstance(parent.values[key], str):
        spec = EngineSpec(profile=parent.need(key, str))
        with parent.locating(key):
            spec.numbers()
        return spec
    table = parent.table(key)
    table.only([known.name for known in fields(EngineSpec)])
    profile = table.get("profile", str)
    if profile is not None:
        with table.locating("profile"):
            engine_profile(profile)
    is_given = {name for name in ("keyslots", "max_dun_bytes", "modes") if name in table.values}
    spec = EngineSpec(
        _keyslots(table) if profile is None or "keyslots" in is_given else None,
        _max_dun_bytes(table) if profile is None or "max_dun_bytes" in is_given else None,
        _modes(table) if profile is None or "modes" in is_given else None,
        profile,
        _words(table, "key_types"),
        table.get("program_latency_ms", int) or 0,
        table.get("secret", str),
        _faults(table.table("faults")) if "faults" in table.values else None,
    )
    if spec.secret is not None:
        with table.locating("secret", hide=True):
            check_source(spec.secret)
    try:
        spec.numbers()
    except CryptoError as error:
        # The message begins with the name of the argument.
        raise table.error(str(error).split()[0], str(error)) from None
    return spec


def engine_from(told: object) -> EngineSpec:
    """The engine of a JSON value, which has the shape of a stack file's.

    Raises: SpecError naming the argument.
    """
    return parse_engine(TomlTable(SourceText("disk.add", ""), (), {"engine": told}), "engine")


def _keyslots(table: TomlTable) -> int:
    keyslots = table.need("keyslots", int)
    if not 0 <= keyslots <= MAX_KEYSLOTS:
        raise table.error("keyslots", f"{keyslots} is not in 0..{MAX_KEYSLOTS}")
    return keyslots


def _max_dun_bytes(table: TomlTable) -> int:
    max_dun_bytes = table.need("max_dun_bytes", int)
    with table.locating("max_dun_bytes"):
        Capabilities.of({}, max_dun_bytes)
    return max_dun_bytes


def _modes(table: TomlTable) -> dict[str, list[int]]:
    modes = table.table("modes")
    return {mode: _data_unit_sizes(modes, mode) for mode in modes.values}


def _data_unit_sizes(modes: TomlTable, mode: str) -> list[int]:
    with modes.locating(mode, at_key=True):
        Capabilities.of({mode: ()}, 1)
    array = modes.array(mode)
    sizes = [array.need(index, int) for index in array.values]
    for index, size in enumerate(sizes):
        with array.locating(index):
            Capabilities.of({mode: [size]}, 1)
    return sizes


def _faults(table: TomlTable) -> EngineFaults:
    table.only([known.name for known in fields(EngineFaults)])
    kinds = {kind: _fault(table.table(kind)) for kind in FAULT_KINDS if kind in table.values}
    return EngineFaults(table.get("seed", int) or 0, **kinds)


def _fault(table: TomlTable) -> Fault:
    table.only([known.name for known in fields(Fault)])
    if not table.values:
        raise table.source.error(table.path, "give nth, probability or both")
    kind = int if type(table.values.get("probability")) is int else float
    nth, probability = table.get("nth", int), table.get("probability", kind)
    with table.locating("nth"):
        Fault(nth or 0)
    with table.locating("probability"):
        return Fault(nth or 0, float(probability or 0))


def _words(table: TomlTable, key: str) -> list[str] | None:
    if key not in table.values:
        return None
    array = table.array(key)
    return [array.need(index, str) for index in array.values]

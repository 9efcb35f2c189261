"""Why a device is native or not: what it can do, what it cannot and who is to blame, and where.

Pure: from a system to facts that JSON can say. Nothing is started, counted or loaded; a table that
is only asked about is parsed against the system as it is.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import Any

from fusedm.block import MODES, NO_DATA, BlockDevice, CryptoConfig, KeyType, Op
from fusedm.block.capabilities import ALL_DATA_UNIT_SIZES, data_unit_sizes
from fusedm.block.errors import CryptoError, TableError
from fusedm.block.units import SECTOR_SHIFT
from fusedm.disk import Disk
from fusedm.dm import MappedDevice, Table, announced_keys, read_table
from fusedm.inspect.extents import NATIVE, extents, native_sectors
from fusedm.inspect.sight import Obstacle, Sight
from fusedm.system import System, View

Json = dict[str, Any]

#: What a key usually has: asked about where only mode and size are given.
USUAL_DUN_BYTES = 8
_KEY_TYPES = {one.value: one for one in KeyType}


def parse_config(text: str) -> CryptoConfig:
    """The config that MODE/SIZE, MODE/SIZE/DUN_BYTES, or either of them with a type of key names.

    Raises: CryptoError.
    """
    mode, *words = text.split("/")
    key_type = KeyType.RAW
    if words and words[-1] in _KEY_TYPES:
        key_type = _KEY_TYPES[words.pop()]
    if not 1 <= len(words) <= 2 or not all(word.isascii() and word.isdigit() for word in words):
        raise CryptoError(f"{text!r} is not MODE/SIZE[/DUN_BYTES][/{'|'.join(_KEY_TYPES)}]")
    size, dun_bytes = int(words[0]), int(words[1]) if words[1:] else USUAL_DUN_BYTES
    return CryptoConfig(mode, size, dun_bytes, key_type)


def why(system: System, name: str, wanted: CryptoConfig | None = None) -> Json:
    """What a device or view can do natively, what not and why, and where contexts are honoured.

    Raises: StackError(ENXIO).
    """
    view, sight = system.view(name), Sight()
    device = view.device
    begin = view.bio(Op.READ, 0, NO_DATA).sector
    end = begin + (view.size >> SECTOR_SHIFT) if view.key is not None else device.sector_count
    configs = [wanted] if wanted is not None else _configs(system, view)
    places = {config: extents(sight, device, config, begin, end) for config in configs}
    return {
        "name": name,
        "device": device.name,
        "key": view.key.name if view.key is not None else None,
        "start": begin,
        "sectors": end - begin,
        "native": {mode: data_unit_sizes(mask) for mode, mask in device.capabilities.modes.items()},
        "max_dun_bytes": device.capabilities.max_dun_bytes,
        "key_types": sorted(one.value for one in device.capabilities.key_types),
        "missing": _missing(sight, device, _asked_about(view, wanted)),
        "configs": [
            {
                **_words(config),
                "native": all(one.how == NATIVE for one in found),
                "extents": [asdict(one) for one in found],
            }
            for config, found in places.items()
        ],
    }


def swap(system: System, name: str, table_text: str, clock: Callable[[], float]) -> Json:
    """What a mapped device, and those above it, would gain and lose by another table.

    refused is why a load would refuse it all the same: strict mode, or a wrapped key in use.
    Raises: TableError for what is no table for that device; StackError(ENXIO).
    """
    device = system.mapped_device(name)
    table = read_table(table_text, system.device, clock, read_keys=announced_keys)
    if device in _below(table.devices()):
        raise TableError(0, "", f"{name} would lie below itself (a cycle)")
    now, then = Sight(), Sight({device: table})
    told: Json = {
        "name": name,
        "sectors": [device.sector_count, table.sector_count],
        "refused": _refusal(system, device, table),
        "devices": [],
        "views": [],
    }
    for changed in _above(device):
        gained, lost = [], []
        for config in _all_configs(_below([changed, *table.devices()])):
            before, after = now.obstacles(changed, config), then.obstacles(changed, config)
            if before and not after:
                gained.append((config, before))
            elif after and not before:
                lost.append((config, after))
        told["devices"].append(
            {"name": changed.name, "gained": _grouped(gained), "lost": _grouped(lost)}
        )
        for view in system.views.values():
            if view.device is changed and view.key is not None:
                told["views"].append(_of_view(view, view.key.config, now, then))
    return told


def _refusal(system: System, device: MappedDevice, table: Table) -> str | None:
    """Why a load would be refused, if it would."""
    used = {view.key for view in system.views.values() if device in _below([view.device])}
    wrapped = [key for key in used if key is not None and key.config.is_wrapped]
    try:
        device.check_load(table, device.is_table_read_only)
        for leaf in _below(table.devices()):
            for key in wrapped if isinstance(leaf, Disk) else ():
                if leaf.capabilities.supports(key.config):
                    leaf.start_using_key(key)  # With a wrapped key a leaf only looks.
    except (TableError, CryptoError) as error:
        return str(error)
    return None


def loses(told: Json) -> bool:
    """Whether what swap has told loses anything, or would be refused."""
    if told["refused"] is not None:
        return True
    fewer = any(view["native_sectors"][1] < view["native_sectors"][0] for view in told["views"])
    return fewer or any(device["lost"] for device in told["devices"])


def _of_view(view: View, config: CryptoConfig, now: Sight, then: Sight) -> Json:
    begin = view.bio(Op.READ, 0, NO_DATA).sector
    end: int | None = begin + (view.size >> SECTOR_SHIFT)
    if begin + ((view.size + view.block_size) >> SECTOR_SHIFT) > view.device.sector_count:
        end = None  # It reaches to the end of its device, wherever that will be.
    before = extents(now, view.device, config, begin, end)
    after = extents(then, view.device, config, begin, end)
    return {
        "name": view.name,
        **_words(config),
        "native_sectors": [native_sectors(before), native_sectors(after)],
        "extents": [asdict(one) for one in after],
    }


def _configs(system: System, view: View) -> list[CryptoConfig]:
    """What is in use on a device or above it; else what any device below can do."""
    if view.key is not None:
        return [view.key.config]
    used = [
        above.key.config
        for above in system.views.values()
        if above.key is not None and view.device in _below([above.device])
    ]
    below = _below([view.device])
    possible = [
        config
        for config in _all_configs(below)
        if any(one.capabilities.supports(config) for one in below)
    ]
    return list(dict.fromkeys(used or possible))


def _all_configs(devices: Iterable[BlockDevice]) -> Iterator[CryptoConfig]:
    """Every mode with every data unit size, and so few DUN bytes that they do not matter.

    Wrapped keys are only asked about where one of the devices takes such.
    """
    taken = {KeyType.RAW, *(one for device in devices for one in device.capabilities.key_types)}
    for key_type in KeyType:
        for mode in MODES if key_type in taken else ():
            for size in data_unit_sizes(ALL_DATA_UNIT_SIZES):
                yield CryptoConfig(mode, size, 1, key_type)


def _asked_about(view: View, wanted: CryptoConfig | None) -> Iterable[CryptoConfig]:
    """What may be missing: a config that is asked about, what a view's mode has, or everything."""
    if wanted is not None:
        return [wanted]
    every = _all_configs(_below([view.device]))
    if view.key is None:
        return every
    own = view.key.config
    sizes = data_unit_sizes(ALL_DATA_UNIT_SIZES)
    return [CryptoConfig(own.mode, size, 1, own.key_type) for size in sizes]


def _missing(sight: Sight, device: BlockDevice, configs: Iterable[CryptoConfig]) -> list[Json]:
    found = ((config, sight.obstacles(device, config)) for config in configs)
    return _grouped([(config, obstacles) for config, obstacles in found if obstacles])


def _grouped(found: Iterable[tuple[CryptoConfig, list[Obstacle]]]) -> list[Json]:
    """Configs of one mode with the same obstacles together, for each type of key or for all."""
    sizes: dict[tuple[str, KeyType, tuple[Obstacle, ...]], list[int]] = defaultdict(list)
    for config, obstacles in found:
        sizes[config.mode, config.key_type, tuple(obstacles)].append(config.data_unit_size)
    groups: dict[tuple[str, tuple[int, ...], tuple[Obstacle, ...]], list[str]] = defaultdict(list)
    for (mode, key_type, obstacles_there), some in sizes.items():
        groups[mode, tuple(some), obstacles_there].append(key_type.value)
    return [
        {
            "mode": mode,
            "key_types": key_types,
            "sizes": list(some),
            "obstacles": [asdict(one) for one in obstacles_there],
        }
        for (mode, some, obstacles_there), key_types in groups.items()
    ]


def _words(config: CryptoConfig) -> Json:
    return {
        "mode": config.mode,
        "data_unit_size": config.data_unit_size,
        "dun_bytes": config.dun_bytes,
        "key_types": [config.key_type.value],
    }


def _below(devices: Iterable[BlockDevice]) -> list[BlockDevice]:
    """The devices and everything under them, each once."""
    return _closure(devices, lambda device: device.underlying())


def _above(device: BlockDevice) -> list[BlockDevice]:
    """A device and every mapped device over it, each once."""
    return _closure([device], lambda each: each.holders)


def _closure(
    devices: Iterable[BlockDevice], step: Callable[[BlockDevice], Iterable[BlockDevice]]
) -> list[BlockDevice]:
    found: dict[BlockDevice, None] = dict.fromkeys(devices)
    to_visit = list(found)
    while to_visit:
        new = [device for device in step(to_visit.pop()) if device not in found]
        found.update(dict.fromkeys(new))
        to_visit += new
    return list(found)

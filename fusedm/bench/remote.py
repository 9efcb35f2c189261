"""A disk of ours that is an export of an NBD server, and others' mounts of the same server.

The server is nbdkit, in memory, as near as it can be and some milliseconds away.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from fusedm.bench.entrants import Entrant, block_figure, fill, one_device
from fusedm.bench.ours import file_of
from fusedm.bench.place import Place
from fusedm.control import Client
from fusedm.host.mounts import mount_at

#: How far away the server is, in milliseconds.
DISTANCES_MS = (0, 1, 10)


def remote_entrants() -> list[Entrant]:
    """Ours, nbdfuse and QEMU's storage daemon at each distance; the server fills memory once."""
    entrants = []
    for distance_ms in DISTANCES_MS:
        for name, bring, program in (
            ("nbd-store", _ours, "nbdkit"),
            ("nbdfuse", _nbdfuse, "nbdfuse"),
            ("qemu-nbd", _qemu, "qemu-storage-daemon"),
        ):
            size = one_device if bring is _ours else _nothing
            needs = tuple(dict.fromkeys(("nbdkit", program)))
            full_name = f"{name}-{distance_ms}ms"
            brought = partial(_brought, bring, full_name, distance_ms)
            entrants.append(Entrant(full_name, brought, block_figure, size, needs))
    return entrants


def _nothing(place: Place) -> int:
    return 0


def _brought(
    bring: Callable[[Place, str, Path], str], name: str, distance_ms: int, place: Place
) -> str:
    path = bring(place, name, _server(place, distance_ms))
    fill(path, place.size)
    return path


def _server(place: Place, distance_ms: int) -> Path:
    """The socket of the server that is so far away, started the first time."""
    socket = place.folder / f"nbd-{distance_ms}ms.sock"
    if not socket.exists():
        late = ("--filter=delay",) if distance_ms else ()
        delays = (f"rdelay={distance_ms}ms", f"wdelay={distance_ms}ms") if distance_ms else ()
        command = ("nbdkit", "--exit-with-parent", "-f", "-U", str(socket))
        server = place.children.start(
            *command, *late, "memory", str(place.size), *delays, log=socket.with_suffix(".log")
        )
        server.wait_until(socket.exists)
    return socket


def _ours(place: Place, name: str, socket: Path) -> str:
    store = f"nbd+unix:///?socket={socket}"
    with Client(str(place.mount_point)) as client:
        client.call("disk.add", name=name, store=store, size=place.size)
    return file_of(place, "disks", name)


def _nbdfuse(place: Place, name: str, socket: Path) -> str:
    path = _file(place, name)
    return _mounted(place, path, "nbdfuse", str(path), f"nbd+unix:///?socket={socket}")


def _qemu(place: Place, name: str, socket: Path) -> str:
    path = _file(place, name)
    node = f"driver=nbd,node-name=top,server.type=unix,server.path={socket}"
    export = f"type=fuse,id=export,node-name=top,mountpoint={path},writable=on"
    return _mounted(place, path, "qemu-storage-daemon", "--blockdev", node, "--export", export)


def _file(place: Place, name: str) -> Path:
    path = place.folder / f"{name}.file"
    path.touch()
    return path


def _mounted(place: Place, path: Path, *command: str) -> str:
    child = place.children.start(*command, log=path.with_suffix(".log"))
    child.wait_until(lambda: mount_at(str(path)) is not None)
    return str(path)

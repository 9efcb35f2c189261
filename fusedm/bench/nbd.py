"""NBD servers by fio's NBD engine: an export of ours, nbdkit's memory plugin, and QEMU's server."""

from pathlib import Path
from urllib.parse import quote

from fusedm.bench.entrants import Entrant, one_device
from fusedm.bench.fio import parse_fio
from fusedm.bench.jobs import Job
from fusedm.bench.peers import raw_image
from fusedm.bench.place import Place
from fusedm.bench.processes import run_tied
from fusedm.control import Client

#: The disk in memory that is exported.
_DISK = "export"


def nbd_entrants() -> list[Entrant]:
    """All who are measured over NBD."""
    return [
        Entrant("nbd-export", _ours, _figure, one_device),
        Entrant("nbdkit-memory", _nbdkit, _figure, one_device, ("nbdkit",)),
        Entrant("qemu-nbd", _qemu, _figure, one_device, ("qemu-nbd",)),
    ]


def _figure(place: Place, job: Job, path: str, seconds: float) -> float:
    command = (
        # fio knows the option of an engine only behind the engine.
        "fio", "--ioengine=nbd", f"--uri={path}", f"--runtime={round(seconds * 1000)}ms",
        f"--size={place.size}", "--output-format=json", f"--aux-path={place.folder}", str(job.file),
    )  # fmt: skip
    return parse_fio(run_tied(*command)).figure(job.unit)


def _ours(place: Place) -> str:
    socket = place.folder / "nbd-export.sock"
    with Client(str(place.mount_point)) as client:
        client.call("disk.add", name=_DISK, store="memory:", size=place.size)
        client.call("nbd.serve", names=[_DISK], socket=str(socket))
    return _filled(place, socket, _DISK)


def _nbdkit(place: Place) -> str:
    return _served(place, "nbdkit-memory", "nbdkit", "-f", "memory", str(place.size), "-U")


def _qemu(place: Place) -> str:
    image = raw_image(place, "qemu-nbd", place.size)
    words = ("qemu-nbd", "--persistent", "--shared=16", "-f", "raw", str(image), "-k")
    return _served(place, "qemu-nbd", *words)


def _served(place: Place, name: str, *command: str) -> str:
    """A server that is told its socket last."""
    socket = place.folder / f"{name}.sock"
    child = place.children.start(*command, str(socket), log=socket.with_suffix(".log"))
    child.wait_until(socket.exists)
    return _filled(place, socket, "")


def _filled(place: Place, socket: Path, export: str) -> str:
    """The URI of a server that has all of its data written once."""
    uri = f"nbd+unix:///{quote(export)}?socket={quote(str(socket))}"
    run_tied(
        "fio", "--name=fill", "--ioengine=nbd", f"--uri={uri}", "--rw=write", "--bs=1M",
        f"--size={place.size}", f"--aux-path={place.folder}",
    )  # fmt: skip
    return uri

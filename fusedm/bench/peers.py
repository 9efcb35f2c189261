"""The other side: QEMU's storage daemon and nbdkit behind nbdfuse, and what limits everybody.

The passphrase of LUKS is in a file that only its owner may read, and on no command line.
"""

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from fusedm.bench.entrants import Entrant, block_figure, fill, one_device, settled_figure
from fusedm.bench.jobs import Job
from fusedm.bench.place import Place
from fusedm.bench.processes import run_tied
from fusedm.block.errors import StackError
from fusedm.host import loop
from fusedm.host.mounts import mount_at

QEMU = ("qemu-storage-daemon", "qemu-img")
NBD = ("nbdfuse", "nbdkit")

#: What LUKS takes to derive its key, in milliseconds: it is no part of what is measured.
_LUKS_ITER_MS = 10
#: On a busy machine qemu-img may not be able to tell how long that takes, and gives up.
_LUKS_TRIES = 5
#: openssl takes whole seconds only.
_OPENSSL_SECONDS = 1


def peer_entrants() -> list[Entrant]:
    """All that ours is compared with, but for file systems."""
    return [
        _qemu("qemu-raw", _serve_qemu_raw, QEMU[:1]),
        _qemu("qemu-luks", serve_qemu_luks, QEMU),
        _qemu("qemu-raw-disk", _serve_qemu_raw, QEMU[:1], on_disk=True),
        _qemu("qemu-luks-disk", serve_qemu_luks, QEMU, on_disk=True),
        Entrant("nbd-memory", _nbd_memory, block_figure, one_device, NBD),
        Entrant("nbd-file", _nbd_file, block_figure, one_device, NBD),
        Entrant("nbd-luks", _nbd_luks, block_figure, one_device, (*NBD, "qemu-img")),
        Entrant("store-loop", _store_loop, block_figure, one_device, ("losetup",), needs_root=True),
        _openssl(512),
        _openssl(4096),
    ]


def _serve_qemu_raw(place: Place, name: str, size: int, on_disk: bool) -> str:
    image = raw_image(place, name, size, on_disk)
    blockdev = f"driver=file,node-name=top,filename={image}"
    return _serve_qemu(place, name, "--blockdev", blockdev)


def serve_qemu_luks(place: Place, name: str, size: int, on_disk: bool) -> str:
    """A new LUKS image in QEMU's storage daemon; the file where it is seen decrypted.

    Raises: StackError if it cannot be served.
    """
    image = _luks_image(place, name, size, on_disk)
    secret = f"secret,id=secret,file={passphrase_file(place)}"
    return _serve_qemu(
        place, name, "--object", secret,
        "--blockdev", f"driver=file,node-name=file,filename={image}",
        "--blockdev", "driver=luks,node-name=top,file=file,key-secret=secret",
    )  # fmt: skip


def _qemu(
    name: str,
    serve: Callable[[Place, str, int, bool], str],
    needs: tuple[str, ...],
    on_disk: bool = False,
) -> Entrant:
    def bring(place: Place) -> str:
        return _filled(place, serve(place, name, place.size, on_disk))

    figure = settled_figure if on_disk else block_figure
    return Entrant(name, bring, figure, one_device, needs, on_disk=on_disk)


def _nbd_memory(place: Place) -> str:
    return _serve_nbd(place, "nbd-memory", "memory", str(place.size))


def _nbd_file(place: Place) -> str:
    return _serve_nbd(place, "nbd-file", "file", str(raw_image(place, "nbd-file", place.size)))


def _nbd_luks(place: Place) -> str:
    image = _luks_image(place, "nbd-luks", place.size, on_disk=False)
    passphrase = f"passphrase=+{passphrase_file(place)}"
    return _serve_nbd(place, "nbd-luks", "--filter=luks", "file", str(image), passphrase)


def _store_loop(place: Place) -> str:
    image = raw_image(place, "store-loop", place.size)
    fill(str(image), place.size)
    return loop.attach(str(image), 4096).node


def _serve_qemu(place: Place, name: str, *nodes: str) -> str:
    path = place.folder / f"{name}.file"
    path.touch()
    export = f"type=fuse,id=export,node-name=top,mountpoint={path},writable=on"
    return _serve(place, path, "qemu-storage-daemon", *nodes, "--export", export)


def _serve_nbd(place: Place, name: str, *nbdkit: str) -> str:
    path = place.folder / f"{name}.file"
    path.touch()
    server = ("nbdkit", "--single", "--exit-with-parent", *nbdkit)
    return _filled(place, _serve(place, path, "nbdfuse", str(path), "--command", *server))


def _serve(place: Place, path: Path, *command: str) -> str:
    child = place.children.start(*command, log=path.with_suffix(".log"))
    child.wait_until(lambda: mount_at(str(path)) is not None)
    return str(path)


def _filled(place: Place, path: str) -> str:
    fill(path, place.size)
    return path


def raw_image(place: Place, name: str, size: int, on_disk: bool = False) -> Path:
    """A new image that is all holes."""
    image = place.store_folder(on_disk) / f"{name}.img"
    image.touch()
    os.truncate(image, size)
    return image


def _luks_image(place: Place, name: str, size: int, on_disk: bool) -> Path:
    image = place.store_folder(on_disk) / f"{name}.img"
    command = (
        "qemu-img", "create", "-q", "-f", "luks",
        "--object", f"secret,id=secret,file={passphrase_file(place)}",
        "-o", f"key-secret=secret,iter-time={_LUKS_ITER_MS}", str(image), str(size),
    )  # fmt: skip
    for tries_left in reversed(range(_LUKS_TRIES)):
        try:
            run_tied(*command)
            break
        except StackError:
            if not tries_left:
                raise
    return image


def passphrase_file(place: Place) -> Path:
    """A file with the passphrase of this run, made the first time it is asked for."""
    path = place.folder / "passphrase"
    if not path.exists():
        path.touch(mode=0o600, exist_ok=False)
        path.write_text(secrets.token_hex(32))
    return path


def _openssl(unit: int) -> Entrant:
    """What one core can encrypt at best, in pieces of a data unit; reads and writes alike."""

    def measure(place: Place, job: Job, path: str, seconds: float) -> float:
        return parse_openssl(
            run_tied(
                "openssl", "speed", "-mr", "-elapsed", "-seconds", str(_OPENSSL_SECONDS),
                "-bytes", str(unit), "-evp", "aes-256-xts",
            )
        )  # fmt: skip

    return Entrant(f"openssl-{unit}", lambda place: "", measure, lambda place: 0, ("openssl",))


def parse_openssl(output: str) -> float:
    """MiB a second of what `openssl speed -mr` prints: "+F:22:AES-256-XTS:5440876000.00".

    Raises: StackError for anything else.
    """
    for line in output.splitlines():
        words = line.split(":")
        if words[0] == "+F":
            try:
                return float(words[-1]) / (1 << 20)
            except ValueError:
                break
    raise StackError(f"openssl printed no result: {output.strip()[:200]!r}")

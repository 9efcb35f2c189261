"""Where the time of one 4 KiB request goes, measured from outside.

The same small loop of preadv and pwritev runs on the store file itself, and on the disk, the linear
device and the view that lie over it. What one takes more than the next below it is the layer's.
"""

import mmap
import os
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from fusedm.bench.contest import rotated
from fusedm.bench.entrants import fill
from fusedm.bench.figures import differences
from fusedm.bench.ours import DEVICES, file_of, start_stack
from fusedm.bench.place import Place
from fusedm.bench.record import Figure

BLOCK = 4096
#: The clock is looked at once in so many requests.
BATCH = 32

#: From the store up; each is what the one before it is, and one layer more.
CHAIN = ("store", "disk", "linear", "view")
#: A layer, and what it is the difference of.
LAYERS = (("FUSE", "disk", "store"), ("mapping", "linear", "disk"), ("crypto", "view", "linear"))
REQUESTS = ("read", "write")


def measure_layers(place: Place, rounds: int, seconds: float) -> list[Figure]:
    """Microseconds of a request at each place of the chain, and of each layer, for each round.

    Raises: FusedmError if the stack does not come up.
    """
    start_stack(place)
    view = next(device for device in DEVICES if device.name == "view4096")
    paths = {
        "store": str(place.folder / f"{view.disk()}.img"),
        "disk": file_of(place, "disks", view.disk()),
        "linear": file_of(place, "mapper", view.mapped),
        "view": view.path(place),
    }
    fill(paths["view"], place.size)
    measured: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds):
        for request in REQUESTS:
            for name in rotated(CHAIN, number):
                place.say.moving(f"round {number + 1}, {request}: {name}", number, rounds)
                figure = request_us(Path(paths[name]), request, place.size, seconds)
                measured.setdefault((request, name), []).append(figure)
        place.say.line(f"round {number + 1} of {rounds} done")
    return layer_figures(measured)


def layer_figures(measured: Mapping[tuple[str, str], Sequence[float]]) -> list[Figure]:
    """The figures of what was measured: the layers from the store up, then all of it."""
    found = []
    for request in REQUESTS:
        rounds = {name: measured[request, name] for name in CHAIN}
        layers = [("store", rounds["store"])]
        layers += [(name, differences(rounds[a], rounds[b])) for name, a, b in LAYERS]
        layers += [("all, at the view", rounds["view"])]
        job = f"{request} 4 KiB, depth 1"
        found += [Figure(job, name, "us", list(figures)) for name, figures in layers]
    return found


def request_us(path: Path, request: str, size: int, seconds: float) -> float:
    """Microseconds of one request of 4 KiB at random places, one after the other.

    The store is used as the daemon uses it, through the page cache that tmpfs is; FUSE directly.
    """
    direct = 0 if path.suffix == ".img" else os.O_DIRECT
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | direct)
    call = os.preadv if request == "read" else os.pwritev
    picked = random.Random(7)
    places = [picked.randrange(size // BLOCK) * BLOCK for _ in range(1024)]
    try:
        # Memory of its own, since it begins on a page.
        with mmap.mmap(-1, BLOCK) as buffer:
            buffers = [buffer]
            count, begin = 0, time.perf_counter()
            while (passed := time.perf_counter() - begin) < seconds or not count:
                for offset in range(count, count + BATCH):
                    call(fd, buffers, places[offset % 1024])
                count += BATCH
            return passed / count * 1e6
    finally:
        os.close(fd)

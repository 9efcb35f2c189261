"""Serves two disks, one of which hangs when told so.

`python -m tests.helpers.hanging_stack MOUNTPOINT [--no-lane]`.

Lines of standard input are the orders: hold, release. Their end, and nothing else, ends the mount.
"""

import signal
import sys
from pathlib import Path

import trio

from fusedm.disk import Disk
from fusedm.fuse import serve
from fusedm.host.kernel_mount import MountOptions
from fusedm.stores import FaultyStore, MemoryStore
from fusedm.system import System

SIZE_BYTES = 1 << 20


async def main(mount_point: Path, options: MountOptions) -> None:
    """Serve until the orders end."""
    store = FaultyStore(MemoryStore(SIZE_BYTES), seed=0)
    system = System()
    system.add_disk(Disk("hanging", store))
    system.add_disk(Disk("sound", MemoryStore(SIZE_BYTES)))
    orders = {"hold": store.hold, "release": store.release}
    stopping = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, system, mount_point, options, stopping)
        print(f"READY {mount_point}", flush=True)
        async for line in trio.wrap_file(sys.stdin):
            orders[line.strip()]()
            print("done", flush=True)
        store.release()
        stopping.set()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    trio.run(main, Path(sys.argv[1]), MountOptions(lane="--no-lane" not in sys.argv))

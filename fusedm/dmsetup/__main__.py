"""What runs behind dmsetup: `python -m fusedm.dmsetup DEV_DIR [NAME]`, started by session.py.

Without a name it starts the daemon, or the server, or both; with one it waits until that device is
in use no more.
"""

import sys

from fusedm.block.errors import FusedmError
from fusedm.control import stack_at
from fusedm.dmsetup.deferred import remove_when_unused
from fusedm.dmsetup.server import server_beside
from fusedm.dmsetup.session import place_of
from fusedm.host.interrupts import let_in


def _start(dev_dir: str) -> None:
    stack = stack_at(place_of(dev_dir))
    with server_beside(dev_dir):
        if stack is None or not stack.is_alive:
            # Loaded when the server has been forked, which needs none of it.
            from fusedm.dmsetup.serve import start

            start(dev_dir)


if __name__ == "__main__":
    let_in()  # Whoever has started this holds signals, which are not held for what stays behind.
    try:
        if len(sys.argv) == 2:
            _start(sys.argv[1])
        else:
            remove_when_unused(*sys.argv[1:])
    except FusedmError as error:
        sys.exit(str(error))

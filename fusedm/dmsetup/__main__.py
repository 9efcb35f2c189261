"""What runs behind dmsetup: `python -m fusedm.dmsetup DEV_DIR [NAME]`, started by session.py.

Without a name it starts the daemon; with one it waits until that device is in use no more.
"""

import sys

from fusedm.block.errors import FusedmError
from fusedm.dmsetup.deferred import remove_when_unused
from fusedm.dmsetup.serve import start

if __name__ == "__main__":
    try:
        if len(sys.argv) == 2:
            start(sys.argv[1])
        else:
            remove_when_unused(*sys.argv[1:])
    except FusedmError as error:
        sys.exit(str(error))

"""Where the server of shims' calls listens: one for each user, installation and folder of nodes.

Change together with client.c, which finds it.
"""

import errno
import os
import socket
from pathlib import Path

from fusedm.host import nodes
from fusedm.host.run_folder import run_folder

#: The program that shims are run by; it is not there where the package was built without compiler.
CLIENT = Path(__file__).with_name("client.bin")


def server_socket() -> Path | None:
    """Its path for callers whose environment is like this one; None where there is no client.

    It is named by what the variable of the folder says, whatever that means, and by the file of the
    client, which an upgrade replaces.
    Raises: UsageError if there is no folder for it.
    """
    try:
        info = CLIENT.stat()
    except OSError:
        return None
    told = os.environb.get(os.fsencode(nodes.DEV_DIR_VARIABLE), b"")
    key = 0xCBF29CE484222325  # FNV-1a.
    for byte in b"%b\0%d:%d\0" % (told, info.st_dev, info.st_ino):
        key = (key ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return run_folder() / f"{key:016x}.dmsetup"


def is_server_missing() -> bool:
    """Whether there could be a server, and is none; it is not called to find out."""
    path = server_socket()
    if path is None:
        return False
    # One that listens for calls refuses this kind of connection in another way than nobody does.
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(os.fspath(path)) != errno.EPROTOTYPE

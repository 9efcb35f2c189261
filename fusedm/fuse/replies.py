"""What the lane says to the kernel: each request is answered once, if only with an error."""

import errno
import logging
import os
from contextlib import suppress

from fusedm.fuse import wire

#: How often a reply is sent before the request is ended with an error instead.
TRIES = 3

log = logging.getLogger(__name__)


def log_refused(number: int, length: int) -> None:
    """The kernel did not take a reply, also not at the last try; the request has ended with EIO."""
    log.error("a reply of %d bytes: %s", length, os.strerror(number))


class Replies:
    """Replies to the requests of a descriptor of /dev/fuse, by their unique numbers."""

    def __init__(self, device: int) -> None:
        self._device = device

    def done(self, unique: int, data: memoryview | bytes = b"") -> None:
        """A request went well; what it asked for."""
        header = wire.OUT_HEADER.pack(wire.OUT_HEADER.size + len(data), 0, unique)
        self.send([header, data] if data else [header])

    def error(self, unique: int, number: int) -> None:
        """It failed with an errno."""
        self.send([wire.OUT_HEADER.pack(wire.OUT_HEADER.size, -number, unique)])

    def bug(self, unique: int) -> None:
        """A bug in one request must not end the mount."""
        log.exception("bug in a request")
        self.error(unique, errno.EIO)

    def refuse_malformed(self, request: memoryview) -> None:
        """A request that is not what it says; one without a header has nobody to be answered."""
        log.error("malformed request of %d bytes", len(request))
        if len(request) >= wire.IN_HEADER.size:
            _, _, unique, *_ = wire.IN_HEADER.unpack_from(request)
            self.error(unique, errno.EIO)

    def send(self, parts: list[memoryview | bytes]) -> None:
        """Send a reply; if the kernel does not take it, an error, since somebody waits for one."""
        number = 0
        for _ in range(TRIES):
            try:
                os.writev(self._device, parts)
                return
            except OSError as error:
                # ENOENT: nobody waits for it any more. ENODEV: unmounted.
                if error.errno in (errno.ENOENT, errno.ENODEV):
                    return
                number = error.errno or 0
        log_refused(number, sum(map(len, parts)))
        _, _, unique = wire.OUT_HEADER.unpack_from(parts[0])
        with suppress(OSError):
            os.write(self._device, wire.OUT_HEADER.pack(wire.OUT_HEADER.size, -errno.EIO, unique))

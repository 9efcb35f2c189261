"""Keys that tables and messages name in the kernel's keyrings, read before either is parsed.

Parsers are given what has been read, by the words that name it, or why it cannot be: so they ask
nobody, and their errors still say which argument it is.
"""

import errno
import os
from collections.abc import Callable, Iterable
from contextlib import suppress

from fusedm.block.errors import CryptoError
from fusedm.dm.crypt_params import KeyReference, parse_reference
from fusedm.dm.target import KeyRing
from fusedm.host.keyring import read_user_key


def read_keys(words: Iterable[str]) -> KeyRing:
    """What the keyrings hold for words that may name a key there; nothing is refused yet."""
    return _each(words, _read)


def announced_keys(words: Iterable[str]) -> KeyRing:
    """Keys of chance of the sizes that words announce: to see what would be, without asking."""
    return _each(words, lambda reference: bytearray(os.urandom(reference.size)))


def wipe_keys(ring: KeyRing) -> None:
    """Overwrite what was read: whatever is made of it has a copy of its own."""
    for read in ring.values():
        if isinstance(read, bytearray):
            read[:] = bytearray(len(read))


def _each(words: Iterable[str], read: Callable[[KeyReference], bytearray | CryptoError]) -> KeyRing:
    ring: dict[str, bytearray | CryptoError] = {}
    for word in words:
        # If nothing can be named so, the parser will say it.
        with suppress(CryptoError):
            ring[word] = read(parse_reference(word))
    return ring


def _read(reference: KeyReference) -> bytearray | CryptoError:
    try:
        return read_user_key(reference.description, reference.size)
    except OSError as error:
        # The helper tells a logon key of that name by EPERM; the kernel knows no user key then.
        number = errno.ENOKEY if error.errno == errno.EPERM else error.errno
        return CryptoError(f"key {reference.description!r}: {error.strerror}", number)

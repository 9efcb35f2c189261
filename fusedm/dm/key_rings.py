"""Keys that tables and messages name in the kernel's keyrings, read before either is parsed.

Parsers are given what has been read, by the words that name it, or why it cannot be: so they ask
nobody, and their errors still say which argument it is.
"""

import errno
import os
from collections.abc import Iterable

from fusedm.block.errors import CryptoError
from fusedm.dm.arguments import KeyRing
from fusedm.dm.crypt_lines import split_reference
from fusedm.host.keyring import read_user_key


def read_keys(words: Iterable[str]) -> KeyRing:
    """What the keyrings hold for words that name a key there; nothing is refused yet."""
    return {word: _read(*split_reference(word)) for word in words}


def announced_keys(words: Iterable[str]) -> KeyRing:
    """Keys of chance of the sizes that words announce: to see what would be, without asking."""
    return {word: bytearray(os.urandom(split_reference(word)[0])) for word in words}


def wipe_keys(ring: KeyRing) -> None:
    """Overwrite what was read: whatever is made of it has a copy of its own."""
    for read in ring.values():
        if isinstance(read, bytearray):
            read[:] = bytearray(len(read))


def _read(size: int, description: str) -> bytearray | CryptoError:
    try:
        return read_user_key(description, size)
    except OSError as error:
        # The helper tells a logon key of that name by EPERM; the kernel knows no user key then.
        number = errno.ENOKEY if error.errno == errno.EPERM else error.errno
        return CryptoError(f"key {description!r}: {error.strerror}", number)

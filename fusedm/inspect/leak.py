"""Plaintext where only ciphertext should be: sectors of views looked for on raw disks. Pure.

Sectors are told by a digest. One whose bytes are all equal says nothing: every empty disk has it.
"""

from collections.abc import Iterator
from hashlib import blake2b

SECTOR = 512
#: Of so many bits that a million sectors meet a million others by chance once in 10**7 disks.
_DIGEST_BYTES = 8


class Sectors:
    """The plaintext sectors to look for, at most limit of them: where one of each was seen."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._places: dict[bytes, tuple[int, int]] = {}

    @property
    def is_full(self) -> bool:
        """Whether those there are must be looked for before more are taken."""
        return len(self._places) >= self.limit

    def __len__(self) -> int:
        return len(self._places)

    def add(self, view: int, offset: int, data: bytes) -> None:
        """Take the sectors of data, which are at a byte offset of a view (by number)."""
        for at, digest in _digests(data):
            if not self.is_full:
                self._places.setdefault(digest, (view, offset + at))

    def find(self, data: bytes) -> Iterator[tuple[int, int, int]]:
        """Byte offset within data, view and its offset, for each sector of data that is here."""
        for at, digest in _digests(data):
            place = self._places.get(digest)
            if place is not None:
                yield at, *place

    def clear(self) -> None:
        """Forget all, to go on with others."""
        self._places.clear()


def _digests(data: bytes) -> Iterator[tuple[int, bytes]]:
    for at in range(0, len(data) - SECTOR + 1, SECTOR):
        sector = data[at : at + SECTOR]
        if sector.count(sector[0]) != SECTOR:
            yield at, blake2b(sector, digest_size=_DIGEST_BYTES).digest()

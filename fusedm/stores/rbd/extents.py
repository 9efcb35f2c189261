"""Where an image has data: a map of its objects, kept right by what is written since."""


class Extents:
    """Which objects of an image there are.

    Units: bytes; grain is the size of an object.
    """

    def __init__(self, size: int, grain: int) -> None:
        self._size = size
        self._grain = grain
        self._objects = bytearray(-(-size // grain))

    def add(self, offset: int, length: int) -> None:
        """There are data in a range, which may reach beyond the end."""
        first = offset // self._grain
        last = min(-(-(offset + length) // self._grain), len(self._objects))
        if first < last:
            self._objects[first:last] = b"\1" * (last - first)

    def merge(self, other: "Extents") -> None:
        """There are data where another map of the same image has some."""
        both = int.from_bytes(self._objects) | int.from_bytes(other._objects)
        self._objects = bytearray(both.to_bytes(len(self._objects)))

    @property
    def data_bytes(self) -> int:
        """How much the objects take, at most the size."""
        return min(self._objects.count(1) * self._grain, self._size)

    def seek_data(self, offset: int) -> int:
        """Where data begin, at offset or after it; the size if there are none."""
        return self._seek(1, offset)

    def seek_hole(self, offset: int) -> int:
        """Where a hole begins, at offset or after it; the size if nowhere."""
        return self._seek(0, offset)

    def _seek(self, what: int, offset: int) -> int:
        found = self._objects.find(what, offset // self._grain)
        return self._size if found < 0 else min(max(found * self._grain, offset), self._size)

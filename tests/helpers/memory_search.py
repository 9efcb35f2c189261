"""Looking for keys in all the memory of a process, as they are and in the forms they travel in."""

import base64
import os
from collections.abc import Iterator
from pathlib import Path

#: Pages of these are the kernel's, or cannot be read.
_NOT_READ = ("[vvar]", "[vvar_vclock]", "[vsyscall]")

#: Read at a time, and a little more, so that nothing lies across two pieces only.
_PIECE = 1 << 20
_OVERLAP = 1 << 10
_ZEROS = bytes(_PIECE + _OVERLAP)


def find_key(pid: int, *keys: bytes) -> list[str]:
    """Where a part of one of the keys is in a process: whose, in which form, at which address.

    A part of each half, since a key of XTS is used as two.
    """
    forms = {name: form for number, key in enumerate(keys) for name, form in _forms(number, key)}
    return [
        f"{name} at {begin + data.index(form):#x} in {where}"
        for where, begin, data in _memory(pid)
        for name, form in forms.items()
        if form in data
    ]


def _forms(number: int, key: bytes) -> Iterator[tuple[str, bytes]]:
    half = len(key) // 2
    for which, part in (("first", key[:16]), ("second", key[half : half + 16])):
        of = f"key {number}, {which} half"
        yield f"{of}, raw", part
        yield f"{of}, digits", part.hex().encode()
        yield f"{of}, digits in UTF-16", part.hex().encode("utf-16-le")
    # What begins between two groups of three bytes looks otherwise in base64.
    for shift in range(3):
        form = base64.b64encode(bytes(shift) + key[:16])[4:-4]
        yield f"key {number}, base64 shifted by {shift}", form


def _memory(pid: int) -> Iterator[tuple[str, int, bytes]]:
    """Pieces of every mapping that can be written, with what it is and its address."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps.splitlines():
            span, modes, _, _, _, *name = line.split(maxsplit=5)
            where = name[0] if name else "anonymous"
            if "w" not in modes or "r" not in modes or where in _NOT_READ:
                continue
            begin, end = (int(word, 16) for word in span.split("-"))
            for at in range(begin, end, _PIECE):
                try:
                    data = os.pread(memory.fileno(), min(_PIECE + _OVERLAP, end - at), at)
                except OSError:
                    continue  # Gone meanwhile, or a file that has been cut.
                # Most of it has never been touched.
                if data != _ZEROS[: len(data)]:
                    yield where, at, data

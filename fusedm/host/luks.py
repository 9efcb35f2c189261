"""LUKS volumes: where the payload lies and how it is encrypted. cryptsetup reads the header.

It does not need device mapper for that. Passphrases go to it by a pipe, and the volume key comes by
one: neither is ever an argument, in a file or in a message.
"""

import errno
import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from fusedm.block.errors import StackError, UsageError
from fusedm.block.units import SECTOR_SIZE
from fusedm.host.mounts import tool_path

_MAGIC = b"LUKS\xba\xbe"
#: Time for the slowest of passphrases; cryptsetup aims at 2 seconds on the machine that made it.
UNLOCK_SECONDS = 120.0
#: The largest key file that cryptsetup takes.
MAX_PASSPHRASE_BYTES = 8 << 20

_NAME = re.compile(r"^Cipher name:\s+(\S+)$", re.MULTILINE)
_MODE = re.compile(r"^Cipher mode:\s+(\S+)$", re.MULTILINE)
_OFFSET = re.compile(r"^Payload offset:\s+([0-9]+)", re.MULTILINE)
_KEY = re.compile(r"^(?:MK|Volume key) dump:((?:\s+[0-9a-f]{2})+)\s*\Z", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Payload:
    """The encrypted part of a volume, and what opens it.

    Units: sectors of 512 bytes; sector_size in bytes.
    Owns: the key, until wipe().
    """

    cipher: str
    start_sector: int
    sector_count: int
    sector_size: int
    iv_offset: int
    allows_discards: bool
    key: bytearray = field(repr=False)

    def table(self, device: str, allow_discards: bool = False) -> str:
        """The line of a crypt target over a device that holds the volume; it has the key in it."""
        options = ["allow_discards"] if allow_discards or self.allows_discards else []
        if self.sector_size != SECTOR_SIZE:
            options.append(f"sector_size:{self.sector_size}")
        words = [
            f"0 {self.sector_count} crypt {self.cipher} {self.key.hex()} {self.iv_offset}",
            f"{device} {self.start_sector}",
            *([str(len(options)), *options] if options else []),
        ]
        return " ".join(words)

    def wipe(self) -> None:
        """Overwrite the key."""
        self.key[:] = bytes(len(self.key))


def unlock(path: Path, passphrase: bytes | bytearray) -> Payload:
    """The payload of the volume in a file.

    Raises: StackError: EPERM for a wrong passphrase, EINVAL for what is no LUKS volume or cannot be
            opened here, the host's errno for a file that cannot be read; UsageError without
            cryptsetup.
    """
    version, size = _look(path)
    segment = _segment(path) if version == 2 else None
    text = _run("--dump-volume-key", path, passphrase)
    key = _KEY.search(text)
    if key is None:
        raise StackError(f"{path}: cryptsetup has not told the volume key", errno.EIO)
    raw = bytearray.fromhex(key[1])
    if segment is not None:
        return _payload_2(path, segment, size, raw)
    name, mode, offset = (each.search(text) for each in (_NAME, _MODE, _OFFSET))
    if name is None or mode is None or offset is None:
        raise StackError(f"{path}: cryptsetup has not told where the payload is", errno.EIO)
    start = int(offset[1])
    count = size // SECTOR_SIZE - start
    _check_length(path, count, size)
    return Payload(f"{name[1]}-{mode[1]}", start, count, SECTOR_SIZE, 0, False, raw)


def payload_of(path: str, metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """The one segment of LUKS2 metadata, with what the whole volume says of it as `discards`.

    Raises: StackError(EINVAL) for what is not one segment that crypt can do.
    """
    config = metadata.get("config", {})
    needs = config.get("requirements", {}).get("mandatory", [])
    if needs:
        _refuse(path, f"it needs {', '.join(map(str, needs))}: is it being encrypted anew?")
    segments = metadata.get("segments", {})
    if list(segments) != ["0"]:
        _refuse(path, f"it has {len(segments)} segments, only volumes with one can be opened")
    segment: dict[str, Any] = segments["0"]
    if segment.get("type") != "crypt":
        _refuse(path, f"its segment is {segment.get('type')!r}, only 'crypt' can be opened")
    if "integrity" in segment:
        kind = segment["integrity"].get("type")
        _refuse(path, f"it has integrity ({kind}), authenticated encryption is not known here")
    return {**segment, "discards": "allow-discards" in config.get("flags", [])}


def _payload_2(path: Path, segment: Mapping[str, Any], size: int, key: bytearray) -> Payload:
    begin, sector_size = int(segment["offset"]), int(segment["sector_size"])
    length = size - begin if segment["size"] == "dynamic" else int(segment["size"])
    count = length // sector_size * sector_size // SECTOR_SIZE
    _check_length(path, count, size)
    if begin + count * SECTOR_SIZE > size:
        _refuse(path, f"its payload ends behind the {size} bytes of the file")
    return Payload(
        cipher=segment["encryption"],
        start_sector=begin // SECTOR_SIZE,
        sector_count=count,
        sector_size=sector_size,
        iv_offset=int(segment["iv_tweak"]),
        allows_discards=segment["discards"],
        key=key,
    )


def _check_length(path: Path, count: int, size: int) -> None:
    if count <= 0:
        _refuse(path, f"in {size} bytes there is no room for a payload behind the header")


def _segment(path: Path) -> Mapping[str, Any]:
    return payload_of(str(path), json.loads(_run("--dump-json-metadata", path, b"")))


def _look(path: Path) -> tuple[int, int]:
    """The version of LUKS, and the size of the file or device in bytes."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            head = os.read(fd, 8)
            size = os.lseek(fd, 0, os.SEEK_END)
        finally:
            os.close(fd)
    except OSError as error:
        raise StackError(f"{path}: {error.strerror}", error.errno) from None
    version = int.from_bytes(head[6:], "big")
    if not head.startswith(_MAGIC) or version not in (1, 2):
        _refuse(path, "it is not a LUKS volume of version 1 or 2")
    return version, size


def _run(what: str, path: Path, passphrase: bytes | bytearray) -> str:
    """What cryptsetup says of a header."""
    command = ["cryptsetup", "luksDump", "--batch-mode", "--key-file", "-", what, "--", str(path)]
    environ = {**os.environ, "LC_ALL": "C", "PATH": tool_path(os.environ)}
    try:
        done = subprocess.run(
            command, input=passphrase, capture_output=True, env=environ, timeout=UNLOCK_SECONDS
        )
    except FileNotFoundError:
        text = "cryptsetup is not installed, it reads the headers of LUKS volumes"
        raise UsageError(text, errno.ENOENT) from None
    except subprocess.TimeoutExpired:
        raise StackError(f"{path}: cryptsetup has not ended in {UNLOCK_SECONDS:g} s") from None
    if done.returncode:
        said = os.fsdecode(done.stderr).strip().splitlines() or [f"exit code {done.returncode}"]
        # Its exit code 2 is a wrong passphrase.
        number = errno.EPERM if done.returncode == 2 else errno.EINVAL
        raise StackError(f"{path}: cryptsetup: {said[-1]}", number)
    return os.fsdecode(done.stdout)


def _refuse(path: Path | str, text: str) -> NoReturn:
    raise StackError(f"{path}: {text}")

"""LUKS volumes: where the payload lies and how it is encrypted, and the key that cryptsetup tells.

cryptsetup does not need device mapper for that. Passphrases go to it by a pipe, and the volume key
comes by one: neither is ever an argument, in a file or in a message.

Source: the LUKS1 on-disk format 1.2.3 and the LUKS2 on-disk format 1.1.
"""

import errno
import json
import os
import re
import struct
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from fusedm.block.errors import StackError, UsageError
from fusedm.block.units import SECTOR_SIZE
from fusedm.host.mounts import tool_path

_MAGIC = b"LUKS\xba\xbe"
_SECOND_MAGIC = b"SKUL\xba\xbe"
#: Where LUKS2 may have its second header, from which cryptsetup mends the first.
_SECOND_PLACES = tuple(0x4000 << power for power in range(9))
#: LUKS1: magic, version, cipher, mode, hash, payload offset, key bytes, digest, salt, iterations,
#: UUID; then eight slots: state, iterations, salt, offset of the key material, stripes.
_LUKS1 = struct.Struct(">6sH32s32s32sII20s32sI40s")
_SLOT = struct.Struct(">II32sII")
_SLOTS = 8
_MODE_OFFSET, _MODE_BYTES = 40, 32
_LUKS1_BYTES = _LUKS1.size + _SLOTS * _SLOT.size
#: Where the UUID is in either header of LUKS2, and the size of what stands before its text.
_UUID_OFFSET, _UUID_BYTES = 168, 40
_BINARY_BYTES = 4096
#: No key has so many bytes, nor stripes of it so many that its header would be larger.
_MAX_HEADER_BYTES = 64 << 20
#: An IV that takes no digest, with one behind it, which the kernel and QEMU pass over.
_NEEDLESS_DIGEST = re.compile(r"(.*-(?:plain|plain64|plain64be|benbi|null|eboiv)):.*")

#: What cryptsetup says where it cannot decrypt key slots by itself.
_CIPHER_IS_UNKNOWN = (b"for keyslot encryption", b"Cannot initialize device-mapper")

#: Time for the slowest of passphrases; cryptsetup aims at 2 seconds on the machine that made it.
UNLOCK_SECONDS = 120.0
#: The largest key file that cryptsetup takes.
MAX_PASSPHRASE_BYTES = 8 << 20

_KEY = re.compile(r"^(?:MK|Volume key) dump:((?:\s+[0-9a-f]{2})+)\s*\Z", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Volume:
    """What a header says; length is its own.

    Units: offset, size (None: all that follows), length and sector_size in bytes.
    """

    path: Path
    version: int
    uuid: str
    cipher: str
    offset: int
    size: int | None
    length: int
    #: The cipher of its key slots.
    slot_cipher: str
    sector_size: int = SECTOR_SIZE
    iv_offset: int = 0
    allows_discards: bool = False
    #: The header as cryptsetup can read it, if it differs from what the file has.
    respelt: bytes = field(default=b"", repr=False)
    #: The header of LUKS1, or the metadata of LUKS2: all that is said of key slots.
    head: bytes = field(default=b"", repr=False)
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def sectors(self, data: Path, data_size: int, is_apart: bool) -> tuple[int, int]:
        """Where the payload begins in a file of data_size bytes, and its length, in 512 bytes.

        is_apart is for a header in a file of its own.
        Raises: StackError(EINVAL) for a payload that lies over a header, or behind the end.
        """
        if not is_apart and self.offset < self.length:
            text = f"its payload would begin at byte {self.offset}, in its header of {self.length}"
            _refuse(data, f"{text}: a header alone is given with --header, FILE has the data")
        if is_apart and _begins_with_header(data, self.offset):
            text = f"at byte {self.offset}, where its payload would begin, it has a LUKS header"
            _refuse(data, f"{text}: is it the header's own file, or a volume by itself?")
        if self.offset % SECTOR_SIZE:
            _refuse(data, f"its payload begins at byte {self.offset}, within a sector")
        length = data_size - self.offset if self.size is None else self.size
        count = length // self.sector_size * self.sector_size // SECTOR_SIZE
        if count <= 0:
            text = f"in {data_size} bytes there is no room for a payload behind the header"
            _refuse(data, f"{text}, from byte {self.offset} on")
        if self.offset + length > data_size:
            _refuse(data, f"its payload ends behind the {data_size} bytes of the file")
        return self.offset // SECTOR_SIZE, count

    def line(self, key: bytearray, device: str, start: int, count: int, discards: bool) -> str:
        """The line of a crypt target over a device with the payload at a sector, its key in it."""
        options = ["allow_discards"] if discards or self.allows_discards else []
        if self.sector_size != SECTOR_SIZE:
            options.append(f"sector_size:{self.sector_size}")
        words = [
            f"0 {count} crypt {self.cipher} {key.hex()} {self.iv_offset}",
            f"{device} {start}",
            *([str(len(options)), *options] if options else []),
        ]
        return " ".join(words)


def read_volume(path: Path) -> Volume:
    """What the header in a file or device says.

    Raises: StackError: EINVAL for what is no LUKS volume or cannot be opened here, the host's errno
            for a file that cannot be read; UsageError without cryptsetup.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_LUKS1_BYTES)
            found = _find_header(head, file.fileno())
    except OSError as error:
        raise StackError(f"{path}: {error.strerror}", error.errno) from None
    if found is None:
        _refuse(path, "it is not a LUKS volume of version 1 or 2")
    version, uuid = found
    if version == 1:
        return _volume_1(path, head)
    try:
        return volume_2(path, uuid, json.loads(_run(path, b"", "--dump-json-metadata")))
    except (ValueError, KeyError, TypeError, AttributeError):
        _refuse(path, "its metadata are not understood")


def unlock(volume: Volume, passphrase: bytes | bytearray, key_slot: int | None = None) -> bytearray:
    """The key of a volume, which is the caller's to overwrite; of any key slot, or of one.

    Raises: StackError: EPERM for a wrong passphrase, EOPNOTSUPP for a cipher of key slots that
            cryptsetup cannot do, EINVAL for what else it refuses; UsageError without cryptsetup.
    """
    try:
        if key_slot is not None:
            command = ("open", "--test-passphrase", f"--key-slot={key_slot}")
            _run(volume.path, passphrase, command=command)
        if volume.respelt:
            text = _dump_respelt(volume, passphrase)
        else:
            text = _run(volume.path, passphrase, "--dump-volume-key")
    except StackError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        text = f"its key slots are under {volume.slot_cipher}, which cryptsetup cannot do here"
        raise StackError(f"{volume.path}: {text}", errno.EOPNOTSUPP) from None
    key = _KEY.search(text)
    if key is None:
        raise StackError(f"{volume.path}: cryptsetup has not told the volume key", errno.EIO)
    return bytearray.fromhex(key[1])


def _find_header(head: bytes, fd: int) -> tuple[int, str] | None:
    """The version of LUKS and the UUID, also where only the second header of LUKS2 is left."""
    version = int.from_bytes(head[6:8], "big")
    if head.startswith(_MAGIC) and version in (1, 2):
        return version, _text(head[_UUID_OFFSET:][:_UUID_BYTES])
    for place in _SECOND_PLACES:
        head = os.pread(fd, _UUID_OFFSET + _UUID_BYTES, place)
        if head.startswith(_SECOND_MAGIC) and int.from_bytes(head[6:8], "big") == 2:
            return 2, _text(head[_UUID_OFFSET:])
    return None


def _begins_with_header(data: Path, offset: int) -> bool:
    with data.open("rb") as file:
        return os.pread(file.fileno(), len(_MAGIC), offset) == _MAGIC


def _text(field: bytes) -> str:
    """A field of a header, down to its closing NUL."""
    return field.partition(b"\0")[0].decode(errors="backslashreplace")


def _volume_1(path: Path, head: bytes) -> Volume:
    if len(head) < _LUKS1_BYTES:
        _refuse(path, f"its header ends after {len(head)} bytes, LUKS1 has {_LUKS1_BYTES}")
    _, _, name, mode, _, payload, key_bytes, _, _, _, uuid = _LUKS1.unpack_from(head)
    slots = [_SLOT.unpack_from(head, _LUKS1.size + n * _SLOT.size) for n in range(_SLOTS)]
    ends = [offset * SECTOR_SIZE + key_bytes * stripes for *_, offset, stripes in slots]
    length = -(-max(_LUKS1_BYTES, *ends) // SECTOR_SIZE) * SECTOR_SIZE
    if length > _MAX_HEADER_BYTES:
        _refuse(path, f"its key slots would end at byte {length}: the header is damaged")
    spelt = _text(mode)
    needless = _NEEDLESS_DIGEST.fullmatch(spelt)
    usual = needless[1] if needless else spelt
    respelt = b""
    if needless:
        mode = usual.encode().ljust(_MODE_BYTES, b"\0")
        respelt = head[:_MODE_OFFSET] + mode + head[_MODE_OFFSET + _MODE_BYTES :]
    cipher = f"{_text(name)}-{usual}"
    offset = payload * SECTOR_SIZE
    return Volume(
        path, 1, _text(uuid), cipher, offset, None, length, cipher, respelt=respelt, head=head
    )


def volume_2(path: Path, uuid: str, metadata: Mapping[str, Any]) -> Volume:
    """The volume that LUKS2 metadata tell of.

    Raises: StackError(EINVAL) for what is not one segment that crypt can do; ValueError, KeyError,
            TypeError, AttributeError for what is not metadata.
    """
    config = metadata["config"]
    needs = config.get("requirements", {}).get("mandatory", [])
    if needs:
        _refuse(path, f"it needs {', '.join(map(str, needs))}: is it being encrypted anew?")
    segments = metadata["segments"]
    if list(segments) != ["0"]:
        _refuse(path, f"it has {len(segments)} segments, only volumes with one can be opened")
    segment = segments["0"]
    if segment.get("type") != "crypt":
        _refuse(path, f"its segment is {segment.get('type')!r}, only 'crypt' can be opened")
    if "integrity" in segment:
        kind = segment["integrity"].get("type")
        _refuse(path, f"it has integrity ({kind}), authenticated encryption is not known here")
    slots = metadata["keyslots"].values()
    return Volume(
        path=path,
        version=2,
        uuid=uuid,
        cipher=str(segment["encryption"]),
        offset=int(segment["offset"]),
        size=None if segment["size"] == "dynamic" else int(segment["size"]),
        length=2 * (_BINARY_BYTES + int(config["json_size"])) + int(config["keyslots_size"]),
        slot_cipher=", ".join(sorted({str(slot["area"]["encryption"]) for slot in slots})),
        sector_size=int(segment["sector_size"]),
        iv_offset=int(segment["iv_tweak"]),
        allows_discards="allow-discards" in config.get("flags", []),
        metadata=metadata,
    )


def _dump_respelt(volume: Volume, passphrase: bytes | bytearray) -> str:
    """The key as told of a copy of the header, in memory, that has the usual words."""
    fd = os.memfd_create("luks", os.MFD_CLOEXEC)
    try:
        with volume.path.open("rb") as file:
            os.writev(fd, [file.read(volume.length)])
        os.pwrite(fd, volume.respelt, 0)
        os.ftruncate(fd, max(volume.length, volume.offset) + SECTOR_SIZE)
        copy = Path(f"/proc/self/fd/{fd}")
        return _run(copy, passphrase, "--dump-volume-key", fd=fd, shown=volume.path)
    finally:
        os.close(fd)


def _run(
    path: Path,
    passphrase: bytes | bytearray,
    *options: str,
    command: tuple[str, ...] = ("luksDump",),
    fd: int | None = None,
    shown: Path | None = None,
) -> str:
    """What cryptsetup says of a header, which an error calls by what is shown."""
    words = ["cryptsetup", *command, "--batch-mode", "--key-file", "-", *options, "--", str(path)]
    environ = {**os.environ, "LC_ALL": "C", "PATH": tool_path(os.environ)}
    shown = shown or path
    try:
        done = subprocess.run(
            words, input=passphrase, capture_output=True, env=environ, timeout=UNLOCK_SECONDS,
            pass_fds=() if fd is None else (fd,), check=False,
        )  # fmt: skip
    except FileNotFoundError:
        text = "cryptsetup is not installed, it reads the headers of LUKS volumes"
        raise UsageError(text, errno.ENOENT) from None
    except subprocess.TimeoutExpired:
        raise StackError(f"{shown}: cryptsetup has not ended in {UNLOCK_SECONDS:g} s") from None
    if done.returncode:
        said = os.fsdecode(done.stderr).strip().splitlines() or [f"exit code {done.returncode}"]
        # Its exit code 2 is a wrong passphrase.
        number = errno.EPERM if done.returncode == 2 else errno.EINVAL
        if any(words in done.stderr for words in _CIPHER_IS_UNKNOWN):
            number = errno.EOPNOTSUPP
        raise StackError(f"{shown}: cryptsetup: {said[-1]}", number)
    return os.fsdecode(done.stdout)


def _refuse(path: Path | str, text: str) -> NoReturn:
    raise StackError(f"{path}: {text}")

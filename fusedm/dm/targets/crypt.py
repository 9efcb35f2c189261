"""crypt: encrypt everything on its way to another device.  See crypt.md."""

import errno
from collections.abc import Iterable
from dataclasses import dataclass, field

from fusedm.block import Bio, Limits
from fusedm.block.errors import CryptoError, StackError, Status
from fusedm.block.plan import SectorCipher
from fusedm.block.units import SECTOR_SIZE
from fusedm.crypto import CipherSpec, make_sector_cipher, parse_cipher_spec
from fusedm.dm.arguments import Arguments
from fusedm.dm.crypt_lines import (
    TargetKey,
    format_line,
    key_of,
    make_key,
    options_of,
    refuse_message,
)
from fusedm.dm.key_rings import read_keys, wipe_keys
from fusedm.dm.target import ALWAYS, Action, Fail, Segment, Steady, Target, Transform, Word
from fusedm.dm.turns import Steps
from fusedm.tables import CRYPT_KEY, read_key_word

#: In the order `table` prints them. All but the first and the last two are hints about threads.
OPTIONS = (
    "allow_discards",
    "same_cpu_crypt",
    "high_priority",
    "submit_from_crypt_cpus",
    "no_read_workqueue",
    "no_write_workqueue",
    "sector_size:",
    "iv_large_sectors",
)


def examples() -> list[str]:
    """Arguments the contract suite tries."""
    key = "".join(f"{number:02x}" for number in range(64))
    return [
        f"aes-xts-plain64 {key} 0 d0 0",
        f"aes-cbc-essiv:sha256 {key[:64]} 7 d1 2048 1 allow_discards",
        f"xchacha12,aes-adiantum-plain64 {key[:64]} 8 d0 8 1 sector_size:4096",
        f"capi:xts(aes)-plain64 {key} 16 d0 8 3 same_cpu_crypt sector_size:4096 iv_large_sectors",
    ]


@dataclass
class Crypt(Target):
    """Each sector is encrypted on its own, under an IV made from its number.

    The data of a bio are not the bio's own below, so a context cannot pass.
    """

    name = "crypt"
    version = (1, 29, 0)
    passes_crypto = False

    sector_count: int
    cipher: str
    spec: CipherSpec
    key: TargetKey
    iv_offset: int
    segment: Segment
    options: tuple[str, ...]
    sector_size: int
    _ready: SectorCipher | None = field(compare=False, repr=False, default=None)
    _is_suspended: bool = field(compare=False, repr=False, default=False)

    def __post_init__(self) -> None:
        self.takes_discards = self._keeps_zeros = "allow_discards" in self.options
        self._ready = self._make(self.key)

    @classmethod
    def make(cls, line: Arguments) -> "Crypt":
        key, options = key_of(line), options_of(line, OPTIONS)
        try:
            return cls(
                line.sector_count,
                line.text("cipher"),
                parse_cipher_spec(line.text("cipher")),
                key,
                line.number("iv_offset"),
                line.segment(),
                options,
                line.number("sector_size", SECTOR_SIZE),
            )
        except CryptoError as error:
            key.wipe()
            line.refuse("key", str(error), error.errno)

    def params(self) -> list[Word]:
        return self._words(self.key.masked_word())

    def key_params(self) -> list[Word]:
        return self._words(self.key.word())

    def devices(self) -> Iterable[Segment]:
        return [self.segment]

    def limits(self) -> Limits:
        return Limits(logical_block_size=self.sector_size, io_min_bytes=self.sector_size)

    def map(self, bio: Bio) -> Action:
        if bio.op.has_data:
            if (bio.sector | bio.sector_count) % (self.sector_size // SECTOR_SIZE):
                return Fail(Status.IOERR)
            assert self._ready is not None, "no bio comes while the key is wiped"
            number, then = self.iv_offset + bio.sector, self.segment.remap(bio)
            return Transform(self._ready, number, then, self._keeps_zeros)
        return self.segment.remap(bio)

    def steady(self, sector: int) -> Steady:
        return ALWAYS  # The key changes only while nothing comes.

    def message(self, words: list[str]) -> str:
        match [word.lower() for word in words[:2]]:
            case ["key", "set"] if len(words) == 3:
                self._check_suspended()
                self._set_key(words[2])
            case ["key", "wipe"] if len(words) == 2:
                self._check_suspended()
                self._wipe()
            case _:
                refuse_message(self.name, words)
        return ""

    def postsuspend(self) -> Steps[None]:
        self._is_suspended = True
        yield from ()

    def preresume(self) -> Steps[None]:
        if self._ready is None:
            text = "its key was wiped: give it one with the message `key set` before resume"
            raise StackError(f"{self.name}: {text}", errno.EAGAIN)
        yield from ()

    def resumed(self) -> None:
        self._is_suspended = False

    def forget(self) -> None:
        self._wipe()

    def _words(self, key: str) -> list[Word]:
        return format_line(self.cipher, key, self.iv_offset, self.segment, self.options)

    def _make(self, key: TargetKey) -> SectorCipher:
        return make_sector_cipher(
            self.spec,
            key.raw,
            self.sector_size,
            counts_large="iv_large_sectors" in self.options,
            keeps_zeros=self._keeps_zeros,
        )

    def _check_suspended(self) -> None:
        if not self._is_suspended:
            raise StackError(f"{self.name}: the device must be suspended to change its key")

    def _set_key(self, word: str) -> None:
        try:
            given, wanted = read_key_word(CRYPT_KEY, word), len(self.key.raw)
        except CryptoError as error:
            raise StackError(f"{self.name}: {error}", error.errno) from None
        if given != wanted:
            text = f"{given} bytes of key given, the key of the table has {wanted}"
            raise StackError(f"{self.name}: {text}")
        ring = read_keys([word] if word.startswith(":") else [])
        try:
            key = make_key(word, ring)
            self._ready = self._make(key)
        except CryptoError as error:
            raise StackError(f"{self.name}: key: {error}", error.errno) from None
        finally:
            wipe_keys(ring)
        self.key.wipe()
        self.key = key

    def _wipe(self) -> None:
        self._ready = None
        self.key.wipe()

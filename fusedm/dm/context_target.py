"""What inlinecrypt and default-key share: bios go down with a context of the target's own."""

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from fusedm.block import Bio, CryptContext, CryptoKey, Limits, Op
from fusedm.block.crypt_ctx import KeyType
from fusedm.block.errors import Status
from fusedm.block.units import SECTOR_SIZE
from fusedm.crypto import evict_key, start_using_key
from fusedm.dm.arguments import Arguments
from fusedm.dm.crypt_lines import (
    TargetKey,
    format_line,
    key_of,
    make_context_key,
    options_of,
    refuse_message,
)
from fusedm.dm.target import Action, Fail, Segment, Steady, Target, Word

#: The mode of each cipher.
MODES = {"aes-xts-plain64": "AES-256-XTS", "xchacha12,aes-adiantum-plain64": "Adiantum"}


@dataclass
class ContextTarget(Target):
    """Encrypts nothing itself: what lies below, or its fallback, does.

    option_names are in the order in which `table` prints them. What happens to a bio that is not in
    clear any more is said by map_encrypted.
    """

    option_names: ClassVar[tuple[str, ...]]

    sector_count: int
    cipher: str
    key: TargetKey
    iv_offset: int
    segment: Segment
    options: tuple[str, ...]
    crypto_key: CryptoKey = field(compare=False)

    def __post_init__(self) -> None:
        self.takes_discards = "allow_discards" in self.options

    @classmethod
    def make(cls, line: Arguments) -> Self:
        key = key_of(line)
        cipher, kind = line.text("cipher"), cls.key_type(line)
        options = options_of(line, cls.option_names)
        crypto_key = make_context_key(line, key, MODES[cipher], kind)
        offset = line.number("iv_offset")
        return cls(line.sector_count, cipher, key, offset, line.segment(), options, crypto_key)

    @classmethod
    @abstractmethod
    def key_type(cls, line: Arguments) -> KeyType:
        """Whether the key of a line is wrapped."""

    def key_params(self) -> list[Word]:
        return self.words_with(self.key.word())

    def words_with(self, key: str) -> list[Word]:
        """The arguments with this in the place of the key."""
        return format_line(self.cipher, key, self.iv_offset, self.segment, self.options)

    def devices(self) -> Iterable[Segment]:
        return [self.segment]

    def keys(self) -> Iterable[CryptoKey]:
        return [self.crypto_key]

    def limits(self) -> Limits:
        size = self.crypto_key.config.data_unit_size
        return Limits(logical_block_size=size, io_min_bytes=size)

    @abstractmethod
    def map_encrypted(self, bio: Bio) -> Action:
        """What happens to a READ or WRITE that has a context, or is ciphertext already."""

    def map(self, bio: Bio) -> Action:
        if bio.op.has_data:
            if bio.crypt is not None or bio.is_encrypted:
                return self.map_encrypted(bio)
            return self.map_clear(bio)
        return self.segment.remap(bio)

    def map_clear(self, bio: Bio) -> Action:
        """What happens to a READ or WRITE that is given a context."""
        sectors = self.crypto_key.config.data_unit_size // SECTOR_SIZE
        if (bio.sector | bio.sector_count) % sectors:
            return Fail(Status.IOERR)
        dun = (self.iv_offset + bio.sector) // sectors
        context = CryptContext(self.crypto_key, dun, "allow_discards" in self.options)
        return self.segment.remap(replace(bio, crypt=context))

    def steady(self, sector: int) -> Steady:
        return Steady(ops=frozenset({Op.FLUSH}))

    def message(self, words: list[str]) -> str:
        refuse_message(self.name, words)

    def start(self) -> None:
        start_using_key(self.segment.device, self.crypto_key)

    def stop(self) -> None:
        evict_key(self.segment.device, self.crypto_key)

    def forget(self) -> None:
        self.crypto_key.wipe()
        self.key.wipe()

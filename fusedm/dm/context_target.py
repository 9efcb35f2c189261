"""What inlinecrypt and default-key share: bios go down with a context of the target's own."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from fusedm.block import Bio, CryptContext, CryptoKey, Limits, Op
from fusedm.block.crypt_ctx import KeyType
from fusedm.block.errors import Status
from fusedm.block.units import SECTOR_SIZE
from fusedm.crypto import evict_key, start_using_key
from fusedm.dm.crypt_params import (
    CryptArguments,
    TargetKey,
    format_arguments,
    format_options,
    make_context_key,
    refuse_message,
)
from fusedm.dm.target import Action, Fail, Params, Segment, Steady, Target, Word


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
    options: Mapping[str, str]
    crypto_key: CryptoKey = field(compare=False)

    def __post_init__(self) -> None:
        self.takes_discards = "allow_discards" in self.options

    @classmethod
    def make(cls, params: Params, arguments: CryptArguments, mode: str, kind: KeyType) -> Self:
        """A target of a line that has been read.

        Raises: TableError for a key that cannot be.
        """
        key = make_context_key(params, arguments, mode, kind)
        return cls(
            params.sector_count,
            arguments.cipher,
            arguments.key,
            arguments.iv_offset,
            arguments.segment,
            arguments.options,
            key,
        )

    def key_params(self) -> list[Word]:
        return self.words_with(self.key.word())

    def words_with(self, key: str) -> list[Word]:
        """The arguments with this in the place of the key."""
        options = format_options(self.options, self.option_names)
        return format_arguments(self.cipher, key, self.iv_offset, self.segment, options)

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

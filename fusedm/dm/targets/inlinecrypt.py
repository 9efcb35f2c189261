"""inlinecrypt: give every bio a context, for inline encryption below.  See inlinecrypt.md."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from fusedm.block import Bio, CryptContext, CryptoKey, Limits, Op
from fusedm.block.crypt_ctx import KeyType
from fusedm.block.errors import Status
from fusedm.block.units import SECTOR_SIZE
from fusedm.crypto import evict_key, start_using_key
from fusedm.dm.crypt_params import (
    USAGE,
    TargetKey,
    format_arguments,
    format_options,
    make_context_key,
    parse_arguments,
    refuse_message,
)
from fusedm.dm.target import Action, Fail, Params, Segment, Target, Word

CIPHER = "aes-xts-plain64"
#: In the order `table` prints them.
OPTIONS = ("keytype", "allow_discards", "sector_size", "iv_large_sectors")


def examples() -> list[str]:
    """Arguments the contract suite tries."""
    key = "".join(f"{number:02x}" for number in range(64))
    return [
        f"aes-xts-plain64 {key} 0 d0 0",
        f"aes-xts-plain64 {key} 8 d1 2048 3 allow_discards sector_size:4096 iv_large_sectors",
    ]


@dataclass
class Inlinecrypt(Target):
    """Bios go down with a context of this target's own, so they cannot bring one."""

    name = "inlinecrypt"
    version = (1, 0, 0)
    passes_crypto = False
    usage = USAGE

    sector_count: int
    key: TargetKey
    iv_offset: int
    segment: Segment
    options: Mapping[str, str]
    crypto_key: CryptoKey = field(compare=False)

    @classmethod
    def parse(cls, params: Params) -> "Inlinecrypt":
        flags, valued = ("allow_discards", "iv_large_sectors"), ("keytype", "sector_size")
        arguments = parse_arguments(params, flags, valued)
        if arguments.cipher != CIPHER:
            raise params.error(f"argument 1 (cipher): {arguments.cipher!r} is not {CIPHER}")
        known = [kind.value for kind in KeyType]
        kind = arguments.options.get("keytype", KeyType.RAW.value)
        if kind not in known:
            raise params.error(f"keytype:{kind} is unknown: use {' or '.join(known)}")
        key = make_context_key(params, arguments, "AES-256-XTS", KeyType(kind))
        return cls(
            params.sector_count,
            arguments.key,
            arguments.iv_offset,
            arguments.segment,
            arguments.options,
            key,
        )

    def params(self) -> list[Word]:
        return self._words(self.key.masked_word())

    def key_params(self) -> list[Word]:
        return self._words(self.key.word())

    def devices(self) -> Iterable[Segment]:
        return [self.segment]

    def limits(self) -> Limits:
        size = self.crypto_key.config.data_unit_size
        return Limits(logical_block_size=size, io_min_bytes=size)

    def map(self, bio: Bio) -> Action:
        if bio.op.has_data:
            sectors = self.crypto_key.config.data_unit_size // SECTOR_SIZE
            if bio.crypt is not None or (bio.sector | bio.sector_count) % sectors:
                return Fail(Status.IOERR)
            dun = (self.iv_offset + bio.sector) // sectors
            return self.segment.remap(replace(bio, crypt=CryptContext(self.crypto_key, dun)))
        if bio.op is Op.DISCARD and "allow_discards" not in self.options:
            return Fail(Status.NOTSUPP)
        if bio.op is Op.WRITE_ZEROES:
            return Fail(Status.NOTSUPP)
        return self.segment.remap(bio)

    def message(self, words: list[str]) -> str:
        refuse_message(self.name, words)

    def start(self) -> None:
        start_using_key(self.segment.device, self.crypto_key)

    def stop(self) -> None:
        evict_key(self.segment.device, self.crypto_key)
        self.crypto_key.wipe()
        self.key.wipe()

    def _words(self, key: str) -> list[Word]:
        options = format_options(self.options, OPTIONS)
        return format_arguments(CIPHER, key, self.iv_offset, self.segment, options)

"""default-key: encrypt all that nobody above has encrypted.  See default_key.md."""

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

#: The mode of each cipher.
CIPHERS = {"aes-xts-plain64": "AES-256-XTS", "xchacha12,aes-adiantum-plain64": "Adiantum"}
#: In the order `table` prints them.
OPTIONS = ("allow_discards", "sector_size", "iv_large_sectors", "wrappedkey_v0")


def examples() -> list[str]:
    """Arguments the contract suite tries."""
    key = "".join(f"{number:02x}" for number in range(64))
    return [
        f"aes-xts-plain64 {key} 0 d0 0",
        f"xchacha12,aes-adiantum-plain64 {key[:64]} 8 d1 2048 1 allow_discards",
        f"aes-xts-plain64 {key} 8 d1 2048 2 sector_size:4096 iv_large_sectors",
    ]


@dataclass
class DefaultKey(Target):
    """Bios without a context get one; what comes with one, or as ciphertext, goes down as it is."""

    name = "default-key"
    version = (2, 1, 0)
    passes_crypto = True
    usage = USAGE

    sector_count: int
    cipher: str
    key: TargetKey
    iv_offset: int
    segment: Segment
    options: Mapping[str, str]
    crypto_key: CryptoKey = field(compare=False)

    @classmethod
    def parse(cls, params: Params) -> "DefaultKey":
        flags = ("allow_discards", "iv_large_sectors", "wrappedkey_v0")
        arguments = parse_arguments(params, flags, ("sector_size",))
        mode = CIPHERS.get(arguments.cipher)
        if mode is None:
            text = f"{arguments.cipher!r} is unknown: use {' or '.join(CIPHERS)}"
            raise params.error(f"argument 1 (cipher): {text}")
        kind = KeyType.HW_WRAPPED if "wrappedkey_v0" in arguments.options else KeyType.RAW
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

    def params(self) -> list[Word]:
        return self._words("-")

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
            if bio.crypt is not None or bio.is_encrypted:
                return self.segment.remap(bio)
            if (bio.sector | bio.sector_count) % sectors:
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
        return format_arguments(self.cipher, key, self.iv_offset, self.segment, options)

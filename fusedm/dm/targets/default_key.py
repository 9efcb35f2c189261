"""default-key: encrypt all that nobody above has encrypted.  See default_key.md."""

from dataclasses import dataclass

from fusedm.block import Bio
from fusedm.block.crypt_ctx import KeyType
from fusedm.dm.context_target import ContextTarget
from fusedm.dm.crypt_params import USAGE, parse_arguments
from fusedm.dm.target import Action, Params, Word

#: The mode of each cipher.
CIPHERS = {"aes-xts-plain64": "AES-256-XTS", "xchacha12,aes-adiantum-plain64": "Adiantum"}


def examples() -> list[str]:
    """Arguments the contract suite tries."""
    key = "".join(f"{number:02x}" for number in range(64))
    return [
        f"aes-xts-plain64 {key} 0 d0 0",
        f"xchacha12,aes-adiantum-plain64 {key[:64]} 8 d1 2048 1 allow_discards",
        f"aes-xts-plain64 {key} 8 d1 2048 2 sector_size:4096 iv_large_sectors",
    ]


@dataclass
class DefaultKey(ContextTarget):
    """Bios without a context get one; what comes with one, or as ciphertext, goes down as it is."""

    name = "default-key"
    version = (2, 1, 0)
    passes_crypto = True
    usage = USAGE
    option_names = ("allow_discards", "sector_size", "iv_large_sectors", "wrappedkey_v0")

    @classmethod
    def parse(cls, params: Params) -> "DefaultKey":
        flags = ("allow_discards", "iv_large_sectors", "wrappedkey_v0")
        arguments = parse_arguments(params, flags, ("sector_size",))
        mode = CIPHERS.get(arguments.cipher)
        if mode is None:
            text = f"{arguments.cipher!r} is unknown: use {' or '.join(CIPHERS)}"
            raise params.error(f"argument 1 (cipher): {text}")
        kind = KeyType.HW_WRAPPED if "wrappedkey_v0" in arguments.options else KeyType.RAW
        return cls.make(params, arguments, mode, kind)

    def params(self) -> list[Word]:
        return self.words_with("-")

    def map_encrypted(self, bio: Bio) -> Action:
        return self.segment.remap(bio)

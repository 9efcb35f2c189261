"""default-key: encrypt all that nobody above has encrypted.  See default_key.md."""

from dataclasses import dataclass

from fusedm.block import Bio
from fusedm.block.crypt_ctx import KeyType
from fusedm.dm.arguments import Arguments
from fusedm.dm.context_target import ContextTarget
from fusedm.dm.target import Action, Word


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
    option_names = ("allow_discards", "sector_size:", "iv_large_sectors", "wrappedkey_v0")

    @classmethod
    def key_type(cls, line: Arguments) -> KeyType:
        return KeyType.HW_WRAPPED if line.has("wrappedkey_v0") else KeyType.RAW

    def params(self) -> list[Word]:
        return self.words_with("-")

    def map_encrypted(self, bio: Bio) -> Action:
        return self.segment.remap(bio)

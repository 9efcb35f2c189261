"""inlinecrypt: give every bio a context, for inline encryption below.  See inlinecrypt.md."""

from dataclasses import dataclass

from fusedm.block import Bio
from fusedm.block.crypt_ctx import KeyType
from fusedm.block.errors import Status
from fusedm.dm.arguments import Arguments
from fusedm.dm.context_target import ContextTarget
from fusedm.dm.target import Action, Fail, Word


def examples() -> list[str]:
    """Arguments the contract suite tries."""
    key = "".join(f"{number:02x}" for number in range(64))
    return [
        f"aes-xts-plain64 {key} 0 d0 0",
        f"aes-xts-plain64 {key} 8 d1 2048 3 allow_discards sector_size:4096 iv_large_sectors",
    ]


@dataclass
class Inlinecrypt(ContextTarget):
    """Bios go down with a context of this target's own, so they cannot bring one."""

    name = "inlinecrypt"
    version = (1, 0, 0)
    passes_crypto = False
    option_names = ("keytype:", "allow_discards", "sector_size:", "iv_large_sectors")

    @classmethod
    def key_type(cls, line: Arguments) -> KeyType:
        return KeyType(line.text("keytype", KeyType.RAW.value))

    def params(self) -> list[Word]:
        return self.words_with(self.key.masked_word())

    def map_encrypted(self, bio: Bio) -> Action:
        if bio.crypt is not None:
            return Fail(Status.IOERR)
        # The fallback above has encrypted it for a context of its own: here it is data as any.
        return self.map_clear(bio)

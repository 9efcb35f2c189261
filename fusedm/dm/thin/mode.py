"""What a pool can still do, and the features it was asked for. Pure."""

from enum import IntEnum

from fusedm.block.value import value


class Mode(IntEnum):
    """From well to worst; only a better table or more space leads back, and nothing from FAIL.

    Source: enum pool_mode in the kernel's drivers/md/dm-thin.c.
    """

    WRITE = 0
    #: What is mapped can be written; what would need a block waits for one, or fails.
    OUT_OF_DATA_SPACE = 1
    #: As READ_ONLY, until the metadata device grows.
    OUT_OF_METADATA_SPACE = 2
    #: What is mapped, and not shared, can still be written: the metadata do not change.
    READ_ONLY = 3
    FAIL = 4

    @property
    def word(self) -> str:
        """What status calls it, but for FAIL."""
        if self is Mode.OUT_OF_DATA_SPACE:
            return "out_of_data_space"
        return "rw" if self is Mode.WRITE else "ro"


#: In the order in which the kernel prints them.
FEATURES = (
    "skip_block_zeroing",
    "ignore_discard",
    "no_discard_passdown",
    "read_only",
    "error_if_no_space",
)


@value
class Features:
    """What a table line asks of a pool, each in the word that the line has for it."""

    skip_block_zeroing: bool = False
    ignore_discard: bool = False
    no_discard_passdown: bool = False
    read_only: bool = False
    error_if_no_space: bool = False

    def words(self) -> list[str]:
        """The words, in the kernel's order."""
        return [word for word in FEATURES if getattr(self, word)]

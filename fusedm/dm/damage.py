"""What flakey changes in data. Pure."""

from collections.abc import Mapping
from random import Random

from fusedm.block import Bio, Op

#: A chance is so many in this many.
CHANCES = 10**9

#: The kernel's flags of our bios: the operation, and nothing else.
_FLAGS = {Op.READ: 0, Op.WRITE: 1}


def damage_to(
    bio: Bio, features: Mapping[str, tuple[int, ...]], seed: str
) -> list[tuple[int, int]]:
    """Which bytes of a READ or WRITE to set to what; draws follow from the seed."""
    damage = []
    number, direction, value, flags = features.get("corrupt_bio_byte", (0, 0, 0, 0))
    own = _FLAGS[bio.op]
    if direction == own and own & flags == flags and 0 < number <= len(bio.data):
        damage.append((number - 1, value))
    chance = features.get(("random_read_corrupt", "random_write_corrupt")[own], (0,))[0]
    if chance:
        draw = Random(seed)
        if draw.randrange(CHANCES) < chance:
            damage.append((draw.randrange(len(bio.data)), draw.randrange(256)))
    return damage

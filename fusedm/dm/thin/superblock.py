"""Block 0 of a pool's metadata, from which everything else is found. Pure.

Source: the on-disk format of the kernel's dm-thin-metadata.c, version 2.
"""

import errno
import struct
from dataclasses import dataclass, field, replace

from fusedm.block.errors import StackError
from fusedm.dm.thin.blocks import BLOCK_SECTORS, BLOCK_SIZE, SUPERBLOCK_SALT, check_sum, seal

MAGIC = 27022010
VERSION = 2
#: thin_check has to look at the metadata before they are changed again.
NEEDS_CHECK = 1

#: A root of a space map has 128 bytes of room.
_ROOT = struct.Struct("<4Q96x")
#: flags, block number, uuid, magic, version, time, transaction id, held root, space maps of data
#: and metadata, roots of mappings and details, data block size, block size, number of blocks, and
#: flags of features.
_LAYOUT = struct.Struct("<4xIQ16sQIIQQ128s128sQQIIQIII")


@dataclass(frozen=True)
class SpaceMapRoot:
    """Where the reference counts of some blocks are found."""

    blocks: int = 0
    allocated: int = 0
    bitmaps: int = 0
    ref_counts: int = 0


@dataclass(frozen=True)
class Superblock:
    """A transaction: roots, and what is told of the pool as a whole.

    Units: block_sectors is the size of a data block in sectors; roots are numbers of blocks.
    held_root is the block of a metadata snapshot's superblock, 0 if there is none.
    """

    block_sectors: int
    metadata_blocks: int
    mappings: int = 0
    details: int = 0
    data_map: SpaceMapRoot = field(default_factory=SpaceMapRoot)
    metadata_map: SpaceMapRoot = field(default_factory=SpaceMapRoot)
    time: int = 0
    transaction_id: int = 0
    held_root: int = 0
    flags: int = 0
    uuid: bytes = b"".ljust(16, b"\0")
    version: int = VERSION
    features: tuple[int, int, int] = (0, 0, 0)

    def pack(self, block: int = 0) -> bytearray:
        """The block; a metadata snapshot has it elsewhere."""
        data = bytearray(BLOCK_SIZE)
        _LAYOUT.pack_into(
            data,
            0,
            self.flags,
            block,
            self.uuid,
            MAGIC,
            self.version,
            self.time,
            self.transaction_id,
            self.held_root,
            _pack_root(self.data_map),
            _pack_root(self.metadata_map),
            self.mappings,
            self.details,
            self.block_sectors,
            BLOCK_SECTORS,
            self.metadata_blocks,
            *self.features,
        )
        return seal(data, SUPERBLOCK_SALT)

    def held(self) -> "Superblock":
        """What a metadata snapshot says: nothing of space, which goes on changing."""
        nothing = SpaceMapRoot()
        return replace(self, data_map=nothing, metadata_map=nothing, held_root=0)


def parse_superblock(data: bytes | bytearray, block: int = 0) -> Superblock:
    """Read a superblock.

    Raises: StackError: EILSEQ if it is none or damaged, EINVAL for a version or features that are
        not known.
    """
    (
        flags,
        place,
        uuid,
        magic,
        version,
        time,
        transaction_id,
        held_root,
        data_map,
        metadata_map,
        mappings,
        details,
        block_sectors,
        metadata_block_sectors,
        metadata_blocks,
        *features,
    ) = _LAYOUT.unpack_from(data)
    if magic != MAGIC:
        text = f"magic {magic} is not that of a thin pool's metadata ({MAGIC})"
        raise StackError(text, errno.EILSEQ)
    check_sum(data, SUPERBLOCK_SALT, place, block, "superblock")
    if not 1 <= version <= VERSION:
        raise StackError(f"version {version} of thin metadata is not known (1 and {VERSION} are)")
    if features[2]:
        raise StackError(f"thin metadata have features that are not known ({features[2]:#x})")
    if metadata_block_sectors != BLOCK_SECTORS:
        text = f"metadata blocks of {metadata_block_sectors} sectors are not of {BLOCK_SECTORS}"
        raise StackError(text)
    return Superblock(
        block_sectors,
        metadata_blocks,
        mappings,
        details,
        SpaceMapRoot(*_ROOT.unpack(data_map)),
        SpaceMapRoot(*_ROOT.unpack(metadata_map)),
        time,
        transaction_id,
        held_root,
        flags,
        uuid,
        version,
        (features[0], features[1], features[2]),
    )


def _pack_root(root: SpaceMapRoot) -> bytes:
    return _ROOT.pack(root.blocks, root.allocated, root.bitmaps, root.ref_counts)

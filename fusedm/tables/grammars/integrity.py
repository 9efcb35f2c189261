"""integrity and verity: data that are checked when they are read."""

from dataclasses import dataclass

from fusedm.block.units import SECTOR_SIZE
from fusedm.tables.finding import Kernel
from fusedm.tables.grammar import Grammar, not_known
from fusedm.tables.pieces import (
    MAX_32_BITS,
    Choice,
    Device,
    Feature,
    Group,
    Number,
    Offset,
    Text,
)
from fusedm.tables.reader import Reader
from fusedm.tables.sector_size import blocks_fit

#: Options of verity that exclude each other.
_ON_CORRUPTION = ("ignore_corruption", "restart_on_corruption", "panic_on_corruption")
_ON_ERROR = ("restart_on_error", "panic_on_error")
_FEC = ("use_fec_from_device", "fec_blocks", "fec_start", "fec_roots")

_DIGEST_BYTES = {"md5": 16, "sha1": 20, "sha224": 28, "sha256": 32, "sha384": 48, "sha512": 64}


@dataclass(frozen=True)
class _Algorithm:
    """alg or alg:key, the key in hexadecimal digits."""

    name: str

    def read(self, line: Reader) -> bool:
        """Take one word, which is what follows a colon."""
        word = line.take(self.name)
        assert word is not None, "it is what follows a colon"
        algorithm, colon, key = word.text.partition(":")
        if not algorithm:
            line.error(f"{self.name}: the algorithm is missing", word)
        if colon and (len(key) % 2 or key.strip("0123456789abcdefABCDEF")):
            line.error(f"{self.name}: the key is not pairs of hexadecimal digits", word)
        elif colon and not key.strip("0"):
            line.error(
                f"{self.name}: the key is all zeros: this is a line that was printed with its key "
                "masked (dmsetup table --showkeys prints it)",
                word,
                Kernel(0, why="it checks with a key of zeros, and finds everything wrong"),
            )
        line.add(self.name, word, algorithm, printed=word.text, is_secret=True)
        return True


class _TagSize:
    """A number of bytes, or - for that of the digest."""

    def read(self, line: Reader) -> bool:
        """Take one word."""
        if line.peek() == "-":
            return Text("tag_size").read(line)
        return Number("tag_size", "bytes", minimum=1, maximum=MAX_32_BITS).read(line)


def _option(name: str, unit: str = "", maximum: int = MAX_32_BITS) -> Feature:
    return Feature(f"{name}:", (Number(name, unit, maximum=maximum),))


def _integrity_fits(line: Reader) -> None:
    blocks_fit(line, line.number("block_size", SECTOR_SIZE), ("reserved",))
    if line.text("tag_size") == "-" and line.get("internal_hash") is None:
        line.error(
            "tag_size: '-' is the size of the digest, but there is no internal_hash",
            line.get("tag_size"),
        )
    if line.text("mode") == "D" and line.get("internal_hash") is not None:
        line.warn("mode D: after a crash data and tags may not fit each other", line.get("mode"))


def _verity_fits(line: Reader) -> None:
    names = [name for name, _ in line.features]
    for family in (_ON_CORRUPTION, _ON_ERROR):
        given = [name for name in names if name in family]
        if len(given) > 1:
            line.error(f"{' and '.join(given)} exclude each other", line.get("feature"))
    fec = [name for name in names if name in _FEC]
    if fec and "use_fec_from_device" not in fec:
        line.error(f"{fec[0]} needs use_fec_from_device", line.get("feature"))
    if line.read_only is False:
        line.error("the table must be read-only", kernel=Kernel(why="Device must be readonly"))
    elif line.read_only is None:
        line.warn(
            "the table must be loaded with --readonly",
            kernel=Kernel(0, why="if it is read-only; else it says EINVAL at load"),
        )
    wanted = _DIGEST_BYTES.get(line.text("algorithm"))
    digest = len(line.text("digest")) // 2
    if wanted is not None and digest != wanted:
        line.error(
            f"digest: {digest} bytes: {line.text('algorithm')} gives {wanted}", line.get("digest")
        )
    sectors = line.number("data_blocks") * line.number("data_block_size") // SECTOR_SIZE
    if sectors < line.sector_count:
        line.error(
            f"length {line.sector_count} is more than {line.number('data_blocks')} data blocks of "
            f"{line.number('data_block_size')} bytes, {sectors} sectors"
        )


def _block_size(name: str) -> Number:
    return Number(name, "bytes", SECTOR_SIZE, 1 << 16, power_of_two=True)


GRAMMARS = [
    Grammar(
        "integrity",
        "dev reserved tag_size|- J|B|D|R|I n opt...",
        (
            Device(),
            Offset("reserved"),
            _TagSize(),
            Choice("mode", ("J", "B", "D", "R", "I")),
            Group(
                (
                    _option("journal_sectors", "sectors"),
                    _option("interleave_sectors", "sectors"),
                    _option("buffer_sectors", "sectors"),
                    _option("journal_watermark", "percent", 100),
                    _option("commit_time", "ms"),
                    _option("sectors_per_bit", "sectors"),
                    _option("bitmap_flush_interval", "ms"),
                    Feature("meta_device:", (Device("meta_device"),)),
                    Feature(
                        "block_size:",
                        (Number("block_size", "bytes", SECTOR_SIZE, 4096, power_of_two=True),),
                    ),
                    *(
                        Feature(f"{name}:", (_Algorithm(name),))
                        for name in ("internal_hash", "journal_crypt", "journal_mac")
                    ),
                    *map(
                        Feature,
                        (
                            "recalculate",
                            "reset_recalculate",
                            "allow_discards",
                            "allow_discards_keyed",
                            "fix_padding",
                            "fix_hmac",
                            "legacy_recalculate",
                        ),
                    ),
                ),
                maximum=19,
                name="options",
                optional=False,
            ),
        ),
        (_integrity_fits,),
        not_known,
        is_alone=True,
        masks_key=True,
    ),
    Grammar(
        "verity",
        "version data hash data_block_size hash_block_size data_blocks hash_start algorithm "
        "digest salt|- [n opt...]",
        (
            Number("version", maximum=1),
            Device("data"),
            Device("hash"),
            _block_size("data_block_size"),
            _block_size("hash_block_size"),
            Number("data_blocks", "blocks", minimum=1),
            Number("hash_start", "blocks"),
            Text("algorithm"),
            Text("digest", hexadecimal=True),
            Text("salt", dash=True, hexadecimal=True),
            Group(
                (
                    *map(Feature, (*_ON_CORRUPTION, *_ON_ERROR)),
                    Feature("ignore_zero_blocks"),
                    Feature("check_at_most_once"),
                    Feature("try_verify_in_tasklet"),
                    Feature("use_fec_from_device", (Device("fec_device"),)),
                    Feature("fec_blocks", (Number("fec_blocks", "blocks"),)),
                    Feature("fec_start", (Number("fec_start", "blocks"),)),
                    Feature("fec_roots", (Number("fec_roots"),)),
                    Feature("root_hash_sig_key_desc", (Text("signature"),)),
                ),
                maximum=32,
                name="options",
            ),
        ),
        (_verity_fits,),
        is_alone=True,
    ),
]

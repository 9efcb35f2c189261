"""crypt: encryption by the kernel's own ciphers."""

import errno

from fusedm.block.cipher_word import (
    DIGEST_SIZES,
    CipherWord,
    check_cipher_here,
    parse_cipher_word,
)
from fusedm.block.errors import CryptoError
from fusedm.block.units import SECTOR_SIZE
from fusedm.tables.finding import Fusedm, Kernel
from fusedm.tables.grammar import Grammar
from fusedm.tables.kernel_ciphers import CIPHERS, SIMPLE_CHAINS, unknown_part
from fusedm.tables.keys import CRYPT_KEY, OneKey, has_equal_halves
from fusedm.tables.pieces import Device, Feature, Group, Number, Offset
from fusedm.tables.reader import Reader, human
from fusedm.tables.sector_size import (
    IV_OFFSET,
    SECTOR_SIZE_OPTION,
    blocks_fit,
    iv_offset_fits,
    options_printed,
)
from fusedm.tables.words import whole_number

#: Bytes of a key of adiantum, whatever its ciphers.
_ADIANTUM_KEYS = (32,)
#: IV modes that take a part of the key for themselves, so that sizes are another matter.
_IVS_WITH_KEYS = ("lmk", "tcw", "elephant")

#: plain has 32 bits of the number of a sector.
_PLAIN_SECTORS = 1 << 32

#: In the order in which the kernel prints them.
_PRINTED = (
    "allow_discards",
    "same_cpu_crypt",
    "high_priority",
    "submit_from_crypt_cpus",
    "no_read_workqueue",
    "no_write_workqueue",
    "integrity:",
    "sector_size:",
    "iv_large_sectors",
    "integrity_key_size:",
)


class Cipher:
    """The first word."""

    def read(self, line: Reader) -> bool:
        """Take one word."""
        word = line.take("cipher")
        if word is None:
            return False
        try:
            parse_cipher_word(word.text)
        except CryptoError as error:
            line.error(f"cipher: {line.quote(word)} {error}", word)
        line.add("cipher", word, word.text)
        return True


class _Integrity:
    """The value of integrity: N:aead or N:none."""

    def read(self, line: Reader) -> bool:
        """Take one word, which is in two parts."""
        word = line.take("integrity")
        assert word is not None, "it is what follows a colon"
        count, colon, kind = word.text.partition(":")
        if not whole_number(count) or not colon or kind not in ("aead", "none"):
            line.error(f"integrity: {line.quote(word)} is not N:aead or N:none", word)
        line.add("integrity", word, word.text)
        return True


def _cipher_fits(line: Reader) -> None:
    spec = parse_cipher_word(line.text("cipher"))
    for check in (_is_known, _key_fits, _iv_repeats):
        check(line, spec)


def _key_fits(line: Reader, spec: CipherWord) -> None:
    key = line.get("key")
    assert key is not None, "it has been read"
    is_adiantum = spec.chain == "adiantum"
    sizes = _ADIANTUM_KEYS if is_adiantum else CIPHERS.get(spec.cipher)
    if sizes is None or not (is_adiantum or spec.chain in SIMPLE_CHAINS):
        return  # Whatever it is, the key cannot be measured.
    if spec.iv in _IVS_WITH_KEYS or line.get("integrity"):
        return
    times = spec.key_count * (2 if spec.chain == "xts" else 1)
    extra = 16 if spec.chain == "lrw" else 0
    wanted = [size * times + extra * spec.key_count for size in sizes]
    if line.number("key") not in wanted:
        told = " or ".join(map(str, wanted))
        line.error(f"key: {line.number('key')} bytes: {spec.cipher} here takes {told}", key)
    if spec.chain == "xts" and spec.key_count == 1 and key.value and has_equal_halves(line):
        line.warn("key: its halves are equal, which makes XTS weak", key)
    digest = DIGEST_SIZES.get(spec.iv_options)
    if spec.iv == "essiv" and not is_adiantum and digest is not None and digest not in sizes:
        line.error(
            f"cipher: {spec.iv_options} gives {digest} bytes, which are no key of {spec.cipher}",
            line.get("cipher"),
        )


def _is_known(line: Reader, spec: CipherWord) -> None:
    unknown = unknown_part(spec)
    if unknown:
        kernel = Kernel(errno.ENOENT, why="Error allocating crypto tfm")
        line.error(f"cipher: no kernel knows the {unknown}", line.get("cipher"), kernel)
        return
    try:
        if line.get("integrity") or line.get("integrity_key_size"):
            raise CryptoError("authenticated encryption is run by the kernel only")
        check_cipher_here(spec)
    except CryptoError as error:
        lacks = Fusedm(error.errno, "it does not have that")
        line.warn(f"cipher: {error}", line.get("cipher"), fusedm=lacks)


def _iv_repeats(line: Reader, spec: CipherWord) -> None:
    block = line.number("sector_size", SECTOR_SIZE) // SECTOR_SIZE
    large = line.has("iv_large_sectors")
    last = (line.number("iv_offset") + line.sector_count - 1) // (block if large else 1)
    place = line.get("cipher")
    if spec.iv == "plain" and last >= _PLAIN_SECTORS:
        line.warn(
            "cipher: plain has 32 bits of the sector number, so IVs repeat after "
            f"{human(_PLAIN_SECTORS * (block if large else 1))}: use plain64",
            place,
        )
    if spec.chain == "ecb" and spec.cipher != "cipher_null":
        line.warn("cipher: in ecb equal blocks are encrypted alike, wherever they are", place)
    elif spec.iv == "null":
        line.warn("cipher: with a null IV equal sectors begin alike, wherever they are", place)
    elif spec.chain == "cbc" and spec.iv.startswith("plain"):
        line.warn(
            "cipher: cbc with IVs that can be told ahead lets chosen data be found again: use xts",
            place,
        )
    elif spec.iv == "essiv" and spec.chain != "cbc":
        line.warn(f"cipher: essiv is made for cbc, and brings nothing to {spec.chain}", place)


def _sector_size(line: Reader) -> None:
    size = line.get("sector_size")
    if size is None:
        line.warn(
            "no sector_size: every 512 bytes are encrypted by themselves; sector_size:4096 is "
            "faster, but another format"
        )
        return
    blocks_fit(line, line.number("sector_size"))
    large = line.has("iv_large_sectors")
    if line.number("sector_size") > SECTOR_SIZE and not large:
        line.warn(
            "sector_size without iv_large_sectors: IVs count 512 bytes, which inline hardware and "
            "inlinecrypt do not",
            size,
        )


def _printed(line: Reader) -> list[str]:
    return [found.printed for found in line.fields[:5]] + options_printed(line, _PRINTED)


GRAMMARS = [
    Grammar(
        "crypt",
        "cipher key iv_offset dev offset [n opt...]",
        (
            OneKey(),
            Cipher(),
            CRYPT_KEY,
            IV_OFFSET,
            Device(),
            Offset(),
            Group(
                (
                    *map(Feature, _PRINTED[:6]),
                    Feature("integrity:", (_Integrity(),)),
                    Feature("integrity_key_size:", (Number("integrity_key_size", "bytes"),)),
                    SECTOR_SIZE_OPTION,
                    Feature("iv_large_sectors"),
                ),
                maximum=9,
                name="options",
                ignore_case=True,
            ),
        ),
        (_cipher_fits, iv_offset_fits, _sector_size),
        _printed,
        masks_key=True,
    )
]

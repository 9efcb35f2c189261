"""Lines of crypt for the kernel and for fusedm: every IV mode, chain, key size and option."""

from tests.helpers.uml.guest_data import noise
from tests.helpers.uml.tables import Bad, Good, departing, unknown

#: Keys by their size in bytes.
KEYS = {size: noise(size, size).hex() for size in (16, 24, 32, 48, 64, 128)}
K16, K24, K32, K48, K64, K128 = KEYS.values()


def _large(cipher: str, key: str) -> tuple[Good, ...]:
    words = ("sector_size:4096", "sector_size:1024", "sector_size:4096 iv_large_sectors")
    return tuple(
        Good(f"0 1024 crypt {cipher} {key} 16 d0 8 {len(options.split())} {options}")
        for options in words
    )


CRYPT_GOOD: tuple[Good, ...] = (
    *(Good(f"0 1024 crypt aes-xts-plain64 {key} 0 d0 0") for key in (K32, K48, K64)),
    *(Good(f"0 1024 crypt aes-cbc-plain64 {key} 0 d0 0") for key in (K16, K24, K32)),
    Good(f"0 1024 crypt aes-ecb {K32} 0 d0 0"),
    *(
        Good(f"0 1024 crypt aes-{chain}-{iv} {key} 7 d0 16")
        for chain, key in (("cbc", K32), ("xts", K64))
        for iv in ("plain", "plain64", "plain64be", "essiv:sha256", "benbi", "null", "eboiv")
    ),
    Good(f"0 1024 crypt aes-cbc-essiv:md5 {K32} 3 d0 0"),
    # The low 32 bits of the number run over within the device; those of plain64 do not.
    Good(f"0 1024 crypt aes-cbc-plain {K32} 4294967288 d0 0"),
    Good(f"0 1024 crypt aes-cbc-plain64 {K32} 4294967288 d0 0"),
    Good(f"0 1024 crypt aes-xts-plain64 {K64} 18446744073709551608 d0 0"),
    # Several keys in turn.
    Good(f"0 1024 crypt aes:2-cbc-plain64 {K32} 0 d0 0"),
    Good(f"0 1024 crypt aes:4-xts-plain64 {K128} 5 d0 0"),
    Good(f"0 1024 crypt capi:xts(aes)-plain64 {K64} 0 d0 0"),
    Good(f"0 1024 crypt capi:cbc(aes)-essiv:sha256 {K32} 0 d0 0"),
    Good(f"0 1024 crypt capi:ecb(aes)-null {K32} 0 d0 0"),
    *_large("aes-xts-plain64", K64),
    *_large("aes-cbc-essiv:sha256", K32),
    *_large("aes-cbc-eboiv", K32),
    *_large("aes-cbc-benbi", K32),
    *_large("aes-cbc-plain64be", K32),
    Good(f"0 1024 crypt aes-xts-plain64 {K64} 0 d0 0 1 allow_discards"),
    Good(
        f"0 1024 crypt aes-xts-plain64 {K64} 0 d0 0 5 no_write_workqueue sector_size:512 "
        "same_cpu_crypt submit_from_crypt_cpus no_read_workqueue"
    ),
    Good(f"0 512 crypt aes-xts-plain64 {K64} 0 d0 0\n512 512 crypt aes-cbc-plain64 {K32} 512 d1 0"),
    Good(f"0 8 zero\n8 64 crypt aes-cbc-plain64 {K32} 0 d0 0"),
    Good(f"0 1024 crypt aes-xts-plain64 {K64} 0 b4 8"),
)

CRYPT_BAD: tuple[Bad, ...] = (
    Bad("0 1024 crypt"),
    Bad(f"0 1024 crypt aes-xts-plain64 {K64} 0 d0"),
    Bad(f"0 1024 crypt aes-xts-plain64 {K64} x d0 0"),
    Bad(f"0 1024 crypt aes-xts-plain64 {K64} 0 d0 x"),
    Bad(f"0 1024 crypt aes-xts-plain64 {K64[1:]} 0 d0 0"),
    Bad(f"0 1024 crypt aes-xts-plain64 {'z' * 64} 0 d0 0"),
    Bad(f"0 1024 crypt aes-xts-plain64 {K16} 0 d0 0"),
    Bad(f"0 1024 crypt aes-cbc-plain64 {K64} 0 d0 0"),
    Bad("0 1024 crypt aes-xts-plain64 - 0 d0 0"),
    Bad(f"0 1024 crypt aes-xts {K64} 0 d0 0"),
    Bad(f"0 1024 crypt aes-xts-nosuch {K64} 0 d0 0"),
    Bad(f"0 1024 crypt aes-cbc-essiv {K32} 0 d0 0"),
    Bad(f"0 1024 crypt aes:3-cbc-plain64 {K48} 0 d0 0"),
    Bad(f"0 1024 crypt aes:0-cbc-plain64 {K32} 0 d0 0"),
    Bad(f"0 1024 crypt nosuch-xts-plain64 {K64} 0 d0 0"),
    Bad(f"0 1024 crypt aes-nosuch-plain64 {K64} 0 d0 0"),
    Bad(f"0 1024 crypt aes-cbc-essiv:nosuch {K32} 0 d0 0"),
    Bad(f"0 1024 crypt capi:nosuch(aes)-plain64 {K64} 0 d0 0"),
    departing(
        f"0 1024 crypt capi:xts(aes) {K64} 0 d0 0",
        f"taken: 0 1024 crypt capi:xts(aes) {K64} 0 d0 0",
        "load: EINVAL",
        "without an IV mode every sector has the same IV",
    ),
    unknown(f"0 1024 crypt aes-xts-plain64 {K64} 0 nosuch 0"),
    Bad("0 1024 crypt aes-xts-plain64 :64:user:nosuch 0 d0 0"),
    Bad("0 1024 crypt aes-xts-plain64 :64:logon:nosuch:x 0 d0 0"),
    Bad("0 1024 crypt aes-xts-plain64 :64:nosuch:x 0 d0 0"),
    Bad("0 1024 crypt aes-xts-plain64 :64:user: 0 d0 0"),
    Bad(f"0 1024 crypt aes-xts-plain64 {K64} 0 d0 0 1"),
    Bad(f"0 1024 crypt aes-xts-plain64 {K64} 0 d0 0 1 nosuch"),
    Bad(f"0 1024 crypt aes-xts-plain64 {K64} 0 d0 0 1 sector_size:513"),
    Bad(f"0 1024 crypt aes-xts-plain64 {K64} 0 d0 0 1 sector_size:8192"),
    Bad(f"0 1023 crypt aes-xts-plain64 {K64} 0 d0 0 1 sector_size:4096"),
    Bad(f"0 1024 crypt aes-xts-plain64 {K64} 1 d0 0 1 sector_size:4096"),
)

"""Every grammar: lines that are in order, and what is said of those that are not."""

import pytest

from fusedm.tables import all_grammars, check_text
from tests.helpers.table_lines import GOOD, KERNEL_ONLY
from tests.helpers.table_lint import findings, with_keys

#: Lines of 8192 sectors and all that is found, in order.
ODD = [
    ("linear d0", ["error at '': offset is missing: it takes dev offset"]),
    ("linear", ["error at '': dev is missing: it takes dev offset"]),
    ("linear d0 0 1 2", ["error at '1 2': '1 2' is too much: it takes dev offset"]),
    ("linear d0 2048s",
     ["error at '2048s': offset: '2048s' is not a number of sectors (2048s is 2048 sectors)"]),
    ("linear d0 1m", ["error at '1m': offset: '1m' is not a number of sectors "
                      "(1m is 2048 sectors)"]),
    ("linear d0 -8", ["error at '-8': offset: '-8' is not a number of sectors"]),
    ("linear d0 1000b", ["error at '1000b': offset: '1000b' is not a number of sectors"]),
    ("linear d0 7", ["warning at '7': offset 7: is not a multiple of 8 sectors (3.5 KiB)"]),
    ("linear - 0", ["warning at '-': dev: '-' is looked up as the name of a device here"]),
    ("linear 9999:0 0", ["error at '9999:0': dev: device '9999:0' is not in 0:0..4095:1048575"]),
    ("linear 1:1048576 0",
     ["error at '1:1048576': dev: device '1:1048576' is not in 0:0..4095:1048575"]),
    ("linear d0 18014398509481983",
     ["error at '18014398509481983': offset: 18014398509481983 + 8192 sectors ends past "
      "18014398509481983 sectors, the largest a device can be"]),
    ("linear d0 99999999999999999999999",
     ["error at '***********************': offset: *********************** is not "
      "in 0..18014398509481983 sectors"]),
    ("zero d0", ["error at 'd0': 'd0' is too much: it takes no arguments"]),
    ("error a b c", ["warning at 'a b c': only two arguments, dev offset, mean anything to it"]),
    ("error d0 12x", ["error at '12x': offset: '12x' is not a number of sectors"]),
    ("striped 0 8 d0 0", ["error at '0': stripes: 0 is not in 1..18014398509481983"]),
    ("striped x 8 d0 0", ["error at 'x': stripes: 'x' is not a number"]),
    ("striped 2", ["error at '': chunk is missing: it takes stripes chunk [dev offset]+"]),
    ("striped 2 8 d0 0", ["error at '2': stripes 2: 4 words should follow, 2 do"]),
    ("striped 1 8 d0 0 d1", ["error at '1': stripes 1: 2 words should follow, 3 do"]),
    ("striped 3 8 d0 0 d1 0 d2 0", ["error at '0 8192 striped 3 8 d0 0 d1 0 d2 0': length 8192 "
                                    "is not a multiple of 3 stripes * 8 sectors"]),
    ("striped 2 4 d0 0 d1 0", ["warning at '4': chunk 4: is not a multiple of 8 sectors, so"]),
    ("unstriped 2 3 1 d0 0", ["error at '0 8192 unstriped 2 3 1 d0 0': length 8192 is not a "
                              "multiple of the chunk of 3 sectors"]),
    ("unstriped 2 8 3 d0 0", ["error at '3': index 3: is not below 2 stripes"]),
    ("unstriped 2 8 2 d0 0",
     ["warning at '2': index 2: there is no such stripe, they are 0..1"]),
    ("switch 2 16384 0 d0 0 d1 0",
     ["warning at '16384': region_size 16384: one region holds all 8192 sectors, so only"]),
    ("switch 1 8 1 d0 0", ["error at '1': optional arguments: 1 is not in 0..0"]),
    ("flakey d0 0 0 0", ["error at '0': up 0 + down 0 is not in 1..4294967295 seconds"]),
    ("flakey d0 0 10000 1", ["warning at '10000': up 10000: is in seconds: 2.8 hours"]),
    ("flakey d0 0 1 1 2 drop_writes", ["error at '2': features 2: 2 words are announced, 1"]),
    ("flakey d0 0 1 1 1 a b", ["error at '1': features 1: 1 words are announced, 2 follow"]),
    ("flakey d0 0 1 1 x", ["error at 'x': features: 'x' is not a number of words"]),
    ("flakey d0 0 1 1 12", ["error at '12': features: 12 is not in 0..11 words"]),
    ("flakey d0 0 1 1 2 drop_writes drop_writes",
     ["error at 'drop_writes': drop_writes is given twice"]),
    ("flakey d0 0 1 1 2 drop_writes error_writes",
     ["error at 'error_writes': drop_writes and error_writes exclude each other"]),
    ("flakey d0 0 1 1 3 drop_writes random_write_corrupt 1",
     ["error at 'random_write_corrupt': drop_writes and corruption of writes exclude"]),
    ("flakey d0 0 1 1 6 error_reads corrupt_bio_byte 1 r 0 0",
     ["error at 'corrupt_bio_byte': error_reads and corruption of reads exclude each other"]),
    ("flakey d0 0 1 1 3 corrupt_bio_byte 0 x",
     ["error at '0': byte: 0 is not in 1..4294967295",
      "error at 'x': direction: 'x' is not one of r, w",
      "error at '': value is missing: it takes dev offset up down [n feature...]"]),
    ("flakey d0 0 1 1 1 foo", ["error at 'foo': 'foo' is not one of its features: error_reads, "]),
    ("delay d0 0", ["error at '0 8192 delay d0 0': 2 arguments: it takes 3, 6 or 9 (dev off"]),
    ("delay d0 0 90000", ["warning at '90000': ms 90000: is 1.5 minutes"]),
    ("dust d0 0 8",
     ["error at '8': blksz: 8 is not in 512..4194304 bytes (8 sectors are 4096 bytes)"]),
    ("dust d0 0 1000", ["error at '1000': blksz: 1000 is not a power of two"]),
    ("log-writes d0 d1 x y", ["warning at 'x y': 'x y' is ignored: it takes dev logdev"]),
    ("log-writes d0 d0", ["warning at 'd0': logdev: the log is written to dev 'd0' itself"]),
    ("ebs d0 0 4096",
     ["error at '4096': emulated: 4096 is not in 1..8 sectors (4096 bytes are 8 sectors)"]),
    ("ebs d0 4 1 8",
     ["warning at '4': offset 4: is not a multiple of 8 sectors (2 KiB)",
      "error at '4': offset 4: is not a multiple of the underlying block of 8 sectors"]),
    ("crypt", ["error at '': cipher is missing: it takes cipher key iv_offset dev offset"]),
    ("crypt aes", ["error at '': key is missing: it takes"]),
    ("crypt -x K 0 d0 0 1 sector_size:512",
     ["error at '-x': cipher: '-x' has no cipher: use cipher-chainmode-ivmode"]),
    ("crypt aes:3-cbc-plain H 0 d0 0 1 sector_size:512",
     ["error at 'aes:3-cbc-plain': cipher: 'aes:3-cbc-plain' has a number of keys that is not"]),
    ("crypt aes-xts K 0 d0 0 1 sector_size:512",
     ["error at 'aes-xts': cipher: 'aes-xts' has no IV mode, which all but ecb need: use one of"]),
    ("crypt aes-xts-plane64 K 0 d0 0 1 sector_size:512",
     ["error at 'aes-xts-plane64': cipher: 'aes-xts-plane64' has an unknown IV mode: use one"]),
    ("crypt aes-cbc-essiv H 0 d0 0 1 sector_size:512",
     ["error at 'aes-cbc-essiv': cipher: 'aes-cbc-essiv' has no digest, which essiv needs"]),
    ("crypt aes-cbc-essiv:sha1 H 0 d0 0 1 sector_size:512",
     ["error at 'aes-cbc-essiv:sha1': cipher: sha1 gives 20 bytes, which are no key of aes"]),
    ("crypt capi:xts(aes) K 0 d0 0",
     ["error at 'capi:xts(aes)': cipher: 'capi:xts(aes)' has no IV mode, which all but"]),
    ("crypt aes H 0 d0 0 1 sector_size:512",
     ["warning at 'aes': cipher: cbc with IVs that can be told ahead lets chosen data"]),
    ("crypt foo-cbc-null H 0 d0 0 1 sector_size:512",
     ["warning at 'foo-cbc-null': cipher: cipher foo is not known here, so its key is not chec",
      "warning at 'foo-cbc-null': cipher: with a null IV equal sectors begin alike"]),
    ("crypt aes-ecb H 0 d0 0 1 sector_size:512",
     ["warning at 'aes-ecb': cipher: in ecb equal blocks are encrypted alike"]),
    ("crypt aes-xts-essiv:sha256 K 0 d0 0 1 sector_size:512",
     ["warning at 'aes-xts-essiv:sha256': cipher: essiv is made for cbc, and brings nothing to"]),
    ("crypt aes-xts-plain K 4294967296 d0 0 1 sector_size:512",
     ["warning at 'aes-xts-plain': cipher: plain has 32 bits of the sector number, so IVs repe"]),
    ("crypt aes-xts-plain64 S 0 d0 0 1 sector_size:512",
     ["error at '********************************': key: 16 bytes: aes here takes 32 or 48 or"]),
    ("crypt aes-xts-plain64 abab" + "ab" * 62 + " 0 d0 0 1 sector_size:512",
     ["warning at '" + "*" * 128 + "': key: its halves are equal, which makes XTS weak"]),
    ("crypt aes-xts-plain64 " + "0" * 128 + " 0 d0 0 1 sector_size:512",
     ["error at '" + "*" * 128 + "': the key is all zeros: this is a line that was printed with"]),
    ("crypt aes-xts-plain64 abc 0 d0 0 1 sector_size:512",
     ["error at '***': key: 3 digits: a byte is two of them, so one is missing"]),
    ("crypt aes-xts-plain64 abxd 0 d0 0 1 sector_size:512",
     ["error at '****': key: character 3 of 4 is not a hexadecimal digit"]),
    ("crypt aes-xts-plain64 - 0 d0 0 1 sector_size:512",
     ["error at '-': key: 0 bytes: aes here takes 32 or 48 or 64"]),
    ("crypt aes-xts-plain64 :64:logon 0 d0 0 1 sector_size:512",
     ["error at ':64:logon': key: a key of a keyring is named :size:type:description"]),
    ("crypt aes-xts-plain64 :x:keys:a\\ b 0 d0 0 1 sector_size:512",
     ["error at ':x:keys:a\\\\ b': key: the size in :size:type:description is not a number",
      "error at ':x:keys:a\\\\ b': key: the type in :size:type:description is not one of user",
      "error at ':x:keys:a\\\\ b': key: the description in :size:type:description has a blank"]),
    ("crypt aes-xts-plain64 K 0 d0 0",
     ["warning at '0 8192 crypt aes-xts-plain64 " + "*" * 128 + " 0 d0 0': no sector_size: eve"]),
    ("crypt aes-xts-plain64 K 1 d0 8 1 sector_size:4096",
     ["error at '1': iv_offset 1: is not a multiple of 8 sectors, the block of 4096 bytes",
      "warning at '4096': sector_size without iv_large_sectors: IVs count 512 bytes, which"]),
    ("crypt aes-xts-plain64 K 0 d0 0 1 sector_size:8",
     ["error at '8': sector_size: 8 is not in 512..4096 bytes (8 sectors are 4096 bytes)"]),
    ("crypt aes-xts-plain64 K 0 d0 0 2 integrity:x:aead sector_size:",
     ["error at 'x:aead': integrity: 'x:aead' is not N:aead or N:none",
      "error at '': sector_size: '' is not a number of bytes"]),
    ("snapshot d0 d0 P 8", ["error at 'd0': cow: is the origin itself"]),
    ("snapshot d0 d1 X 9", ["error at 'X': persistent: 'X' is not one of P, PO, N",
                            "error at '9': chunk: 9 is not a power of two"]),
    ("snapshot d0 d1 N 0", ["error at '0': chunk 0: is for a store that tells its own, P or PO"]),
    ("snapshot d0 d1 P 4", ["warning at '4': chunk 4: is smaller than 8 sectors, so devices wi"]),
    ("snapshot d0 d1 P 8 1 discard_passdown_origin",
     ["error at 'discard_passdown_origin': discard_passdown_origin needs discard_zeroes_cow"]),
    ("snapshot-merge d0 d1 N 8", ["error at 'N': persistent: 'N' is not one of P, PO"]),
    ("snapshot d0 d1", ["error at '': persistent is missing: it takes origin cow P|PO|N chunk"]),
    ("mirror core", ["error at '': log arguments is missing"]),
    ("mirror x 1 8 2 d0 0 d1 0", ["error at 'x': log: 'x' is not one of core, disk"]),
    ("mirror core x 8", ["error at 'x': log arguments: 'x' is not a number"]),
    ("mirror core 3 8 2 d0 0 d1 0", ["error at '3': log arguments 3: a core log takes 1 or 2"]),
    ("mirror core 1 8 2 d0 0 d1 0 0",
     ["warning at '0 8192 mirror core 1 8 2 d0 0 d1 0 0': without handle_errors a write that"]),
    ("mirror core 1 8 2 d0 0", ["error at '2': mirrors 2: 4 words should follow, 2 do"]),
    ("mirror core 1 8 2 d0 0 d1 0 1 keep_log",
     ["warning at '0 8192 mirror core 1 8 2 d0 0 d1 0 1 keep_log': without handle_errors",
      "error at 'keep_log': keep_log needs handle_errors"]),
    ("raid raid7 1 8 2 - d0 - d1", ["error at 'raid7': type: 'raid7' is not one of raid0, raid1"]),
    ("raid raid0 1 9 2 - d0 - d1", ["error at '9': chunk: 9 is not a power of two"]),
    ("raid raid1 1 8 2 - d0 - d1", ["warning at '8': chunk 8: raid1 ignores it and prints 0"]),
    ("raid raid0 3 8 sync nosync 2 - d0 - d1",
     ["error at 'sync': sync and nosync exclude each other"]),
    ("raid raid0 3 8 stripe_cache 9 2 - d0 - d1",
     ["error at 'stripe_cache': stripe_cache is not for raid0"]),
    ("raid raid0 3 16 region_size 8 2 - d0 - d1",
     ["error at '8': region_size 8: is smaller than the chunk of 16 sectors"]),
    ("raid raid5_ls 2 8 delta_disks 2 - d0 - d1",
     ["error at '2': delta_disks is missing: it takes type n chunk [parameter...] devices"]),
    ("raid raid5_ls 3 8 delta_disks x 2 - d0 - d1",
     ["error at 'x': delta_disks: 'x' is not a number"]),
    ("raid raid6_zr 1 8 3 - d0 - d1 - d2", ["error at '3': devices 3: raid6 takes at least 4"]),
    ("raid raid5_ls 1 8 3 d0 - - d1 - d2",
     ["error at 'd0': meta: is given for a data device that is missing"]),
    ("raid raid5_ls 3 8 rebuild 3 3 - d0 - d1 - d2",
     ["error at '3': rebuild 3: is not below 3 devices"]),
    ("raid raid0 1 8 2 - - - d1",
     ["error at '0 8192 raid raid0 1 8 2 - - - d1': 1 devices are missing or to be rebuilt, of"]),
    ("thin-pool d0 d1 64 4", ["error at '64': block: 64 is not in 128..2097152 sectors"]),
    ("thin-pool d0 d1 192 4", ["error at '192': block: 192 is not a multiple of 128"]),
    ("thin-pool d0 d1 128 0", ["warning at '0': low_water 0: nobody is told before the pool is"]),
    ("thin-pool d0 d1 128 64", ["warning at '64': low_water 64: is in blocks of 64 KiB, more"]),
    ("thin d0 16777216", ["error at '16777216': id: 16777216 is not in 0..16777215"]),
    ("thin d0 1 d0", ["error at 'd0': external_origin: is the pool itself"]),
    ("integrity d0 0 - J 0",
     ["error at '-': tag_size: '-' is the size of the digest, but there is no internal_hash"]),
    ("integrity d0 0 4 D 1 internal_hash:crc32c",
     ["warning at 'D': mode D: after a crash data and tags may not fit each other"]),
    ("integrity d0 0 4 J", ["error at '': options is missing: it takes dev reserved tag_size"]),
    ("integrity d0 0 4 J 1 internal_hash::0g",
     ["error at ':**': internal_hash: the algorithm is missing",
      "error at ':**': internal_hash: the key is not pairs of hexadecimal digits"]),
    ("integrity d0 0 4 J 1 journal_mac:hmac(sha256):0000",
     ["error at 'hmac(sha256):****': journal_mac: the key is all zeros: this is a line that"]),
    ("integrity d0 4 4 J 1 block_size:4096",
     ["warning at '4': reserved 4: is not a multiple of 8 sectors (2 KiB)",
      "error at '4': reserved 4: is not a multiple of 8 sectors, the block of 4096 bytes"]),
    ("cache d0 d1 d2 128 2 writeback passthrough smq 0",
     ["error at 'passthrough': writeback and passthrough exclude each other"]),
    ("cache d0 d1 d2 128 0 smq 0",
     ["warning at '0 8192 cache d0 d1 d2 128 0 smq 0': no mode is given: it is writethrough"]),
    ("cache d0 d1 d2 128 1 writeback smq 2 a",
     ["error at '2': policy words 2: 2 words are announced, 1 follow"]),
    ("cache d0 d1 d2 128 1 writeback smq x", ["error at 'x': policy words: 'x' is not a number"]),
    ("cache d0 d1 d2 128 1 writeback smq", ["error at '': policy words is missing"]),
    ("cache d0 d1 d2 128 1 writeback", ["error at '': policy is missing"]),
    ("writecache p d0 d1 512 2 fua pause_writeback",
     ["warning at 'p': kind p needs persistent memory; without it EOPNOTSUPP",
      "error at 'pause_writeback': pause_writeback is for kind s"]),
    ("writecache s d0 d1 512 1 fua", ["error at 'fua': fua is for kind p"]),
    ("clone d0 d1 d2 8 3 a b c", ["error at '3': features: 3 is not in 0..2 words"]),
    ("era d0 d1 4", ["error at '4': block: 4 is not in 8..18014398509481983 sectors"]),
]  # fmt: skip

SHA256 = "ab" * 32
VERITY = f"verity 1 d0 d1 4096 4096 1024 1 sha256 {SHA256} -"


def test_every_grammar_has_a_good_line():
    alone = {"verity", "inlinecrypt", "default-key"}
    assert {line.split()[0] for line, _ in GOOD} == all_grammars().keys() - alone
    assert list(all_grammars()) == sorted(all_grammars())


@pytest.mark.parametrize(("line", "printed"), GOOD, ids=[line for line, _ in GOOD])
def test_a_line_in_order_has_no_finding_and_is_printed(line, printed):
    text = f"0 8192 {with_keys(line)}"
    report = check_text(text)
    assert findings(text) == []
    shown = f"0 8192 {printed or line}".replace("K", "********").replace(" H ", " ******** ")
    assert report.tables[0].lines[0].printed.replace("hmac(sha256):****", "hmac(sha256):00ff") == (
        shown
    )


@pytest.mark.parametrize(("line", "wanted"), ODD, ids=[line[:60] for line, _ in ODD])
def test_what_is_wrong_or_odd_is_found_in_its_place(line, wanted):
    found = findings(f"0 8192 {with_keys(line)}")
    assert len(found) == len(wanted), found
    for one, begin in zip(found, wanted, strict=True):
        assert one.startswith(begin), one


def test_verity_wants_a_read_only_table():
    assert findings(f"0 8192 {VERITY}", read_only=True) == []
    (told,) = findings(f"0 8192 {VERITY}")
    assert told.endswith("the table must be loaded with --readonly")
    (error,) = check_text(f"v,,,rw,0 8192 {VERITY}").findings
    assert error.kernel.why == "Device must be readonly"
    assert findings(f"v,,,ro,0 8192 {VERITY}") == []


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (VERITY.replace("sha256", "sha512"), "digest: 32 bytes: sha512 gives 64"),
        (VERITY.replace("1024", "1000"), "length 8192 is more than 1000 data blocks of 4096 byte"),
        (VERITY.replace(SHA256, "abc"), "digest: 'abc' is not pairs of hexadecimal digits"),
        (
            f"{VERITY} 2 ignore_corruption panic_on_corruption",
            "ignore_corruption and panic_on_corruption exclude each other",
        ),
        (f"{VERITY} 2 fec_roots 2", "fec_roots needs use_fec_from_device"),
        (f"{VERITY} 1 use_fec_from_device", "fec_device is missing: it takes version data"),
        (VERITY.rpartition(" ")[0], "salt is missing: it takes version data hash"),
        (VERITY.partition(" sha")[0], "algorithm is missing"),
    ],
)
def test_what_does_not_fit_in_verity_is_found(line, text):
    (found,) = check_text(f"0 8192 {line}", read_only=True).findings
    assert found.text.startswith(text)
    assert found.kernel.name == "EINVAL"


@pytest.mark.parametrize(
    "options", ["fec_roots 2 use_fec_from_device d2", "check_at_most_once panic_on_error", ""]
)
def test_options_of_verity_that_go_together(options):
    count = len(options.split())
    assert findings(f"0 8192 {VERITY} {count} {options}", read_only=True) == []


def test_an_unknown_digest_of_verity_is_not_measured():
    assert findings(f"0 8192 {VERITY.replace('sha256', 'blake')}", read_only=True) == []


def test_more_regions_than_a_raid_can_have():
    text = f"0 {1 << 34} raid raid0 3 8 region_size 8192 2 - d0 - d1"
    (told,) = findings(text)
    assert told.startswith("error at '8192': region_size 8192: makes 2097152 regions of")


def test_plain_ivs_of_large_sectors_reach_further():
    line = with_keys("crypt aes-xts-plain K 4294967296 d0 0 2 sector_size:4096 iv_large_sectors")
    assert findings(f"0 8192 {line}") == []


@pytest.mark.parametrize(("line", "text"), KERNEL_ONLY, ids=[line for line, _ in KERNEL_ONLY])
def test_what_only_the_kernel_runs_is_said_without_refusing_it(line, text):
    found = check_text(f"0 8192 {with_keys(line)}").findings
    assert [one.severity.value for one in found if one.severity.value == "error"] == []
    (lacks,) = [one for one in found if one.is_refused_by_fusedm]
    assert lacks.text.startswith(text)


def test_a_key_count_may_be_too_large_for_fusedm():
    found = check_text("0 8192 crypt cipher_null:2048-cbc-plain - 0 d0 0").findings
    assert "key count so large" not in str(found)
    found = check_text(f"0 8192 crypt aes:2048-cbc-plain {'ab' * 64} 0 d0 0").findings
    assert "key: 64 bytes: aes here takes 32768 or 49152 or 65536" in [one.text for one in found]
    assert "cipher: a key count so large is run by the kernel only" in [one.text for one in found]


def test_an_iv_offset_may_be_larger_than_a_device():
    line = with_keys("crypt aes-xts-plain64 K 18014398509481984 d0 0 1 sector_size:512")
    assert findings(f"0 8192 {line}") == []


def test_essiv_does_not_go_with_ecb_in_fusedm():
    line = with_keys("crypt aes-ecb-essiv:sha256 H 0 d0 0 1 sector_size:512")
    (lacks,) = [o for o in check_text(f"0 8192 {line}").findings if o.is_refused_by_fusedm]
    assert lacks.text == "cipher: essiv with ecb is run by the kernel only"

"""Every grammar: lines that are in order, and what is said of those that are not."""

import pytest

from fusedm.tables import all_grammars, check_text
from tests.helpers.table_lines import GOOD, KERNEL_ONLY, NOT_KNOWN, ODD
from tests.helpers.table_lint import findings, with_keys

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
    if printed == NOT_KNOWN:
        assert report.tables[0].lines[0].printed == ""
        return
    shown = f"0 8192 {printed or line}".replace("K", "********").replace(" H ", " ******** ")
    assert report.tables[0].lines[0].printed == shown


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
    (lacks,) = [one for one in found if one.errno_of_fusedm()]
    assert lacks.text.startswith(text)


def test_a_key_count_may_be_too_large_for_fusedm():
    found = check_text("0 8192 crypt cipher_null:2048-cbc-plain - 0 d0 0").findings
    assert "keys, more than" not in str(found)
    found = check_text(f"0 8192 crypt aes:2048-cbc-plain {'ab' * 64} 0 d0 0").findings
    assert "key: 64 bytes: aes here takes 32768 or 49152 or 65536" in [one.text for one in found]
    assert "cipher: 2048 keys, more than 1024: that is run by the kernel only" in [
        one.text for one in found
    ]


def test_an_iv_offset_may_be_larger_than_a_device():
    line = with_keys("crypt aes-xts-plain64 K 18014398509481984 d0 0 1 sector_size:512")
    assert findings(f"0 8192 {line}") == []


def test_essiv_does_not_go_with_ecb_in_fusedm():
    line = with_keys("crypt aes-ecb-essiv:sha256 H 0 d0 0 1 sector_size:512")
    (lacks,) = [o for o in check_text(f"0 8192 {line}").findings if o.errno_of_fusedm()]
    assert lacks.text == "cipher: essiv with ecb is run by the kernel only"

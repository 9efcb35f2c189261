"""inlinecrypt and default-key, whose printed lines do not load back."""

import pytest

from fusedm.tables import check_text
from tests.helpers.table_lint import findings, with_keys

INLINE = "0 8192 inlinecrypt aes-xts-plain64"
DEFAULT = "0 8192 default-key aes-xts-plain64"
LARGE = "2 sector_size:4096 iv_large_sectors"


def errors_of(line: str) -> list[str]:
    return [t for t in findings(with_keys(line)) if t.startswith("error")]


def test_the_line_the_kernel_prints_of_inlinecrypt_does_not_load_back():
    text = with_keys(f"{INLINE} K 8 8:0 0 3 keytype:raw {LARGE[2:]}")
    (found,) = check_text(text).findings
    assert found.kernel.errno == 0
    assert found.text == (
        "the kernel prints it as `0 8192 inlinecrypt aes-xts-plain64 ******** 1 8 8:0 0 2 "
        "sector_size:4096 iv_large_sectors`, which does not load back: '1' is the key type: the "
        "kernel prints it here, but does not take it: use the option keytype:raw"
    )


def test_a_printed_line_may_be_taken_for_another_one():
    (found,) = check_text(with_keys(f"{INLINE} K 0 8 0")).findings
    assert found.text.endswith(
        "1 0 8 0`, which does not load back: it is taken for "
        "`0 8192 inlinecrypt aes-xts-plain64 ******** 1 1 0 8`"
    )


@pytest.mark.parametrize(("number", "kind"), [("1", "raw"), ("2", "hw-wrapped"), ("0", "raw")])
def test_a_printed_line_is_recognised(number, kind):
    (found,) = check_text(with_keys(f"{INLINE} K {number} 8 8:0 0")).findings
    assert found.place.text == number
    assert found.text.endswith(f"use the option keytype:{kind}")
    assert (found.kernel.name, found.kernel.when.name) == ("ENOENT", "LOAD")


def test_the_line_the_kernel_prints_of_default_key_has_no_key():
    (found,) = check_text(with_keys(f"{DEFAULT} K 0 8:0 0 1 allow_discards")).findings
    assert found.text == (
        "the kernel prints it as `0 8192 default-key aes-xts-plain64 - 0 8:0 0 1 allow_discards`, "
        "which does not load back: key: '-' stands where a key was printed and left out: put the "
        "key there"
    )


@pytest.mark.parametrize(
    ("line", "begin"),
    [
        (f"{INLINE} K", "error at '': iv_offset is missing"),
        (f"{INLINE}", "error at '': key is missing"),
        (f"{INLINE} H 0 d0 0", "error at '" + "*" * 64 + "': key: 32 bytes: aes-xts-plain64 takes"),
        (f"{INLINE} - 0 d0 0", "error at '-': key: '-' stands where a key was printed and left"),
        (f"{INLINE} :64:user:it 0 d0 0", "error at ':64:user:it': key: the type in :size:"),
        (f"{INLINE} :129:logon:it 0 d0 0 1 keytype:hw-wrapped", "error at ':129:logon:it': key: 1"),
        (f"{INLINE} K 0 d0 0 1 keytype:x", "error at 'x': keytype: 'x' is not one of raw, hw-"),
        (f"{INLINE} K 0 d0 0 1 sector_size:4096", "error at '4096': sector_size 4096 needs iv_"),
        (f"{INLINE} K 1 d0 0 {LARGE}", "error at '1': iv_offset 1: is not a multiple of 8 sector"),
        (f"0 8 inlinecrypt aes-xts-plain64 K 0 d0 0 {LARGE}", "error at '0': its only data unit"),
        (f"8{INLINE[1:]} K 0 d0 0", "error at '8': start 8: the first target must start at 0"),
    ],
)
def test_what_is_refused(line, begin):
    (told,) = errors_of(line)
    assert told.startswith(begin), told


def test_an_unsupported_cipher_is_refused_with_the_kernels_words():
    (found, *_) = check_text(with_keys("0 8192 inlinecrypt aes-cbc-plain64 K 0 d0 0")).findings
    assert found.kernel.why == "Unsupported cipher"


@pytest.mark.parametrize("what", ["start", "length", "offset"])
def test_blocks_are_whole(what):
    start, length, offset = (4 if what == name else 8192 for name in ("start", "length", "offset"))
    text = f"0 {start} zero\n{start} {length} inlinecrypt aes-xts-plain64 K 8 d0 {offset} {LARGE}"
    told = errors_of(text)
    assert [f"{what} 4: is not a multiple of 8 sectors, the block" in one for one in told] == [True]


def test_a_wrapped_key_may_have_any_size_but_that_of_a_raw_one_is_odd():
    wrapped = "1 keytype:hw-wrapped"
    assert not errors_of(f"{INLINE} H 0 d0 0 {wrapped}")
    assert not errors_of(f"{INLINE} :64:logon:it 0 d0 0 {wrapped}")
    odd = findings(with_keys(f"{INLINE} K 0 d0 0 {wrapped}"))
    assert any("are the size of a raw key, but it is said to be wrapped" in told for told in odd)
    assert not errors_of(f"{DEFAULT} H 0 d0 0 1 wrappedkey_v0")


def test_equal_halves_are_odd():
    odd = findings(f"{INLINE} {'ab' * 64} 0 d0 0")
    assert any("its halves are equal" in told for told in odd)
    assert not any("halves" in told for told in findings(f"{INLINE} :64:logon:it 0 d0 0"))


def test_adiantum_takes_shorter_keys():
    assert not errors_of("0 8192 default-key xchacha12,aes-adiantum-plain64 H 0 d0 0")

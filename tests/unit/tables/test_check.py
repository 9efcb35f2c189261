"""Tables: how lines follow each other, the forms they come in, and how findings are shown."""

import pytest

from fusedm.tables import Severity, check_text, explain, layout, told
from fusedm.tables.finding import REFUSES_IT
from tests.helpers.table_lint import AES_KEY, XTS_KEY, errors, findings

LINEAR = "0 8 linear d0 0"


def shown(text: str, **how) -> str:
    return "\n".join(found.show("t") for found in check_text(text, **how).findings)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", ["error at '': there is no table line in it"]),
        ("# nothing\n\n", ["error at '': there is no table line in it"]),
        ("0 8", ["error at '0 8': '0 8' is not `start length type arguments`"]),
        (f"0 8\n{LINEAR}", ["error at '0 8': '0 8' is not `start length type arguments`"]),
        ("x 8 zero", ["error at 'x': start: 'x' is not a number of sectors"]),
        ("0 y zero", ["error at 'y': length: 'y' is not a number of sectors"]),
        ("0 8k zero", ["error at '8k': length: '8k' is not a number of sectors"]),
        ("0 0 zero", ["error at '0': length 0: a target has at least 1 sector"]),
        ("8 8 zero", ["error at '8': start 8: the first target must start at 0"]),
        ("0 8 zero\n16 8 zero", ["error at '16': start 16: leaves a gap of 8 sectors (4 KiB), the "
                                 "target before ends at 8"]),
        ("0 8 zero\n0 8 zero", ["error at '0': start 0: overlaps the target before, which ends "
                                "at 8"]),
        ("0 18014398509481984 zero",
         ["error at '18014398509481984': length: 0 + 18014398509481984 sectors ends past "
          "18014398509481983 sectors"]),
        ("0 9 zero", ["warning at '9': length 9: is not a multiple of 8 sectors (4.5 KiB)"]),
        ("0 8 lineer d0 0", ["error at 'lineer': target type 'lineer' is unknown: linear may be "
                             "meant"]),
        ("0 8 qqq", ["error at 'qqq': target type 'qqq' is unknown"]),
        ("0 8 multipath 0 0 1 1", ["warning at '0 8 multipath 0 0 1 1': its arguments are not "
                                   "checked: they are not described here"]),
        ("0 8 zero\n8 8 era d0 d1 8\n16 1280 thin-pool d0 d1 128 1",
         ["error at 'thin-pool': must be the only target of its table"]),
        ("0 8 zoned d0\n8 8 zero",
         ["warning at '0 8 zoned d0': its arguments are not checked: they are not described here",
          "error at 'zoned': must be the only target of its table"]),
    ],
)  # fmt: skip
def test_lines_that_do_not_make_a_table(text, wanted):
    assert sorted(findings(text)) == sorted(wanted)


def test_what_only_one_of_them_refuses_says_so():
    (found,) = check_text("0 8 8k zero").findings[:1] or [None]
    assert found.text == "target type '8k' is unknown"
    (length,) = check_text("0 8k zero").findings
    assert length.kernel.why.startswith("dmsetup takes the digits for the length")


def test_a_pool_cannot_be_read_only():
    line = "0 1280 thin-pool d0 d1 128 1"
    assert findings(line) == []
    assert findings(line, read_only=True) == [
        "error at 'thin-pool': cannot be in a read-only table"
    ]


def test_the_longest_table_is_that_of_fusedm(monkeypatch):
    monkeypatch.setattr(layout, "MAX_TABLE_TARGETS", 2)
    (found,) = check_text("0 8 zero\n8 8 zero\n16 8 zero\n24 8 zero").findings
    assert (found.place.line, found.kernel.errno, found.fusedm) == (3, 0, REFUSES_IT)
    assert "fusedm: refuses it" in found.show("t")


def test_a_finding_is_shown_as_compilers_show_theirs():
    lines = shown("\n \t0 8 linear /dev/sda 2049s").split("\n")
    assert lines[0].startswith(
        "t:2:23: error: linear: offset: '2049s' is not a number of sectors (2049s is"
    )
    assert lines[1].index("2049s") == lines[2].index("^")
    assert lines[2].strip() == "^~~~~"


def test_what_stands_nowhere_is_shown_without_a_line():
    assert shown("") == ("t:1:1: error: there is no table line in it\n  the kernel: EINVAL at load")


def test_a_place_far_in_a_long_line_is_shown_with_what_is_around_it():
    text = ",".join(["long,,,rw", *(f"{8 * n} 8 linear d{n} {8 * n}" for n in range(20))])
    _, line, caret, _ = shown(text.replace("linear d9 ", "linear d9 x")).split("\n")
    assert line.startswith("  ...")
    assert line.endswith("...")
    assert line[caret.index("^") :].startswith("x72")


def test_wide_and_unprintable_characters_leave_the_caret_in_its_place():
    _, line, caret, _ = shown("0 8 linear \u6f22e\u0301\x1b 9z").split("\n")
    assert "\x1b" not in line
    assert caret.index("^") == line.index("9z")  # One is two wide, one is none.


@pytest.mark.parametrize(
    "line",
    [
        f"0 8192 crypt aes-xts-plain64 {XTS_KEY} 0 d0",
        f"0 8192 crypt {XTS_KEY} aes-xts-plain64 0 d0 0",
        f"0 8192 crypt aes-xts-plain64 0 {XTS_KEY} d0 0",
        f"0 8192 crypt aes-xts-plain64 {XTS_KEY}g 0 d0 0",
        f"0 8192 crypt aes-xts-plain64 {XTS_KEY[:20]} {XTS_KEY[20:]} 0 d0 0",
        f"0 8192 crypt aes-xts-plain64 {AES_KEY[:60]}\\{AES_KEY[60:]} 0 d0 0",
        f"0 8192 crypt aes-xts-plain64 0 d0 0 1 sector_size:{AES_KEY}",
        f"0 8192 crpt aes-xts-plain64 {AES_KEY} 0 d0 0",
        f"crypt aes-xts-plain64 {AES_KEY}",
        f"0 8192 inlinecrypt aes-xts-plain64 {XTS_KEY} 1 0 8:0 0",
        f"0 8192 default-key aes-xts-plain64 {AES_KEY} 0 8:0 0",
        f"0 8192 default-key aes-xts-plain64 :{AES_KEY} 0 8:0 0",
        f"0 8192 integrity d0 0 - J 1 internal_hash:hmac(sha256):{AES_KEY}",
        f"0 8192 integrity d0 0 - J 1 journal_mac:hmac(sha256):{AES_KEY}x",
        f"0 {AES_KEY} linear d0 0",
        f"vol,,,rw,0 8192 crypt aes-xts-plain64 {AES_KEY} 0 d0 0",
        f"vol: 0 8192 crypt aes-xts-plain64 {AES_KEY} 0 d0 0",
    ],
)  # fmt: skip
def test_key_bytes_are_in_nothing_that_is_said(line):
    report = check_text(line)
    everything = f"{shown(line)} {explain(report)} {told(report)} {report.findings}"
    for begin in range(0, 40):
        assert XTS_KEY[begin : begin + 12] not in everything
    assert "*" in everything


def test_a_key_of_digits_only_is_masked_where_it_does_not_belong():
    digits = "12345678" * 2
    line = f"0 8192 crypt aes-xts-plain64 {digits} {digits} d0 0"
    assert digits not in f"{shown(line)} {explain(check_text(line))}"


def test_paths_and_digests_are_no_keys():
    digest = "ab" * 32
    path = "/dev/disk/by-id/wwn-0x5000c500a0b1c2d3"
    line = f"0 8192 verity 1 {path} d1 4096 4096 1024 1 sha256 {digest} -"
    assert digest in explain(check_text(line))
    assert path in explain(check_text(f"0 8 linear {path} 0"))


def test_lines_of_several_devices_are_tables_of_their_own():
    report = check_text("a: 0 8 zero\nb: 0 8 linear a 0\nnone:\na: 8 8 error \n")
    assert report.findings == []
    assert [(t.name, t.sector_count) for t in report.tables] == [("a", 16), ("b", 8), ("none", 0)]


def test_a_backslash_takes_the_next_character_literally():
    (line,) = check_text("0 8 linear a\\ b 0").tables[0].lines
    assert line.printed == "0 8 linear a\\ b 0"
    (found,) = check_text("0 8 linear d0 \\9s").findings
    assert found.place.text == "\\9s"


def test_concise_tables_are_found_out():
    text = "a,,,rw,0 8 linear 8:0 0,8 8 zero ;b\\,c,UUID-1,3,ro,0 8 linear d\\;e 0;"
    report = check_text(text)
    assert report.findings == []
    assert [(t.name, t.sector_count) for t in report.tables] == [("a", 16), ("b,c", 8)]
    assert report.tables[1].lines[0].printed == "0 8 linear d;e 0"


def test_a_concise_list_may_have_newlines_and_blanks_after_its_marks():
    text = "a,\n\tU,\n ,ro,\n0 8 zero,\n 8 8 linear d0 7;\n \nb,,,,0 8 zero\n8 8 zero;\n\n"
    report = check_text(text)
    assert [(told.place.line, told.place.text) for told in report.findings] == [(5, "7")]
    assert [(t.name, t.sector_count) for t in report.tables] == [("a", 16), ("b", 16)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a/b,,,rw,0 8 zero", ["error at 'a/b': name: 'a/b' contains '/'"]),
        (",,,rw,0 8 zero", ["error at ',': name: is empty"]),
        ("a,,x,rw,0 8 zero", ["error at 'x': minor: is neither empty nor a number"]),
        ("a,,,r,0 8 zero", ["error at 'r': flags: is neither empty nor ro nor rw"]),
        ("a,,, ro ,0 8 zero", ["error at 'ro ': flags: is neither empty nor ro nor rw"]),
        ("a,u,\n\nx,rw,0 8 zero", ["error at 'x': minor: is neither empty nor a number"]),
        ("a,,,rw,0 8 zero;\n b/c,\n,,rw,0 8 zero",
         ["error at 'b/c': name: 'b/c' contains '/'"]),
        ("a,,,rw,\n0 8 zero,\n8 8 linear d0 x;\n",
         ["error at 'x': offset: 'x' is not a number of sectors"]),
        ("a,u,,rw,0 8 zero;a,u,,rw,0 8 zero",
         ["error at 'a': name: is given to two devices",
          "error at 'u': uuid: is given to two devices"]),
        (f"a,{'u' * 129},,rw,0 8 zero",
         [f"error at '{'u' * 129}': uuid: is longer than 128 bytes"]),
        ("a,,,rw,", ["error at 'a': a device in concise form is name,uuid,minor,flags,table"]),
        ("a,,,rw,0 8 linear d0 \\x",
         ["error at 'x': offset: 'x' is not a number of sectors"]),
        ("a,,,rw,0 8 linear d0 x\\",
         ["error at 'x\\\\': offset: 'x\\' is not a number of sectors"]),
        ("a,,,rw,9 8 zero,0 8 zero",
         ["error at '9': start 9: the first target must start at 0",
          "error at '0': start 0: overlaps the target before, which ends at 17"]),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_concise_table(text, wanted):
    found = findings(text)
    assert len(found) == len(wanted), found
    assert all(one.startswith(begin) for one, begin in zip(found, wanted, strict=True)), found


def test_a_text_can_be_said_to_be_concise():
    assert [f.kernel.when.name for f in errors("a", concise=True)] == ["DMSETUP"]
    assert not errors("0,,,rw,0 8 zero", concise=True)


def test_read_only_of_the_caller_goes_over_flags_that_are_not_there():
    pool = "p,,,rw,0 1280 thin-pool d0 d1 128 1"
    assert not errors(pool)
    assert errors(pool, read_only=True)
    assert errors(pool.replace("rw", "ro"))


def test_an_explanation_names_fields_with_units_and_sizes():
    text = f"vol: 0 8192 crypt aes-xts-plain64 {XTS_KEY} 0 8:0 2048 1 sector_size:512\n"
    assert explain(check_text(text)) == (
        "vol: 8192 sectors, 4 MiB\n"
        "line 1: crypt: sectors 0..8192 of the device, 4 MiB from 0 bytes on\n"
        "  cipher       aes-xts-plain64\n"
        "  key          ********  a key of 64 bytes\n"
        "  iv_offset    0  sectors: 0 bytes\n"
        "  dev          8:0\n"
        "  offset       2048  sectors: 1 MiB\n"
        "  options      1  words\n"
        "  sector_size  512  bytes: 1 sector, 512 bytes\n"
        "  the kernel prints: 0 8192 crypt aes-xts-plain64 ******** 0 8:0 2048\n"
        "  dmsetup table prints zeros for its key without --showkeys: no line to load"
    )


def test_an_explanation_goes_as_far_as_a_line_was_understood():
    assert explain(check_text("0 9 dealy\n9 8 delay d0 0 1500\n17 8 integrity d0 0 1 J x")) == (
        "line 1: unknown target: sectors 0..9 of the device, 4.5 KiB from 0 bytes on\n"
        "line 2: delay: sectors 9..17 of the device, 4 KiB from 4.5 KiB on\n"
        "  dev     d0\n"
        "  offset  0  sectors: 0 bytes\n"
        "  ms      1500  ms: 1.5 s\n"
        "  the kernel prints: 9 8 delay d0 0 1500\n"
        "line 3: integrity: sectors 17..25 of the device, 4 KiB from 8.5 KiB on\n"
        "  dev       d0\n"
        "  reserved  0  sectors: 0 bytes\n"
        "  tag_size  1  bytes\n"
        "  mode      J\n"
        "  options   x"
    )


def test_a_key_of_a_keyring_is_no_secret():
    text = "0 8192 crypt aes-xts-plain64 :64:logon:it 0 8:0 0 1 sector_size:512"
    assert "zeros" not in explain(check_text(text))


def test_sizes_are_exact_or_said_to_be_about():
    assert "about 1 MiB" in explain(check_text("0 2049 zero"))
    assert "8 EiB" in explain(check_text(f"0 {1 << 54} zero"))


def test_programs_are_told_everything():
    report = check_text("0 2048 linear d0 1x\n")
    assert [found.told() for found in report.findings] == [
        {
            "severity": "error",
            "line": 1,
            "column": 18,
            "width": 2,
            "target": "linear",
            "text": "offset: '1x' is not a number of sectors",
            "kernel": {"errno": "EINVAL", "when": "load", "why": ""},
            "fusedm": "",
        }
    ]
    (table,) = told(report)
    assert table == {
        "name": "",
        "sectors": 2048,
        "lines": [
            {
                "line": 1,
                "start": 0,
                "length": 2048,
                "target": "linear",
                "fields": [
                    {"name": "dev", "unit": "device", "word": "d0", "note": ""},
                    {"name": "offset", "unit": "sectors", "word": "1x", "note": ""},
                ],
                "printed": "",
            }
        ],
    }
    (warning,) = check_text("0 9 zero").findings
    assert warning.told()["kernel"]["errno"] is None
    assert report.count(Severity.ERROR) == 1

"""Whatever is given to the checker of tables, it answers, and what it says can be printed."""

from hypothesis import given
from hypothesis import strategies as st

from fusedm.tables import all_grammars, check_text, explain, told

WORDS = st.one_of(
    st.sampled_from(
        [*all_grammars(), "0", "8", "8192", "1", "2", "d0", "8:0", "-", ":8:logon:x", "ab" * 32]
        + ["vol:", "a,,,rw,0", ";", ",", "\\", "#", "core", "raid1", "sector_size:4096"]
        + ["iv_large_sectors", "aes-xts-plain64", "J", "P", "handle_errors", "internal_hash:a:00"]
    ),
    st.text(max_size=8),
)
TEXTS = st.one_of(
    st.text(),
    st.lists(st.lists(WORDS, max_size=14).map(" ".join), max_size=6).map("\n".join),
    st.lists(
        st.tuples(st.sampled_from(list(all_grammars())), st.lists(WORDS, max_size=12)).map(
            lambda line: f"0 8192 {line[0]} {' '.join(line[1])}"
        )
    ).map("\n".join),
)


@given(TEXTS, st.booleans(), st.sampled_from([None, True, False]))
def test_any_text_is_answered(text, concise, read_only):
    report = check_text(text, concise, read_only)
    explain(report)
    told(report)
    for found in report.findings:
        lines = found.show("t").split("\n")
        assert all(line.isprintable() for line in lines)
        assert found.told()["text"] == found.text


@given(TEXTS)
def test_every_finding_lies_in_its_line(text):
    lines = text.split("\n")
    for found in check_text(text).findings:
        place = found.place
        assert 1 <= place.line <= len(lines)
        assert place.column <= len(lines[place.line - 1]) + 1


KEY = "c0ffee" + "9ab3d7e1f5" * 12 + "ab"
KEY_LINES = [
    f"0 8192 crypt aes-xts-plain64 {KEY} 0 d0 0 1 sector_size:4096",
    f"0 8192 inlinecrypt aes-xts-plain64 {KEY} 1 0 8:0 0",
    f"0 8192 default-key aes-xts-plain64 {KEY} 0 8:0 0 1 wrappedkey_v0",
    f"0 8192 integrity d0 0 - J 2 internal_hash:hmac(sha256):{KEY} journal_mac:a:{KEY}",
    f"v,,,rw,0 8192 crypt aes-xts-plain64 {KEY} 0 d0 0",
    f"v: 0 8192 crypt capi:xts(aes)-plain64 {KEY} 0 d0 0",
]
#: A third one could hide that there is a key: its target and cipher misspelt, and itself cut.
DAMAGES = st.lists(st.tuples(st.integers(0, 400), st.text(max_size=2)), max_size=2)

#: So many digits of a key in a row must not be seen; what is shorter cannot be told from a number.
SEEN = 12


@given(st.sampled_from(KEY_LINES), DAMAGES)
def test_no_part_of_a_key_is_shown_however_its_line_is_damaged(line, damages):
    for place, put in damages:
        at = place % (len(line) + 1)
        line = line[:at] + put + line[at + len(put) % 2 :]
    report = check_text(line)
    said = [explain(report), str(told(report)), *(found.show("t") for found in report.findings)]
    for begin in range(len(KEY) - SEEN):
        assert not any(KEY[begin : begin + SEEN] in one for one in said)

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

"""Where keys and values stand, over all of TOML's ways to write them."""

import pytest

from fusedm.block.errors import SpecError
from fusedm.stack.toml_lines import KeyPath, SourceText, format_key, format_path

TEXT = """\
# a comment with [brackets] and 'quotes"
top = 1
dotted . deep = 2
[table]  # [not.this]
bare = 'literal # no comment'
"quoted \\"key" = "value ] } , # \\" ="
date = 1979-05-27 07:32:00
many = \"\"\"
fake = 1
[fake]
four quotes follow\"\"\"\"
raw = '''
fake = 2''''
array = [ 1, # one
  [2, 3],
  { x = 4 },
]
inline = { a = { b = "c" }, 'd e' = 5 }
[ 'other' . "table" ]
x = ""
[[list]]
y = 1.5
"""


def loaded(text: str) -> SourceText:
    source = SourceText("s.toml", text)
    source.load()
    return source


def place_of(source: SourceText, path: KeyPath, at_key: bool = False) -> tuple[int, str]:
    """The line, and its text from the caret on."""
    error = source.error(path, "text", at_key=at_key)
    shown, caret = str(error).split("\n")[1:]
    return error.line, shown[caret.index("^") :]


@pytest.mark.parametrize(
    ("path", "line", "value"),
    [
        (("top",), 2, "1"),
        (("dotted", "deep"), 3, "2"),
        (("table", "bare"), 5, "'literal # no comment'"),
        (("table", 'quoted "key'), 6, '"value ] } , # \\" ="'),
        (("table", "date"), 7, "1979-05-27 07:32:00"),
        (("table", "many"), 8, '"""'),
        (("table", "raw"), 12, "'''"),
        (("table", "array"), 14, "[ 1, # one"),
        (("table", "array", 0), 14, "1, # one"),
        (("table", "array", 1, 1), 15, "3],"),
        (("table", "array", 2, "x"), 16, "4 },"),
        (("table", "inline"), 18, "{ a = { b = \"c\" }, 'd e' = 5 }"),
        (("table", "inline", "a", "b"), 18, "\"c\" }, 'd e' = 5 }"),
        (("table", "inline", "d e"), 18, "5 }"),
        (("other", "table", "x"), 20, '""'),
        (("list", "y"), 22, "1.5"),
    ],
)
def test_the_caret_is_at_the_value(path: KeyPath, line: int, value: str) -> None:
    assert place_of(loaded(TEXT), path) == (line, value)


@pytest.mark.parametrize(
    ("path", "line", "key"),
    [
        (("dotted",), 3, "dotted . deep = 2"),
        (("dotted", "deep"), 3, "deep = 2"),
        (("table",), 4, "table]  # [not.this]"),
        (("table", "inline", "d e"), 18, "'d e' = 5 }"),
        (("other", "table"), 19, '"table" ]'),
        (("list",), 21, "list]]"),
    ],
)
def test_the_caret_is_at_the_key_if_asked(path: KeyPath, line: int, key: str) -> None:
    assert place_of(loaded(TEXT), path, at_key=True) == (line, key)
    assert loaded(TEXT).line_of(path) == line


def test_what_is_not_in_the_text_is_shown_where_it_would_be() -> None:
    assert place_of(loaded(TEXT), ("table", "inline", "a", "z")) == (
        18,
        "{ b = \"c\" }, 'd e' = 5 }",
    )


def test_a_whole_file_is_shown_at_its_begin() -> None:
    assert place_of(loaded("x = 1\n"), ()) == (1, "x = 1")


def test_carriage_returns_are_not_counted_or_shown() -> None:
    assert place_of(loaded("a = 1\r\nb = 2\r\n"), ("b",)) == (2, "2")


def test_a_shown_line_keeps_its_columns_without_tabs() -> None:
    assert place_of(loaded("\ta\t=\t1"), ("a",)) == (1, "1")


def test_a_shown_line_hides_what_may_be_a_key() -> None:
    error = loaded(f"a = {{ b = '{'0f' * 16}', c = 1 }}").error(("a", "c"), "text")
    assert str(error) == (
        f"s.toml:1: a.c: text\n    a = {{ b = '{'.' * 32}', c = 1 }}\n    {' ' * 50}^"
    )


def test_an_error_without_a_text_has_no_line() -> None:
    source = SourceText("stack", "")
    assert str(source.error(("a", "b"), "text")) == "stack: a.b: text"
    assert str(source.error_in_string(("a", "b"), 3, "text")) == "stack: a.b: text"


@pytest.mark.parametrize(
    ("value", "line", "place"),
    [
        ('"""\none\ntwo\n"""', 2, (3, "two")),
        ('"""\none\ntwo\n"""', 1, (2, "one")),
        ('"""\none\ntwo\n"""', 0, (1, '"""')),
        ('"""\none\ntwo\n"""', 9, (4, '"""')),
        ('"""one\n  two"""', 2, (2, 'two"""')),
        ('"""one\n  two"""', 1, (1, "one")),
        ('"""\\\n  one\ntwo"""', 1, (2, "one")),
        ('"""\none \\\n  more\ntwo"""', 2, (4, 'two"""')),
        ('"""\na\\\\nb\ntwo"""', 2, (3, 'two"""')),
        ('"one\\ntwo"', 2, (1, 'two"')),
        ("'one'", 1, (1, "one'")),
        ("'''\none \\\ntwo'''", 2, (3, "two'''")),
    ],
)
def test_a_line_of_a_string_is_found(value: str, line: int, place: tuple[int, str]) -> None:
    error = loaded(f"x = {value}\n").error_in_string(("x",), line, "text")
    shown, caret = str(error).split("\n")[1:]
    assert (error.line, shown[caret.index("^") :]) == place


def test_a_line_of_what_is_no_string_is_its_place() -> None:
    assert loaded("a = 1\nx = 2").error_in_string(("x",), 3, "text").line == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 1\nb = = 2\n", "s.toml:2: not TOML: Invalid value\n    b = = 2\n        ^"),
        ("a = 1\nb = [1,\n\n", "s.toml:2: not TOML: "),
        (f"a = {'9' * 5000}", "s.toml: not TOML: Exceeds the limit"),
        ("a = " + "[" * 100_000, "s.toml: not TOML: nested too deeply"),
    ],
)
def test_what_is_not_toml_is_one_error(text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        SourceText("s.toml", text).load()
    assert str(caught.value).startswith(message)


def test_the_end_of_the_text_is_its_last_word() -> None:
    with pytest.raises(SpecError) as caught:
        SourceText("s.toml", "a = 1\nb = [1,\n\n").load()
    assert str(caught.value).endswith("\n    b = [1,\n           ^")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("disks", "ufs0", "size"), "disks.ufs0.size"),
        (("disks", "a b"), 'disks."a b"'),
        (("modes", "x", 2), "modes.x[2]"),
        (("disks", "a\nb"), 'disks."a\\nb"'),
    ],
)
def test_a_path_is_one_line_of_dotted_keys(path: KeyPath, text: str) -> None:
    assert format_path(path) == text


@pytest.mark.parametrize("key", ["plain", "", "a b", 'q"', "back\\slash", "\x7f", "\x01", "ö", "²"])
def test_a_formatted_key_reads_back(key: str) -> None:
    assert SourceText("s.toml", f"{format_key(key)} = 1").load() == {key: 1}

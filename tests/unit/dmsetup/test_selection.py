"""What -S selects."""

import pytest

from fusedm.block.errors import UsageError
from fusedm.dmsetup.selection import Selection
from tests.helpers.mapped import mapped, rows

DEVICES = [
    mapped("a", 0, open_count=1),
    mapped("b", 1, uuid="LVM-x"),
    mapped("c5", 2, is_suspended=True, open_count=3),
]


def names(text: str) -> str:
    selection = Selection(text)
    return " ".join(row.device.name for row in rows(DEVICES) if selection.takes(row))


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("", "a b c5"),
        ("name=a", "a"),
        ('name = "a"', "a"),
        ("name!='a'", "b c5"),
        ("uuid=''", "a c5"),
        ("name=~^[ab]", "a b"),
        ("name!~^[ab]", "c5"),
        ("open>1", "c5"),
        ("open>=1", "a c5"),
        ("open<1", "b"),
        ("open<=1", "a b"),
        ("minor=0", "a"),
        ("minor!=0", "b c5"),
        ("open>0 && name=~^c", "c5"),
        ("open>0,name=a", "a"),
        ("name=a||name=b", "a b"),
        ("name=a # name=b", "a b"),
        ("(name=a || name=b) && open=0", "b"),
        ("!(name=a)", "b c5"),
        ("suspended=Suspended", "c5"),
    ],
)
def test_an_expression_takes(text: str, taken: str) -> None:
    assert names(text) == taken


HELP = "\nUse 'help' for selection to get more help."


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("bogus=1", "Unrecognised selection field: bogus\nSelection syntax error at 'bogus=1'."),
        (
            "minor=abc",
            "Failed to parse numeric value for selection field minor.\n"
            "Selection syntax error at 'minor=abc'.",
        ),
        (
            "name>a",
            "Operator can be used only with number, size, time or percent fields: name>a\n"
            "Selection syntax error at 'name>a'.",
        ),
        ("name", "Unrecognised comparison operator: \nSelection syntax error at 'name'."),
        ("name=a &&", "Selection syntax error at ''."),
        ("(name=a", "Selection syntax error at '(name=a'."),
        ("(name=a name=b)", "Selection syntax error at '(name=a name=b)'."),
        ("name=a name=b", "Selection syntax error at ' name=b'."),
        ("&& name=a", "Selection syntax error at '&& name=a'."),
        (")", "Selection syntax error at ')'."),
        ("name=a ?", "Selection syntax error at ' ?'."),
        ("name=~'['", "Selection syntax error at 'name=~'[''."),
    ],
)
def test_an_expression_that_cannot_be_is_refused(text: str, refusal: str) -> None:
    with pytest.raises(UsageError) as refused:
        Selection(text)
    assert str(refused.value) == refusal + HELP

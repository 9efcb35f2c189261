"""Progress: plain lines for files, one moving line on a terminal."""

from io import StringIO

import pytest

from fusedm.cli.progress import Progress


class Terminal(StringIO):
    """An output that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    return Terminal()


def test_steps_commands_and_lines_are_plain_lines_elsewhere():
    out = StringIO()
    say = Progress(out)
    say.step("1", "a stack")
    say.command("fusedm up", "it answers")
    say.line("done")
    assert out.getvalue() == "\n== 1. a stack\n$ fusedm up\n  -> it answers\ndone\n"


def test_nothing_moves_where_lines_cannot():
    out = StringIO()
    Progress(out).moving("copying", 5, 5)
    assert out.getvalue() == ""


def test_nothing_moves_on_a_dumb_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    out = Terminal()
    Progress(out).moving("copying", 5, 5)
    assert out.getvalue() == ""


def test_a_terminal_is_shown_how_much_is_done(terminal):
    Progress(terminal).moving("copying", 1, 2)
    assert terminal.getvalue() == "\r\x1b[K  copying [############............] 1/2"


def test_a_moving_line_is_cleared_before_a_line_that_stays(terminal):
    say = Progress(terminal)
    say.moving("copying", 2, 2)
    say.line("done")
    say.line("and more")
    assert terminal.getvalue().endswith("2/2\r\x1b[Kdone\nand more\n")


def test_a_moving_line_is_not_drawn_too_often_but_its_end_always_is(terminal):
    say = Progress(terminal)
    for done in range(1001):
        say.moving("copying", done, 1000)
    assert terminal.getvalue().count("\r") < 100
    assert terminal.getvalue().endswith("1000/1000")


def test_a_total_of_nothing_is_no_division_by_zero(terminal):
    Progress(terminal).moving("copying", 0, 0)
    assert terminal.getvalue().endswith("] 0/0")

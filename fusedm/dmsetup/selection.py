"""What `-S` selects: comparisons of fields, joined and grouped. Pure.

expression  one or more comparisons, joined by && or a comma, and those by || or #
comparison  FIELD OPERATOR VALUE, or an expression in parentheses, which ! turns round
"""

import re
from collections.abc import Callable

from fusedm.block.errors import UsageError
from fusedm.dmsetup.fields import Field, Row, find_field

Test = Callable[[Row], bool]

_TOKEN = re.compile(
    r"""\s*(?:(?P<join>&&|\|\||[,#])|(?P<mark>[()])|(?P<turn>!(?=\s*\())
    |(?P<field>[a-z_A-Z]+)\s*(?P<operator>=~|!~|!=|>=|<=|=|>|<)?\s*
     (?P<value>"[^"]*"|'[^']*'|[^\s&|,#()]*))""",
    re.VERBOSE,
)


class Selection:
    """The rows that an expression takes; an empty one takes all.

    Raises: UsageError for an expression that cannot be.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[re.Match[str]] = []
        place = 0
        while text[place:].strip():
            token = _TOKEN.match(text, place)
            if token is None or token.end() == place:
                raise self._wrong(text[place:])
            self._tokens.append(token)
            place = token.end()
        self._test: Test | None = None
        if self._tokens:
            self._test = self._either()
            if self._tokens:
                raise self._wrong(self._tokens[0].string[self._tokens[0].start() :])

    def takes(self, row: Row) -> bool:
        """Whether it takes a row."""
        return self._test is None or self._test(row)

    def _wrong(self, rest: str, why: str = "") -> UsageError:
        return UsageError(
            f"{why}Selection syntax error at '{rest}'.\nUse 'help' for selection to get more help."
        )

    def _either(self) -> Test:
        tests = [self._both()]
        while self._tokens and self._tokens[0]["join"] in ("||", "#"):
            self._tokens.pop(0)
            tests.append(self._both())
        return lambda row: any(test(row) for test in tests)

    def _both(self) -> Test:
        tests = [self._one()]
        while self._tokens and self._tokens[0]["join"] in ("&&", ","):
            self._tokens.pop(0)
            tests.append(self._one())
        return lambda row: all(test(row) for test in tests)

    def _one(self) -> Test:
        if not self._tokens:
            raise self._wrong("")
        token = self._tokens.pop(0)
        if token["turn"]:
            inner = self._one()
            return lambda row: not inner(row)
        if token["mark"] == "(":
            grouped = self._either()
            if not self._tokens or self._tokens.pop(0)["mark"] != ")":
                raise self._wrong(token.string[token.start() :])
            return grouped
        if not token["field"]:
            raise self._wrong(token.string[token.start() :])
        return self._comparison(token)

    def _comparison(self, token: re.Match[str]) -> Test:
        rest = token.string[token.start("field") :]
        field = find_field(token["field"])
        if field is None:
            why = f"Unrecognised selection field: {token['field']}\n"
            raise self._wrong(rest, why)
        operator, value = token["operator"], token["value"]
        if not operator:
            raise self._wrong(rest, "Unrecognised comparison operator: \n")
        if value[:1] in ("'", '"') and value[:1] == value[-1:] and len(value) > 1:
            value = value[1:-1]
        if operator in ("=~", "!~"):
            return self._pattern(field, operator, value, rest)
        if field.is_number:
            if not value.isdecimal():
                why = f"Failed to parse numeric value for selection field {field.name}.\n"
                raise self._wrong(rest, why)
            return _compare(field, operator, int(value))
        if operator not in ("=", "!="):
            why = f"Operator can be used only with number, size, time or percent fields: {rest}\n"
            raise self._wrong(rest, why)
        return _compare(field, operator, value)

    def _pattern(self, field: Field, operator: str, value: str, rest: str) -> Test:
        try:
            pattern = re.compile(value)
        except re.error:
            raise self._wrong(rest) from None
        wanted = operator == "=~"
        return lambda row: (pattern.search(str(field.value(row))) is not None) is wanted


def _compare(field: Field, operator: str, wanted: str | int) -> Test:
    def number(row: Row) -> int:
        return int(field.value(row))

    limit = wanted if isinstance(wanted, int) else 0
    tests: dict[str, Test] = {
        "=": lambda row: field.value(row) == wanted,
        "!=": lambda row: field.value(row) != wanted,
        ">": lambda row: number(row) > limit,
        ">=": lambda row: number(row) >= limit,
        "<": lambda row: number(row) < limit,
        "<=": lambda row: number(row) <= limit,
    }
    return tests[operator]

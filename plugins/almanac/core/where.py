"""Conditions on rows: the text of a source's `where`, in a small part of SQL, and what it means.

    condition  = condition OR condition | condition AND condition | NOT condition | ( condition ) | test
    test       = column sign value | column [NOT] IN (value, ...) | column [NOT] LIKE 'text' | column IS [NOT] NULL | column
    sign       = = | <> | != | < | <= | > | >=
    value      = 'text' | 12.5 | TRUE | FALSE | DATE '2017-06-01' | TIMESTAMP '2017-06-01 12:00:00'

A column's name that is no plain identifier stands in backticks. AND binds tighter than OR, as in SQL; so do the three values of
logic: a row is read only if the condition is true, and a comparison with null is not.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal

from almanac.errors import DescriptionError

Value = str | bool | Decimal | date | datetime
SIGNS = {"=": "=", "==": "=", "<>": "<>", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)|(?P<quoted>`(?:[^`]|``)+`)"
    r"|(?P<word>[^\W\d]\w*)|(?P<sign><>|<=|>=|!=|==|[=<>(),]))"
)
WORDS = frozenset(("and", "or", "not", "in", "like", "is", "null", "true", "false"))
EXAMPLE = "\"status <> 'cancelled' AND quantity > 0\""


@dataclass(frozen=True, slots=True)
class Compared:
    """`column sign value`."""

    column: str
    sign: str
    value: Value


@dataclass(frozen=True, slots=True)
class Among:
    """`column IN (values)`."""

    column: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Like:
    """`column LIKE 'pattern'`: % stands for any text, _ for one character."""

    column: str
    pattern: str


@dataclass(frozen=True, slots=True)
class IsNull:
    column: str


@dataclass(frozen=True, slots=True)
class Not:
    condition: Condition


@dataclass(frozen=True, slots=True)
class Both:
    first: Condition
    second: Condition


@dataclass(frozen=True, slots=True)
class Either:
    first: Condition
    second: Condition


Test = Compared | Among | Like | IsNull
Condition = Test | Not | Both | Either


@functools.cache
def parsed(text: str) -> Condition:
    """The condition that a text stands for.

    Raises:
        DescriptionError: it is not a condition; the message says where.
    """
    reader = _Reader(text)
    found = reader.either()
    reader.end()
    return found


def tests(condition: Condition) -> Iterator[Test]:
    """The tests of a condition."""
    if isinstance(condition, Both | Either):
        yield from tests(condition.first)
        yield from tests(condition.second)
    elif isinstance(condition, Not):
        yield from tests(condition.condition)
    else:
        yield condition


def columns(text: str) -> tuple[str, ...]:
    """The columns that a condition reads; none for an empty text."""
    return tuple(dict.fromkeys(test.column for test in tests(parsed(text)))) if text else ()


class _Reader:
    """Reads a condition from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, str, int]] = []
        place = 0
        while text[place:].strip():
            found = TOKEN.match(text, place)
            if found is None or found.lastgroup is None:
                start = place + len(text[place:]) - len(text[place:].lstrip())
                raise self._error("a name, a value or a sign", text[start : start + 10])
            self.tokens.append((found.lastgroup, found[found.lastgroup], found.start(found.lastgroup)))
            place = found.end()
        self.at = 0

    def either(self) -> Condition:
        found = self.both()
        while self._takes("or"):
            found = Either(found, self.both())
        return found

    def both(self) -> Condition:
        found = self.one()
        while self._takes("and"):
            found = Both(found, self.one())
        return found

    def one(self) -> Condition:
        if self._takes("not"):
            return Not(self.one())
        if self._takes("("):
            found = self.either()
            self._expect(")")
            return found
        return self.test()

    def test(self) -> Condition:
        column = self._column()
        if self._takes("is"):
            negative = self._takes("not")
            self._expect("null")
            return Not(IsNull(column)) if negative else IsNull(column)
        negative = self._takes("not")
        if self._takes("in"):
            self._expect("(")
            values = [self._value()]
            while self._takes(","):
                values.append(self._value())
            self._expect(")")
            return Not(Among(column, tuple(values))) if negative else Among(column, tuple(values))
        if self._takes("like"):
            kind, token, _ = self._next()
            if kind != "text":
                raise self._error("a pattern such as 'C%'", token)
            like = Like(column, _unquoted(token))
            return Not(like) if negative else like
        if negative:
            raise self._error("IN or LIKE after NOT", self._seen())
        if self._peek()[0] == "sign" and self._peek()[1] in SIGNS:
            sign = SIGNS[self._next()[1]]
            return Compared(column, sign, self._value())
        return Compared(column, "=", True)

    def end(self) -> None:
        if self.at < len(self.tokens):
            raise self._error("AND, OR or the end", self._seen())

    def _column(self) -> str:
        kind, token, _ = self._next()
        if kind == "quoted":
            return token[1:-1].replace("``", "`")
        if kind != "word" or token.lower() in WORDS:
            raise self._error("the name of a column", token)
        return token

    def _value(self) -> Value:
        kind, token, _ = self._next()
        if kind == "text":
            return _unquoted(token)
        if kind == "number":
            return Decimal(token)
        word = token.lower()
        if kind == "word" and word in ("true", "false"):
            return word == "true"
        if kind == "word" and word in ("date", "timestamp") and self._peek()[0] == "text":
            return self._time(word, _unquoted(self._next()[1]))
        advice = ": for null write IS NULL" if word == "null" else ", with text in single quotes"
        raise self._error(f"a value such as 'text', 12.5 or DATE '2017-06-01'{advice}", token)

    def _time(self, word: str, text: str) -> date | datetime:
        try:
            if word == "date":
                return date.fromisoformat(text)
            found = datetime.fromisoformat(text)
        except ValueError:
            raise self._error(f"{word.upper()} 'YYYY-MM-DD{' HH:MM:SS' if word == 'timestamp' else ''}'", text) from None
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)

    def _peek(self) -> tuple[str, str, int]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("", "", len(self.text))

    def _next(self) -> tuple[str, str, int]:
        found = self._peek()
        self.at += 1
        return found

    def _seen(self) -> str:
        return self._peek()[1]

    def _takes(self, word: str) -> bool:
        kind, token, _ = self._peek()
        if kind in ("word", "sign") and token.lower() == word:
            self.at += 1
            return True
        return False

    def _expect(self, word: str) -> None:
        if not self._takes(word):
            raise self._error(word.upper(), self._seen())

    def _error(self, expected: str, got: str) -> DescriptionError:
        return DescriptionError(
            f"where: expected {expected}; got {got or 'the end'!r} in {self.text!r}. Write a condition such as {EXAMPLE}."
        )


def _unquoted(token: str) -> str:
    return token[1:-1].replace("''", "'")

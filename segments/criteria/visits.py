"""Rows of sessions, as the criteria over sessions, campaigns, referrers, devices and places see them."""

from typing import Any

from sqlalchemy import ARRAY, Boolean, ColumnElement, and_, func
from sqlalchemy.dialects.postgresql import aggregate_order_by

from core.schema.sessions import session
from segments import comparison
from segments.comparison import Comparison
from segments.criteria import counting, deeds
from segments.criteria.base import Context, choice_of, options_of
from segments.criteria.counting import Having

Tests = tuple[tuple[str, tuple[Comparison, ...]], ...]
"""What is compared, and with what."""

WHICH = ("any", "first", "last")
TEST: dict[str, Any] = {"$ref": "#/$defs/Test"}
_LENGTH = func.extract("epoch", session.c.ended_at - session.c.started_at)
_NUMBERS: dict[str, ColumnElement[Any]] = {"pages": session.c.pages, "seconds": _LENGTH}
_PATTERNS = ("referrer", "entry_url", "exit_url")


def schema(fields: tuple[str, ...]) -> dict[str, Any]:
    """JSON Schema of a mapping with tests of these fields, `which`, and how often."""
    return {
        "type": "object",
        "properties": {**dict.fromkeys(fields, TEST), "which": {"enum": list(WHICH)}, **counting.SCHEMAS},
        "minProperties": 1,
        "additionalProperties": False,
    }


class Visited(counting.Counted):
    """Any session, the first or the last one passes every test."""

    tests: Tests = ()
    which: str = "any"

    def clause(self) -> ColumnElement[bool]:
        """EXISTS over sessions, or over those of each contact taken together."""
        conditions = [_column_clause(name, test) for name, tests in self.tests for test in tests]
        times = self.times(session.c.started_at)
        if self.which == "any":
            return self.count.clause(session, *conditions, *times)
        order: list[ColumnElement[Any]] = [session.c.started_at, session.c.id]
        order = [column.desc() for column in order] if self.which == "last" else order
        passed = aggregate_order_by(and_(*(func.coalesce(one, False) for one in conditions)), *order)
        of_one = Having(func.array_agg(passed, type_=ARRAY(Boolean))[1], False)
        return counting.passing(session, times, [*self.count.having(), of_one])

    def words(self) -> str:
        """`had a session whose source is google and country is DE`."""
        said = " and ".join(comparison.phrase(name.replace("_", " "), tests) for name, tests in self.tests)
        of_which = "a session" if self.which == "any" else f"a {self.which} session"
        return f"had {of_which}{f' whose {said}' if said else ''}{self.often()}"


def read(value: Any, fields: tuple[str, ...], context: Context, example: str) -> dict[str, Any] | None:
    """Read tests of these fields, `which`, and how often, as fields of `Visited`; None when problems were noted."""
    options = options_of(value, (*fields, "which", *counting.KEYS), context, example)
    if options is None:
        return None
    found = counting.read_counted(options, context)
    found["which"] = choice_of(options, "which", WHICH, "any", context)
    found["tests"] = tuple(
        (name, read_test(name, options[name], context.under(name))) for name in fields if name in options
    )
    if found["which"] != "any" and not found["tests"]:
        context.problem("which says which session is compared, and nothing is compared", f"write {example}", "which")
    return found


def read_test(name: str, value: Any, context: Context) -> tuple[Comparison, ...]:
    """The tests of one field; addresses may have * in them."""
    if name in _NUMBERS:
        return counting.read_numbers(value, context)
    tests = context.tests(deeds.pattern(value) if name in _PATTERNS else value)
    for test in tests:
        if not test.fits("text"):
            context.problem(f"{name} is a text; {test.operator} with {test.operand!r} does not fit", "write a text")
    return tests


def _column_clause(name: str, test: Comparison) -> ColumnElement[bool]:
    if name in _NUMBERS:
        return test.on_number(_NUMBERS[name], sure=False)
    return test.on_text(session.c[name], sure=False)

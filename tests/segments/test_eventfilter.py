"""Tests on event properties: the Python evaluator, the SQL twin, and that they agree."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from sqlalchemy import literal, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from core.database import Database
from core.errors import Problem
from segments import eventfilter
from segments.operands import OPERATORS

NOW = datetime(2026, 5, 9, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("test", "value", "expected"),
    [
        ("draft", "draft", True),
        ("draft", "Draft", False),
        (1, 1.0, True),
        (1, True, False),
        (True, True, True),
        (["a", "b"], "b", True),
        (["a", "b"], "c", False),
        ({"ne": "draft"}, "sent", True),
        ({"gte": 100}, 100, True),
        ({"gte": 100}, "100", False),
        ({"gt": 0.1}, 0.1, False),
        ({"between": [1, 3]}, 3, True),
        ({"between": [1, 3]}, 4, False),
        ({"contains": "raf"}, "draft", True),
        ({"contains": "vip"}, ["vip", "x"], True),
        ({"contains": "vip"}, ["vipx"], False),
        ({"starts": "dr"}, "draft", True),
        ({"ends": "ft"}, "draft", True),
        ({"exists": True}, None, False),
        ({"exists": False}, None, True),
        ({"before": "now-1d"}, "2026-05-08", True),
        ({"before": "now-1d"}, "2026-05-08T12:00:01Z", False),
        ({"after": "2026-01-01"}, "2026-01-01T00:00:00+03:00", False),
        ({"after": "2026-01-01"}, "soon", False),
        ({"gte": 1, "lt": 5}, 5, False),
        ({"not_between": [1, 3]}, 4, True),
        ({"not_between": [1, 3]}, "x", True),
        ({"not_contains": "raf"}, "draft", False),
        ({"contains_any": ["a", "b"]}, ["b", "c"], True),
        ({"contains_all": ["a", "b"]}, ["b", "c"], False),
        ({"contains_all": ["a", "b"]}, ["b", "c", "a"], True),
        ({"like": "d%ft"}, "draft", True),
        ({"like": "d%ft"}, "a draft", False),
        ({"like": "50\\%"}, "50%", True),
        ({"not_like": "d_aft"}, "draft", False),
        ({"regexp": "^dr[a-z]+$"}, "draft", True),
        ({"regexp": "(?i)DRAFT"}, "a draft", True),
        ({"not_regexp": "x"}, "draft", True),
        ({"empty": True}, "", True),
        ({"empty": True}, [], True),
        ({"empty": False}, 0, True),
        ({"date": "today"}, "2026-05-09", True),
        ({"date": "today"}, "2026-05-10T01:00:00+03:00", True),
        ({"date": "today in Europe/Moscow"}, "2026-05-09T22:00:00Z", False),
        ({"date": "this week"}, "2026-05-03", False),
        ({"date": "this week"}, "2026-05-04", True),
        ({"date": "last 7 days"}, "2026-05-02", False),
        ({"date": "last 7 days"}, "2026-05-03", True),
        ({"date": "next 1 month"}, "2026-06-08", True),
        ({"date": "next 1 month"}, "2026-06-09", False),
        ({"date": "last quarter"}, "2026-03-31", True),
        ({"date": "anniversary"}, "1990-05-09", True),
        ({"anniversary": "this week"}, "1990-05-10", True),
        ({"anniversary": "this week"}, "1990-05-11", False),
        ({"anniversary": "next 365 days"}, "1992-02-29", True),
        ({"date": "today"}, 20260509, False),
    ],
)
def test_a_property_is_compared(test: Any, value: Any, expected: bool) -> None:
    assert eventfilter.matches({"x": test}, {"x": value}, {}, NOW) is expected


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ("draft", False),
        ({"ne": "draft"}, True),
        ({"not_in": ["a"]}, True),
        ({"exists": False}, True),
        ({"exists": True}, False),
        ({"lt": 5}, False),
        ({"same": "cart"}, False),
    ],
)
def test_a_missing_property_passes_only_what_denies(test: Any, expected: bool) -> None:
    assert eventfilter.matches({"x": test}, {}, {}, NOW) is expected


def test_same_compares_with_the_entry_event() -> None:
    where = {"cart": {"same": "cart_id"}}
    assert eventfilter.matches(where, {"cart": 7}, {"cart_id": 7.0})
    assert not eventfilter.matches(where, {"cart": "7"}, {"cart_id": 7})
    assert not eventfilter.matches(where, {"cart": None}, {"cart_id": None})
    assert not eventfilter.matches(where, {"cart": [1]}, {"cart_id": [1]})


def test_parse_takes_prefixes_off_and_collects_every_problem() -> None:
    problems: list[Problem] = []
    data = {
        "event.status": "draft",
        "status": "x",
        "event.n": {"gte": "many"},
        "event.m": {"gte2": 1},
        "event.c": {"same": "c"},
    }
    where = eventfilter.parse(data, ("where",), problems)
    assert where["status"] == "draft"
    assert [problem.path for problem in problems] == [
        "/where/status",
        "/where/event.n/gte",
        "/where/event.m/gte2",
        "/where/event.c",
    ]
    assert problems[0].mend == "did you mean event.status?"
    assert problems[2].mend == "did you mean gte?"


_TEXTS = st.sampled_from(
    [
        "",
        "a",
        "ab",
        "draft",
        "ё",
        "a.b-",
        "50%",
        "2026-05-08",
        "2026-05-09",
        "2026-04-01",
        "1996-05-13",
        "2026-05-09T23:30:00Z",
        "2026-02-29",
        "2024-02-29T10:00Z",
        "9999-12-31T23:30-05:00",
        "1000-01-01T00:30+14:00",
        "1",
        "true",
    ]
) | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
_NUMBERS = st.integers(-(10**6), 10**6) | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
_SCALARS = st.booleans() | _NUMBERS | _TEXTS
_VALUES = st.none() | _SCALARS | st.lists(_SCALARS, max_size=3) | st.dictionaries(_TEXTS, _SCALARS, max_size=2)
_EXTREMES = ["9999-12-31T23:00-05:00", "9999-12-31T23:59:59.999999-14:59", "1000-01-01T00:00+14:59", "now+73000d"]
_MOMENTS = st.sampled_from(["now", "now-1d", "now+2h", "2026-05-08", "2026-05-08T12:00:00+03:00", *_EXTREMES])
_ORDERABLE = _NUMBERS | _MOMENTS
_NON_EMPTY = _TEXTS.filter(bool)

_ANY_ALL = st.sampled_from(["contains_any", "contains_all"])
_LIKES = st.lists(st.sampled_from(["%", "_", "a", "b", "ё", "\\%", "\\\\", ".", "*"]), min_size=1, max_size=6).map(
    "".join
)
_ATOMS = st.sampled_from(
    ["a", "b", ".", "\\d", "\\w", "\\s", "\\W", "[ab]", "[^a]", "[а-я]", "[-\\]x]", "ё", "%", r"\.", "\t", r"\-"]
)
_REGEXPS = st.builds(
    lambda start, parts, end: start + "".join(parts) + end,
    st.sampled_from(["", "^", "(?i)", "(?i)^"]),
    st.lists(
        st.builds(str.__add__, _ATOMS, st.sampled_from(["", "*", "+", "?", "{2}", "{0,3}"]))
        | st.builds(lambda a, b, r: f"({a}|{b}){r}", _ATOMS, _ATOMS | st.just(""), st.sampled_from(["", "*", "?"])),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from(["", "$"]),
)
_UNITS = ["week", "month", "quarter", "year"]
PERIODS = st.builds(
    lambda words, zone: words + zone,
    st.sampled_from(["today", "yesterday", "tomorrow"])
    | st.builds(lambda w, u: f"{w} {u}", st.sampled_from(["this", "last", "next"]), st.sampled_from(_UNITS))
    | st.builds(
        lambda w, n, u: f"{w} {n} {u}s", st.sampled_from(["last", "next"]), st.integers(1, 10), st.sampled_from(_UNITS)
    ),
    st.sampled_from(["", " in Europe/Moscow", " in the installation's time zone", " in America/New_York"]),
)

_TESTS = st.one_of(
    _SCALARS,
    st.lists(_SCALARS, min_size=1, max_size=3),
    st.builds(lambda op, v: {op: v}, st.sampled_from(["eq", "ne"]), _SCALARS),
    st.builds(lambda op, v: {op: v}, st.sampled_from(["in", "not_in"]), st.lists(_SCALARS, min_size=1, max_size=3)),
    st.builds(lambda op, v: {op: v}, st.sampled_from(["gt", "gte", "lt", "lte"]), _ORDERABLE),
    st.builds(lambda op, v: {op: v}, st.sampled_from(["before", "after"]), _MOMENTS),
    st.builds(lambda op, v: {op: v}, st.sampled_from(["starts", "ends"]), _NON_EMPTY),
    st.builds(lambda v: {"contains": v}, _NON_EMPTY | _NUMBERS | st.booleans()),
    st.builds(lambda a, b: {"between": [a, b]}, _NUMBERS, _NUMBERS),
    st.builds(lambda a, b: {"between": [a, b]}, _MOMENTS, _MOMENTS),
    st.builds(lambda v: {"exists": v}, st.booleans()),
    st.builds(lambda v: {"same": v}, st.sampled_from(["x", "y"])),
    st.builds(lambda a, b: {"not_between": [a, b]}, _NUMBERS, _NUMBERS),
    st.builds(lambda op, v: {op: v}, st.sampled_from(["not_contains", "not_starts", "not_ends"]), _NON_EMPTY),
    st.builds(lambda op, v: {op: v}, _ANY_ALL, st.lists(_SCALARS, min_size=1, max_size=3)),
    st.builds(lambda op, v: {op: v}, st.sampled_from(["like", "not_like"]), _LIKES),
    st.builds(lambda op, v: {op: v}, st.sampled_from(["regexp", "not_regexp"]), _REGEXPS),
    st.builds(lambda v: {"empty": v}, st.booleans()),
    st.builds(lambda op, v: {op: v}, st.sampled_from(["date", "anniversary"]), PERIODS),
)
_PROPERTIES = st.dictionaries(st.sampled_from(["x", "y", "z"]), _VALUES, max_size=3)
_CASES = st.lists(
    st.tuples(st.dictionaries(st.sampled_from(["x", "y"]), _TESTS, min_size=1), _PROPERTIES, _PROPERTIES),
    min_size=30,
    max_size=30,
)


async def _in_sql(connection: AsyncConnection, cases: list[Any]) -> list[bool]:
    clauses = [
        eventfilter.clause(where, literal(properties, JSONB), literal(correlation, JSONB)).label(f"c{index}")
        for index, (where, properties, correlation) in enumerate(cases)
    ]
    row = (await connection.execute(select(*clauses), {"now": NOW})).one()
    return list(row)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(cases=_CASES)
async def test_python_and_sql_agree(database: Database, cases: list[Any]) -> None:
    for where, _, _ in cases:
        problems: list[Problem] = []
        written = {f"event.{name}": test for name, test in where.items()}
        assert eventfilter.parse(written, (), problems, correlated=True) == where
        assert problems == []
    in_python = [eventfilter.matches(where, props, correlation, NOW) for where, props, correlation in cases]
    async with database.begin() as connection:
        in_sql = await _in_sql(connection, cases)
    assert [case for case, p, s in zip(cases, in_python, in_sql, strict=True) if p is not s] == []


_OPERANDS = _SCALARS | _MOMENTS | PERIODS | _REGEXPS | st.lists(_SCALARS | _MOMENTS, max_size=3)
_ANY_VALUE = st.recursive(
    st.none() | _SCALARS | _MOMENTS | st.sampled_from([float("inf"), 10**400, 5e-324]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=2000, deadline=None)
@given(operator=st.sampled_from(OPERATORS), operand=_OPERANDS, value=_ANY_VALUE)
def test_a_filter_that_was_accepted_never_fails_whatever_comes(operator: str, operand: Any, value: Any) -> None:
    problems: list[Problem] = []
    where = eventfilter.parse({"event.x": {operator: operand}}, (), problems)
    assume(not problems)
    for moment in (NOW, datetime(2000, 2, 29, tzinfo=UTC)):
        eventfilter.matches(where, {"x": value}, {}, moment)
